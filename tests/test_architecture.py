"""Import rules, light imports, and the limits of files and functions."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

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
    {"__main__"},
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
UNSAFE_CALLS = {"eval", "exec", "torch.load", "joblib.load", "pickle.load", "yaml.load"}
HEAVY = ("torch", "transformers", "sklearn", "scipy", "duckdb", "pandas", "fastapi", "lightgbm", "plotly", "numpy")


def package(path: Path) -> str:
    """The first name below `pricesmith`: a package, or a module at the top."""
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def level(name: str) -> int:
    return next(number for number, names in enumerate(LEVELS) if name in names)


def name_of(path: Path) -> str:
    """The path of a module in the package."""
    return path.relative_to(SOURCE).as_posix()


@pytest.fixture(scope="module", autouse=True)
def forgotten() -> Iterator[None]:
    """The syntax trees are freed at the end: millions of nodes slow every later test of the process down."""
    yield
    parse.cache_clear()


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


def test_a_module_imports_only_from_earlier_levels() -> None:
    """A module imports only from levels before its own; packages of one level do not import each other."""
    wrong = [
        f"{name_of(path)} imports pricesmith.{'.'.join(parts)}"
        for path in FILES
        if (here := package(path)) != "__init__"
        for parts in imports(path)
        if parts[0] != here and level(parts[0]) >= level(here)
    ]
    assert not wrong


def test_no_pricer_imports_another() -> None:
    """A pricer imports no other pricer: it loads others through KINDS."""
    wrong: dict[str, set[Any]] = {}
    for path in (SOURCE / "pricers").rglob("*.py"):
        here = path.relative_to(SOURCE / "pricers").with_suffix("").parts
        others = {parts[1:] for parts in imports(path) if parts[0] == "pricers" and len(parts) > 1} - {here}
        own = {parts for parts in others if parts[0] == here[0]} if here[0] in GROUPS else set()
        refused: set[Any] = {parts[0] for parts in others - own} & GROUPS - PARTS.get(here[0], set())
        if here in PRICERS:
            allowed = {("model",)} if here in LOADERS else {("llm", "pricer")} if here[0] == "llm" else set()
            refused |= others & (PRICERS | {("model",)}) - allowed
        if refused:
            wrong[name_of(path)] = refused
    assert not wrong


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
    assert "pricesmith.catalog.readers.messages" in loaded
    assert not loaded & {*HEAVY, "pydantic", "pyarrow", "dataclasses", "subprocess", "pathlib"}
    assert not loaded & {"pricesmith.catalog.catalog", "pricesmith.core.types", "pricesmith.text.price_parser"}


def test_files_and_functions_stay_in_their_budget() -> None:
    """At most 500 lines a file and 60 a function; no module is named `utils` or the like."""
    lengths: dict[str, int] = {}
    for path in FILES:
        name = name_of(path)
        n_lines = len(path.read_text(encoding="utf-8").splitlines())
        if n_lines > LONG_FILES.get(name, 500):
            lengths[name] = n_lines
        for node in parse(path):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                n_lines = (node.end_lineno or 0) - node.lineno + 1
                if n_lines > LONG_FUNCTIONS.get(f"{name}:{node.name}", 60):
                    lengths[f"{name}:{node.name}"] = n_lines
    assert not lengths
    assert not [name_of(path) for path in FILES if path.stem in {"utils", "helpers", "common", "misc"}]


def test_nothing_in_data_can_run() -> None:
    """No pickle, joblib, torch.load, eval or trust_remote_code in what Pricesmith reads or writes."""
    assert not [f"{name_of(path)}: {what}" for path in FILES for node in parse(path) for what in find_unsafe(node)]


def find_unsafe(node: ast.AST) -> Iterator[str]:
    """What a node imports, calls or allows that could run something in data."""
    if isinstance(node, ast.Import | ast.ImportFrom):
        modules = [alias.name for alias in node.names] + [getattr(node, "module", "") or ""]
        yield from {"pickle", "joblib", "shelve", "marshal", "dill"} & {name.split(".")[0] for name in modules}
    elif isinstance(node, ast.Call):
        yield from {ast.unparse(node.func)} & UNSAFE_CALLS
        for keyword in node.keywords:
            is_true = getattr(keyword.value, "value", None) is True
            if keyword.arg in {"trust_remote_code", "allow_pickle"} and is_true:
                yield keyword.arg


def test_unsafe_code_is_found() -> None:
    """Each kind of it, so that the rule above does not pass because it sees nothing."""
    code = "import pickle\nfrom joblib import load\neval(x)\ntorch.load(f)\nnp.load(f, allow_pickle=True)"
    unsafe = [what for node in ast.walk(ast.parse(code)) for what in find_unsafe(node)]
    assert sorted(unsafe) == ["allow_pickle", "eval", "joblib", "pickle", "torch.load"]


def test_every_public_name_exists_and_is_documented() -> None:
    """Each name in `pricesmith.__all__` can be imported and has a docstring."""
    import pricesmith

    for name in pricesmith.__all__:
        assert getattr(pricesmith, name).__doc__


def test_every_module_has_a_docstring() -> None:
    """Every module has a docstring."""
    modules = {name_of(path): parse(path)[0] for path in FILES}
    assert len(modules) > 200
    assert not [
        name for name, module in modules.items() if not (isinstance(module, ast.Module) and ast.get_docstring(module))
    ]
