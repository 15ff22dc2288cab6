"""The report page: one file that opens offline, with the leaderboard's numbers; text from data stays text."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from pricesmith.core.errors import InputError, UsageError
from pricesmith.core.types import EvalRow, Evaluation
from pricesmith.evaluation.leaderboard import build_leaderboard
from pricesmith.evaluation.results import EvalItem, Near, read_evals, write_evaluation, write_items
from pricesmith.reporting import write_report
from pricesmith.text.formatting import format_money

HOSTILE = '<script>alert(1)</script><img src=x onerror=alert(2)> "oak" & =1+1'
Maker = Callable[..., Path]


class Page(HTMLParser):
    """What a browser would load or run, and the headings it would show."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.tags: list[str] = []
        self.handlers: list[str] = []
        self.headings: list[str] = []
        self.inside = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            if name in ("src", "href", "srcset", "data", "action") and value and not value.startswith("#"):
                self.loads.append(value)
            if name.startswith("on"):
                self.handlers.append(name)
        self.inside = tag if tag in ("h1", "h2") else self.inside

    def handle_endtag(self, tag: str) -> None:
        self.inside = "" if tag in ("h1", "h2") else self.inside

    def handle_data(self, data: str) -> None:
        if self.inside:
            self.headings.append(data)


def quotes(
    name: str, count: int, factor: float, *, bounded: bool = True, unanswered: bool = False, currency: str = "USD"
) -> Evaluation:
    """An evaluation of `count` items, off by a factor that changes with the item."""
    rows = []
    for i in range(count):
        truth = 5.0 * 1.05 ** (i % 90)
        price = None if unanswered and i % 7 == 0 else truth * factor ** ((-1) ** i)
        low, high = (price / 1.5, price * 1.5) if bounded and price is not None else (None, None)
        rows.append(EvalRow(f"i{i}", truth, price, low, high, "", 0.001, 0.0))
    return Evaluation(name, "f" * 64, tuple(rows), 50.0, currency, (0.5, 999.49), {})


@pytest.fixture
def evals(tmp_path: Path) -> Maker:
    """Writes an evals folder of made evaluations."""

    def make(*evaluations: Evaluation, count: int = 120, title: str = "Oak lamp") -> Path:
        folder = tmp_path / "evals"
        folder.mkdir()
        items = [
            EvalItem(f"i{i}", f"{title} {i}", "lamps", 5.0 * 1.05 ** (i % 90), None, 0, (Near("t", title, 12.5, 0.9),))
            for i in range(count)
        ]
        write_items(folder, items, {"format": 1, "catalog": "f" * 64, "split": "test"})
        for evaluation in evaluations:
            facts: dict[str, Any] = {"kind": "ridge", "catalog_name": "made", "split": "test", "folds": False}
            write_evaluation(folder, evaluation, {**facts, "fit_seconds": 1.0, "settings": {}})
        return folder

    return make


def page_of(folder: Path, tmp_path: Path) -> str:
    write_report(folder, tmp_path / "report.html")
    return (tmp_path / "report.html").read_text()


def without_scripts(text: str) -> str:
    """The page without what is inside of scripts and styles."""
    return re.sub(r"<(script|style)\b.*?</\1>", "", text, flags=re.DOTALL)


def test_the_report_loads_nothing(evals: Maker, tmp_path: Path) -> None:
    """No image, script, style or font comes from the network, and the page forbids it."""
    text = page_of(evals(quotes("a", 120, 1.1)), tmp_path)
    page = Page(without_scripts(text))
    assert page.loads == []
    assert "default-src" in text
    assert "url(http" not in text


def test_html_in_titles_stays_text(evals: Maker, tmp_path: Path) -> None:
    """Nothing that a listing says becomes markup or script."""
    text = page_of(evals(quotes("a", 120, 1.1), quotes("b<b>", 120, 1.2), title=HOSTILE), tmp_path)
    assert "<script>alert(1)" not in text
    assert "<img src=x" not in text
    page = Page(without_scripts(text))
    assert page.handlers == []
    assert "img" not in page.tags


def test_the_numbers_are_the_leaderboards(evals: Maker, tmp_path: Path) -> None:
    """Error and interval of every pricer are in the page as in the leaderboard."""
    folder = evals(quotes("near", 120, 1.1), quotes("far", 120, 1.6))
    text = page_of(folder, tmp_path)
    for row in build_leaderboard(read_evals(folder)):
        assert format_money(row.mae.point, "USD") in text
        assert row.mae.low is not None
        assert format_money(row.mae.low, "USD") in text


def test_the_headline_names_the_best(evals: Maker, tmp_path: Path) -> None:
    """The first words name the pricer with the lowest MAE."""
    page = Page(without_scripts(page_of(evals(quotes("near", 120, 1.1), quotes("far", 120, 1.6)), tmp_path)))
    assert page.headings[0].startswith("near")


@pytest.mark.parametrize(
    "evaluations",
    [
        [quotes("alone", 120, 1.1)],
        [quotes("bare", 120, 1.1, bounded=False), quotes("bounded", 120, 1.2)],
        [quotes("silent", 120, 1.1, unanswered=True)],
        [quotes("all", 120, 1.1), quotes("some", 40, 1.1)],
        [quotes("few", 3, 1.1)],
        [quotes("one", 1, 1.1)],
        [quotes("exact", 120, 1.0)],
    ],
    ids=["one pricer", "no intervals", "no answers", "other items", "three items", "one item", "no error"],
)
def test_odd_leaderboards_have_a_report_too(evaluations: list[Evaluation], evals: Maker, tmp_path: Path) -> None:
    """Whatever can be evaluated can be reported, and no number in it is invalid."""
    text = without_scripts(page_of(evals(*evaluations), tmp_path))
    page = Page(text)
    assert "Leaderboard" in "".join(page.headings)
    words = re.sub(r"<[^>]*>", " ", text)
    assert not re.search(r"\bnan\b|\binf\b|None|built-in|object at", words)


