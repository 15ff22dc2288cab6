"""Import rules, light imports, and the limits of files and functions."""

from __future__ import annotations

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from pricesmith.pricers import KINDS

SOURCE = Path(__file__).parents[1] / "src" / "pricesmith"
FILES = sorted(SOURCE.rglob("*.py"))

# A module imports only from levels before its own, or from its own package.
LEVELS = (
    {"core"},
    {"text", "metrics"},
    {"catalog"},
    {"pricers", "evaluation"},
    {"candidates"},
    {"reporting", "base_models", "learning_curve", "human", "auditing", "batch", "exporting", "rewriting"},
    {"cluster"},
    {"sweeping"},
    {"serve", "api", "client"},
    {"build", "testing"},
    {"demo"},
    {"cli"},
)
# An absolute ceiling for what is over the rule of 500 lines, with its reason.
LONG_FILES: dict[str, int] = {}
LONG_FUNCTIONS: dict[str, int] = {}
# Pricers reach other pricers only through KINDS.
LOADERS = {("model",), ("ensemble", "stacking")}
PRICERS = {tuple(where.split(":")[0].split(".")[2:]) for where in KINDS.values()} | {("llm", "pricer")}
PRICERS |= {("hosted", "api")}
# A group of pricers with parts of its own: no other pricer may import them.
GROUPS = {"api", "ensemble", "hybrid", "llm"}
PARTS = {
    "hybrid": {"api"},
    "blend": {"hybrid"},
    "cascade": {"hybrid"},
    "rewriting": {"api", "llm"},
}  # but these are made of such parts
HEAVY = ("torch", "transformers", "sklearn", "scipy", "duckdb", "pandas", "fastapi", "lightgbm", "plotly", "numpy")


def package(path: Path) -> str:
    """The first name below `pricesmith`: a package, or a module at the top."""
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def level(name: str) -> int:
    return next(number for number, names in enumerate(LEVELS) if name in names)


@cache
def parse(path: Path) -> list[ast.AST]:
    """Every node of a module's syntax tree; the first is the module itself. Each file is parsed once."""
    return list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))


@cache
def imports(path: Path) -> set[tuple[str, ...]]:
    """Every `pricesmith...` module that a file imports, anywhere in it, as the parts after `pricesmith`."""
    modules: set[tuple[str, ...]] = set()
    for node in parse(path):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "pricesmith":
            base = tuple(node.module.split(".")[1:])
            for alias in node.names:
                deeper = (*base, alias.name)
                is_module = (SOURCE.joinpath(*deeper)).is_dir() or SOURCE.joinpath(*deeper).with_suffix(".py").is_file()
                modules.add(deeper if is_module else base)
        elif isinstance(node, ast.Import):
            modules |= {
                tuple(alias.name.split(".")[1:]) for alias in node.names if alias.name.startswith("pricesmith.")
            }
    return {parts for parts in modules if parts}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(SOURCE).as_posix())
def test_a_module_imports_only_from_earlier_levels(path: Path) -> None:
    """A module imports only from levels before its own; packages of one level do not import each other."""
    here = package(path)
    if here == "__init__":
        return
    for parts in imports(path):
        there = parts[0]
        if there != here:
            assert level(there) < level(here), f"{path.name} imports pricesmith.{'.'.join(parts)}"


@pytest.mark.parametrize("path", sorted((SOURCE / "pricers").rglob("*.py")), ids=lambda path: path.stem)
def test_no_pricer_imports_another(path: Path) -> None:
    """A pricer imports no other pricer: it loads others through KINDS."""
    here = path.relative_to(SOURCE / "pricers").with_suffix("").parts
    others = {parts[1:] for parts in imports(path) if parts[0] == "pricers" and len(parts) > 1} - {here}
    own = {parts for parts in others if parts[0] == here[0]} if here[0] in GROUPS else set()
    assert {parts[0] for parts in others - own} & GROUPS - PARTS.get(here[0], set()) == set()
    if here in PRICERS:
        allowed = {("model",)} if here in LOADERS else {("llm", "pricer")} if here[0] == "llm" else set()
        assert others & (PRICERS | {("model",)}) - allowed == set()


def test_there_is_no_import_cycle() -> None:
    """Imports, also those inside functions, form no cycle between modules."""
    graph = {
        path.relative_to(SOURCE).with_suffix("").parts: imports(path) for path in FILES if path.name != "__init__.py"
    }

    finished: set[tuple[str, ...]] = set()

    def visit(node: tuple[str, ...], trail: tuple[tuple[str, ...], ...]) -> None:
        assert node not in trail, f"a cycle: {trail}"
        if node in finished:
            return
        for other in graph.get(node, ()):
            visit(other, (*trail, node))
        finished.add(node)

    for node in graph:
        visit(node, ())


@pytest.mark.parametrize(
    "code",
    ["import pricesmith", "import sys; from pricesmith.cli import run; run(['--help']); run(['fit', '--help'])"],
    ids=["import", "--help"],
)
def test_imports_and_help_are_light(code: str) -> None:
    """Importing the package and asking for help load no numerical library."""
    probe = f"{code}\nimport sys; print('loaded', [n for n in {HEAVY!r} if n in sys.modules])"
    process = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert process.stdout.splitlines()[-1] == "loaded []"


def test_a_process_that_reads_a_file_starts_fast() -> None:
    """It starts several times for each file: it loads neither libraries nor the rest of the catalog."""
    probe = "import pricesmith.catalog.readers.worker, sys; print(*sys.modules)"
    process = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    loaded = set(process.stdout.split())
    assert "pricesmith.catalog.readers.sandbox" in loaded
    assert not loaded & {*HEAVY, "pydantic", "pyarrow", "pricesmith.catalog.catalog"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(SOURCE).as_posix())
def test_files_and_functions_stay_in_their_budget(path: Path) -> None:
    """At most 500 lines a file and 60 a function; no module is named `utils` or the like."""
    name = path.relative_to(SOURCE).as_posix()
    source = path.read_text()
    assert len(source.splitlines()) <= LONG_FILES.get(name, 500)
    assert path.stem not in {"utils", "helpers", "common", "misc"}
    for node in parse(path):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or 0) - node.lineno + 1
            assert length <= LONG_FUNCTIONS.get(f"{name}:{node.name}", 60), f"{node.name} has {length} lines"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(SOURCE).as_posix())
def test_nothing_in_data_can_run(path: Path) -> None:
    """No pickle, joblib, torch.load, eval or trust_remote_code in what Pricesmith reads or writes."""
    for node in parse(path):
        if isinstance(node, ast.Import | ast.ImportFrom):
            modules = [alias.name for alias in node.names] + [getattr(node, "module", "") or ""]
            assert not {"pickle", "joblib", "shelve", "marshal", "dill"} & {name.split(".")[0] for name in modules}
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            assert called not in {"eval", "exec", "torch.load", "joblib.load", "pickle.load", "yaml.load"}
            for keyword in node.keywords:
                value = getattr(keyword.value, "value", None)
                assert not (keyword.arg in {"trust_remote_code", "allow_pickle"} and value is True)


def test_every_public_name_exists_and_is_documented() -> None:
    """Each name in `pricesmith.__all__` can be imported and has a docstring."""
    import pricesmith

    for name in pricesmith.__all__:
        assert getattr(pricesmith, name).__doc__


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(SOURCE).as_posix())
def test_every_module_has_a_docstring(path: Path) -> None:
    """Every module has a docstring."""
    module = parse(path)[0]
    assert isinstance(module, ast.Module)
    assert ast.get_docstring(module)
