"""Every `pricesmith ...` line of the README and the docs runs, in order, on the made catalog, and examples hold."""

from __future__ import annotations

import csv
import doctest
import importlib
import io
import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.forks import Forked, fork

from pricesmith import build
from pricesmith.cli import run
from pricesmith.pricers import recipes
from pricesmith.pricers.api.batch_jobs import runner
from pricesmith.pricers.hybrid import shares
from pricesmith.pricers.llm import base_model, encoder_base
from pricesmith.testing import make_encoder, make_model
from pricesmith.testing.batch_server import FakeBatchServer

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"```(\w*)\n(.*?)```", re.DOTALL)
# `yes 40 | pricesmith quiz ...`: a person who says 40 to everything. Every command finds those lines, if it reads any.
PIPED = re.compile(r"^\s*yes 40 \| ")
# The real goods and the minutes of `demo` belong to benchmarks/fresh_clone.py; here its arguments are checked.
LONG = {"demo"}


def blocks(page: Path, language: str) -> list[str]:
    """The fenced blocks of one language."""
    return [body for label, body in FENCE.findall(page.read_text()) if label == language]


def commands(page: Path) -> list[list[str]]:
    """The arguments of every `pricesmith` line, continued lines joined, `&&` split."""
    arguments = []
    for block in blocks(page, "sh"):
        for line in block.replace("\\\n", " ").splitlines():
            for command in re.split(r"&&", line.split(" #")[0]):
                words = shlex.split(PIPED.sub("", command))
                if words[:1] == ["pricesmith"]:
                    arguments.append(words[1:])
                elif words[:1] == ["curl"]:
                    arguments.append(words)
    return arguments