def test_only_the_pages_own_scripts_may_run(evals: Maker, tmp_path: Path) -> None:
    """Its policy names each script by hash: an injected one would not run."""
    text = page_of(evals(quotes("a", 120, 1.1)), tmp_path)
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)
    assert policy is not None
    scripts = re.findall(r"<script>(.*?)</script>", text, flags=re.DOTALL)
    digests = {base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts}
    assert digests == set(re.findall(r"sha256-([^&' ]+)", policy[1]))


def test_chart_labels_are_escaped(evals: Maker, tmp_path: Path) -> None:
    """Plotly reads tags in labels, so none is left in what it gets."""
    text = page_of(evals(quotes("b<b>", 120, 1.1), quotes("c", 120, 1.1), title='<a href="x">'), tmp_path)
    data = re.search(r'id="figures">(.*?)</script>', text, flags=re.DOTALL)
    assert data is not None
    figures = json.loads(data[1])
    assert figures["chart-quotes"]["shared"]["text"][0].startswith("&lt;a href=")
    assert {trace["name"] for trace in figures["chart-bands"]["data"]} == {"b&lt;b&gt;", "c"}


def test_a_tie_is_in_the_headline(evals: Maker, tmp_path: Path) -> None:
    """Without a significant difference from the best, headline and row say so, and no pricer is called best."""
    text = without_scripts(page_of(evals(quotes("one", 120, 1.1), quotes("other", 120, 1.1)), tmp_path))
    assert "with no significant difference from other" in Page(text).headings[0]
    assert '<span class="pill tie">no significant difference</span>' in text
    assert '<span class="pill best">lowest MAE</span>' in text


def test_other_items_have_no_rank(evals: Maker, tmp_path: Path) -> None:
    """Pricers evaluated on other items are listed apart, without a rank."""
    text = without_scripts(
        page_of(evals(quotes("all", 120, 1.1), quotes("more", 120, 1.3), quotes("some", 40, 1.1)), tmp_path)
    )
    apart = text.partition("Evaluated on other items: 40 items")[2]
    assert "some" in apart
    assert '<td role="cell" data-label="Rank" class="left ranked"></td>' in apart


def test_the_heaviest_band_is_named_with_its_shares(evals: Maker, tmp_path: Path) -> None:
    """If few items carry much of the error, the page names them with their shares."""
    text = without_scripts(page_of(evals(quotes("a", 120, 1.2)), tmp_path)).replace("\u00a0", " ")
    match = re.search(
        r"Items priced (.*?) are ([\d.]+) % of the items and ([\d.]+) % of the total absolute error of a\.", text
    )
    assert match is not None
    assert float(match[3]) > float(match[2])


def test_the_sign_is_the_catalogs(evals: Maker, tmp_path: Path) -> None:
    """A catalog in pounds is reported in pounds."""
    text = without_scripts(page_of(evals(quotes("a", 120, 1.1, currency="GBP")), tmp_path))
    assert "£" in text
    assert "$" not in text


def test_the_same_evaluations_give_the_same_bytes(evals: Maker, tmp_path: Path) -> None:
    """A report is a view: generated twice, it is the same file."""
    folder = evals(quotes("a", 120, 1.1), quotes("b", 120, 1.2))
    assert page_of(folder, tmp_path) == page_of(folder, tmp_path)


def test_plotly_is_in_it_once(evals: Maker, tmp_path: Path) -> None:
    """The library is inlined once, not for every chart."""
    assert page_of(evals(quotes("a", 120, 1.1)), tmp_path).count("plotly.js v") == 1


def test_an_empty_folder_says_what_to_do(evals: Maker, tmp_path: Path) -> None:
    """Without evaluations there is an error with a hint, and no file."""
    with pytest.raises(InputError) as caught:
        write_report(evals(), tmp_path / "report.html")
    assert caught.value.hint
    assert not (tmp_path / "report.html").exists()


def test_a_folder_is_refused_as_the_page(evals: Maker, tmp_path: Path) -> None:
    """The error names a file to write instead."""
    folder = evals(quotes("a", 120, 1.1))
    (tmp_path / "out").mkdir()
    with pytest.raises(UsageError, match="is a folder") as caught:
        write_report(folder, tmp_path / "out")
    assert "report.html" in str(caught.value)
    assert list((tmp_path / "out").iterdir()) == []


def test_a_model_of_another_catalog_is_named_beside_training_listings(evals: Maker, tmp_path: Path) -> None:
    """The similar listings are those of the evaluated catalog; this model was not fitted on them."""
    folder = evals(quotes("guest", 120, 1.1), quotes("host", 120, 1.2))
    sentence = "guest was fitted on another catalog"
    assert sentence not in page_of(folder, tmp_path)
    for name, fitted_on in (("guest", "0" * 64), ("host", "f" * 64)):
        meta = folder / f"{name}.meta.json"
        meta.write_text(json.dumps({**json.loads(meta.read_text()), "settings": {"fitted_on": fitted_on}}))
    text = page_of(folder, tmp_path)
    assert text.count(sentence) == 2
    assert "host was fitted" not in text
