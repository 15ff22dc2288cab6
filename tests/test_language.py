"""The language of the project: banned words and names stay out, a class name is defined once."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "pricesmith"
MODULES = sorted(SOURCE.rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))
TEXTS = [*MODULES, *sorted(SOURCE.rglob("*.j2")), *sorted((ROOT / "docs").rglob("*.md")), ROOT / "README.md"]

# Words of a private dialect; standard terms take their place (for example leaderboard, conclusion, competitor).
WORDS = re.compile(
    r"\b(leagues?|verdicts?|champions?|rivals?|purse|grove|soil|told apart|tell(?:s|ing)? apart|is off by"
    r"|misses least)\b|--fresh\b|--decline\b|--box-price\b|frontier:",
    re.IGNORECASE,
)
FUNCTIONS = {"kept", "found", "said", "made", "seen", "drawn", "judged"}
VERBS = {"told", "tells", "heard"}  # in no name of a function: something is reported, printed, detected
LOCALS = {"one", "some", "ware", "wares", "goods", "mine", "its", "told", "said", "kept", "found"}

# What is still there, by package, to be shrunk to nothing: (words, locals).
ALLOWED: dict[str, tuple[int, int]] = {}


def package(path: Path) -> str:
    """The package of a module or template, or the name of a document."""
    if path.is_relative_to(SOURCE):
        return path.relative_to(SOURCE).parts[0].removesuffix(".py")
    return path.relative_to(ROOT).as_posix()


@pytest.fixture(scope="module", autouse=True)
def forgotten() -> Iterator[None]:
    """The syntax trees are freed at the end: millions of nodes slow every later test of the process down."""
    yield
    parse.cache_clear()


@cache
def parse(path: Path) -> list[ast.AST]:
    """Every node of a module's syntax tree; each file is parsed once."""
    return list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))


def assigned_names(nodes: list[ast.AST]) -> list[str]:
    """Every name that a module assigns: variables, loop variables, parameters."""
    names = [node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)]
    return names + [node.arg for node in nodes if isinstance(node, ast.arg)]


def test_banned_words_stay_out() -> None:
    """Of source, templates and documents."""
    counts = Counter(package(path) for path in TEXTS for _ in WORDS.findall(path.read_text(encoding="utf-8")))
    over = {name: count for name, count in counts.items() if count > ALLOWED.get(name, (0, 0))[0]}
    assert not over


def test_variables_are_nouns() -> None:
    """No variable or parameter is named `one`, `some`, `found` and the like."""
    counts: Counter[str] = Counter()
    for path in MODULES:
        counts[package(path)] += sum(name in LOCALS for name in assigned_names(parse(path)))
    over = {name: count for name, count in counts.items() if count > ALLOWED.get(name, (0, 0))[1]}
    assert not over


def test_functions_are_verbs() -> None:
    """No function is a bare past participle."""
    functions = [
        (path.name, node.name)
        for path in MODULES
        for node in parse(path)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    assert len(functions) > 1000
    assert not [pair for pair in functions if pair[1] in FUNCTIONS]


def test_names_of_functions_have_plain_verbs() -> None:
    """Neither in the source nor in the tests is anything told."""
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    names = {node.name for path in (*MODULES, *TESTS) for node in parse(path) if isinstance(node, functions)}
    assert len(names) > 2000
    assert not [name for name in sorted(names) if VERBS & set(name.split("_"))]


def test_a_class_name_is_defined_once() -> None:
    """In the whole package."""
    names = Counter(
        node.name
        for path in MODULES
        for module in parse(path)[:1]
        if isinstance(module, ast.Module)
        for node in module.body
        if isinstance(node, ast.ClassDef)
    )
    assert len(names) > 100
    assert not [name for name, count in names.items() if count > 1]