class Servers:
    """The servers that a page starts, each on a free port, and its `curl` lines, which ask the last one."""

    def __init__(self) -> None:
        self.processes: list[Forked] = []
        self.url = ""

    def start(self, words: list[str]) -> None:
        """Run a `serve` line and wait until it is ready."""
        words = [*words, "--port", "0", "--json"]
        code = "from pricesmith.cli import main; main()"
        process = fork(code, *words, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.processes.append(process)
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, process.communicate()[1]
        self.url = json.loads(line)["url"]

    def ask(self, words: list[str]) -> None:
        """Run a `curl` line; its answer must be a success."""
        assert self.url, "a page asks a server that it has not started"
        words = [re.sub(r"^http://(127.0.0.1|localhost):8000", self.url, word) for word in words]
        done = subprocess.run([*words, "-sS", "--fail-with-body"], capture_output=True, text=True)
        assert done.returncode == 0, f"{shlex.join(words)}\n{done.stdout}{done.stderr}"

    def stop(self) -> None:
        for process in self.processes:
            process.kill()
            process.communicate()


class Beginnings:
    """What `curate` and `fit ridge` at the beginning of a page have made: pages that begin alike share it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.known: dict[tuple[str, ...], Path] = {}
        self.done: tuple[str, ...] | None = ()

    def skip(self, lines: list[list[str]]) -> list[list[str]]:
        """The lines without those whose results another page has left, which are copied here."""
        self.done = ()
        for line in lines:
            if (*self.done, shlex.join(line)) not in self.known:
                break
            self.done = (*self.done, shlex.join(line))
        if self.done:
            shutil.copytree(self.known[self.done], "out")
        return lines[len(self.done) :]

    def keep(self, words: list[str]) -> None:
        """Keep what there is after a line, if all lines so far were such ones."""
        usual = words[:2] in (["curate", "shop.csv"], ["fit", "ridge"]) and "--preview" not in words
        if self.done is None or not usual or len(self.done) > 1:
            self.done = None
            return
        self.done = (*self.done, shlex.join(words))
        self.known[self.done] = Path(shutil.copytree("out", self.folder / str(len(self.known))))


@pytest.fixture
def servers() -> Iterator[Servers]:
    """Stops the servers of a page at its end."""
    started = Servers()
    yield started
    started.stop()


@pytest.fixture(autouse=True)
def hosted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A fake provider replaces OpenAI; its answers are cached in the test's folder."""
    monkeypatch.setattr(runner, "FIRST_PAUSE", 0.01)
    with FakeBatchServer("openai") as fake:
        (tmp_path / "providers.toml").write_text(f'[openai]\nurl = "{fake.url}"\n')
        monkeypatch.setenv("PRICESMITH_PROVIDERS", str(tmp_path / "providers.toml"))
        monkeypatch.setenv("PRICESMITH_CACHE", str(tmp_path / "cache"))
        monkeypatch.setenv("OPENAI_API_KEY", fake.key)
        yield


@pytest.fixture(scope="module")
def working_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What each page finds: two tables, saved answers, and a tiny base of the name of the real one that pages tune."""
    folder = tmp_path_factory.mktemp("made")
    subprocess.run([sys.executable, "-m", "pricesmith.testing", "shop.csv", "new.csv"], check=True, cwd=folder)
    write_answers(folder / "shop.csv", folder / "llm_answers.csv")
    make_model(folder / "gemma-3-270m")
    make_encoder(folder / "all-minilm-l6-v2")
    return folder


@pytest.fixture(scope="module")
def beginnings(tmp_path_factory: pytest.TempPathFactory) -> Beginnings:
    """Shared by the pages."""
    return Beginnings(tmp_path_factory.mktemp("beginnings"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_commands_and_the_python_of_a_page_run(
    page: Path,
    working_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    servers: Servers,
    beginnings: Beginnings,
) -> None:
    """The commands work from the first line to the last, and the Python after them."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(working_folder, tmp_path, dirs_exist_ok=True)
    use_fast_models(monkeypatch)
    for block in blocks(page, "toml"):
        if name := re.match(r"# (\w+\.toml)\n", block):  # the block is this file
            Path(name[1]).write_text(block)
    for words in beginnings.skip(commands(page)):
        monkeypatch.setattr("sys.stdin", io.StringIO("40\n" * 1000))
        if words[0] in LONG:
            assert run([words[0], "--help"]) == 0
            continue
        if words[0] == "serve":
            servers.start(words)
        elif words[0] == "curl":
            if shutil.which("curl"):
                servers.ask(words)
        else:
            assert run(words) == 0, f"pricesmith {shlex.join(words)}"
            beginnings.keep(words)
    for block in blocks(page, "python"):
        exec(compile(block, page.name, "exec"), {})


def write_answers(table: Path, to: Path) -> None:
    """Saved answers of an API model for the listings of a made table: their prices without the cents."""
    with table.open(newline="", encoding="utf-8") as source, to.open("w", newline="", encoding="utf-8") as target:
        rows = [(row["sku"], row["price"].split(".")[0]) for row in csv.DictReader(source)]
        csv.writer(target).writerows([("id", "price"), *rows])


# Settings of the recipes that take long: each page runs in seconds. Its claims are tested elsewhere.
FAST_NET: dict[str, Any] = {"ensemble_size": 1, "embedding_dim": 16, "hidden_dim": 16, "epochs": 1}
FAST: dict[str, dict[str, Any]] = {
    "sparse_mlp": FAST_NET,
    "best": {
        **FAST_NET, "estimators": ("ridge",), "folds": 2, "fold_ensemble_size": 1, "n_forests": 1, "n_estimators": 20,
        "num_leaves": 15,
    },
    "lora_bins": {"lora_r": 4, "max_length": 64, "epochs": 0.2, "n_evals": 1, "head_init_rows": 100},
    "encoder": {"hidden_dim": 16, "bins": 16, "epochs": 0.5, "n_evals": 1},
}  # fmt: skip


def use_fast_models(monkeypatch: pytest.MonkeyPatch) -> None:
    """No base is downloaded: a name is a folder. The settings of expensive recipes are replaced, and the penalty of
    hybrids is chosen by one cross-validation instead of three."""
    monkeypatch.setattr(base_model, "read_presets", dict)
    monkeypatch.setattr(encoder_base, "PACKAGED", {})
    monkeypatch.setattr(shares, "REPEATS", 1)
    read_recipe = recipes.read_recipe

    def read_fast_recipe(name: str, *rest: Any) -> Any:
        recipe: Any = read_recipe(name, *rest)
        return recipe.model_copy(update=FAST.get(recipe.kind, {}))

    for module in (recipes, build):
        monkeypatch.setattr(module, "read_recipe", read_fast_recipe)


# Examples of the Python API need a catalog and models, or a server: tests/test_api.py and tests/serve run them.
API = {"audit", "evaluate", "pipeline", "estimator", "predict", "suggest", "sweep", "rewrite", "http_client"}
MODULES = [
    path
    for path in sorted((ROOT / "src").rglob("*.py"))
    if ">>> " in path.read_text(encoding="utf-8")
    and not (path.stem in API and {"api", "client", "pricers"} & set(path.parts))
]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_examples_in_docstrings_run(path: Path) -> None:
    """Each example gives the output that it shows."""
    name = ".".join(path.relative_to(ROOT / "src").with_suffix("").parts).removesuffix(".__init__")
    result = doctest.testmod(importlib.import_module(name))
    assert result.attempted > 0
    assert result.failed == 0


def test_the_documentation_site_lists_every_page() -> None:
    """A page that the navigation lacks is never found, and a link out of docs/ would be broken there."""
    listed = set(re.findall(r"[\w-]+\.md", (ROOT / "mkdocs.yml").read_text()))
    pages = {page.name for page in (ROOT / "docs").glob("*.md")}
    assert len(pages) > 10
    assert pages == listed
    for page in (ROOT / "docs").glob("*.md"):
        for link in re.findall(r"\]\(([^)#]+\.md)[^)]*\)", page.read_text()):
            assert link in pages, f"{page.name} links to {link}"
