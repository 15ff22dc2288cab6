"""The page in a real Chromium: every tab wide and narrow, light and dark, by keyboard alone and without JavaScript."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest
from tests.serve.pages.browsing import NARROW, WIDE, Visit, all_states, find_chromium, open_browser, serve

from pricesmith.serve.keys import add_key
from pricesmith.testing import make_csv

CHROMIUM = find_chromium()
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on this machine"),
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning"),
]
TEXT = "Cobalt drill, size 12 kg"
ODD_TEXT = "Zqxv wobbeltrompete hippopotamus"
HOSTILE = '<script>window.ran = 1</script><img src="http://other.example/x" onerror="window.ran = 1">'
LONG = "W" * 300
TARGETS = "button, select, summary, textarea, nav a, .brand, .button, input:not([type=hidden]):not([type=checkbox])"
SMALL_TARGETS = """selector => [...document.querySelectorAll(selector)]
    .filter(element => element.checkVisibility() && element.getBoundingClientRect().height < 44)
    .map(element => element.outerHTML.slice(0, 80))"""
RIGHT_TO_LEFT = "מקדחה אלחוטית 12 kg"


@pytest.fixture(scope="module")
def url(
    served_models: dict[str, Path], served_evals: Path, drift_log: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """A server with two models, evaluations, a log of some days, and sold prices with odd titles."""
    folder = tmp_path_factory.mktemp("browser")
    log = Path(shutil.copy(drift_log, folder / "shop.requests.db"))
    with serve(served_models, log_path=log, uploads=folder / "uploads", evals=served_evals) as address:
        for text in (HOSTILE, LONG, RIGHT_TO_LEFT):
            body = {"sold_price": 20.0, "listing": f"{text}\nCobalt drill, size 12 kg"}
            headers = {"content-type": "application/json"}
            urlopen(Request(f"{address}/v1/feedback", json.dumps(body).encode(), headers)).close()
        yield address


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """One browser for all tests."""
    assert CHROMIUM is not None
    with open_browser(CHROMIUM) as opened:
        yield opened


@pytest.fixture(scope="module")
def small_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file to upload."""
    return make_csv(tmp_path_factory.mktemp("upload") / "new.csv", 50)


def find_violations(visit: Visit) -> list[str]:
    """What axe-core finds wrong with the page."""
    from axe_playwright_python.sync_playwright import Axe

    violations = Axe().run(visit.page).response["violations"]
    return [f"{found['id']}: {node['html'][:160]}" for found in violations for node in found["nodes"]]


SLOW = pytest.mark.slow  # each width and each scheme is in one of the two others
LOOKS = [
    pytest.param(WIDE, "light", id="wide-light"),
    pytest.param(NARROW, "dark", id="narrow-dark"),
    pytest.param(WIDE, "dark", id="wide-dark", marks=SLOW),
    pytest.param(NARROW, "light", id="narrow-light", marks=SLOW),
]


@pytest.mark.parametrize(("size", "scheme"), LOOKS)
def test_every_page_is_accessible_quiet_and_fits(
    browser: Any, url: str, small_file: Path, size: tuple[int, int], scheme: str
) -> None:
    visit = Visit(browser, url, size, scheme)
    for name, show in all_states(TEXT, ODD_TEXT, small_file).items():
        show(visit)
        assert visit.overflow() <= 0, name
        assert find_violations(visit) == [], name
        assert visit.page.evaluate("window.ran") is None, name
    assert visit.problems == []
    visit.close()


def test_errors_are_accessible_and_keep_what_was_typed(browser: Any, url: str) -> None:
    visit = Visit(browser, url, NARROW)
    page = visit.price("x")
    assert "There is too little to price" in page.inner_text("[role=alert]")
    assert page.input_value("#text") == "x"
    assert find_violations(visit) == []
    page = visit.price(TEXT)
    page.fill("#sale-price", "cheap")
    page.click("#sold button")
    page.wait_for_selector("#sold-error")
    assert page.input_value("#sale-price") == "cheap"
    assert find_violations(visit) == []
    page.fill("#sale-price", "95")
    page.click("#sold button")
    assert "Saved" in page.inner_text("#sale-saved")
    visit.close()


def test_targets_are_large_enough_for_a_finger(browser: Any, url: str) -> None:
    visit = Visit(browser, url, NARROW)
    for path in ("/", "/file", "/sold", "/drift"):
        small = visit.go(path).evaluate(SMALL_TARGETS, TARGETS)
        assert small == [], path
    visit.close()


def test_a_price_needs_only_the_keyboard(browser: Any, url: str) -> None:
    visit = Visit(browser, url)
    page = visit.go("/")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to content"
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "text"
    page.keyboard.type(TEXT)
    for _ in range(20):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.matches('button.main')"):
            break
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineWidth")
    assert outline == "3px"
    page.keyboard.press("Enter")
    page.wait_for_selector("#headline")
    assert page.inner_text("#headline") == page.inner_text("#announce")
    for _ in range(20):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.matches('.folds summary')"):
            break
    page.keyboard.press("Enter")
    page.wait_for_selector("#moved table")
    assert visit.problems == []
    visit.close()


def test_every_tab_works_without_javascript(browser: Any, url: str, small_file: Path) -> None:
    visit = Visit(browser, url, NARROW, java_script_enabled=False)
    page = visit.price(TEXT)
    assert "likely" in page.inner_text("#headline")
    page.click("summary:has-text('What moved the price')")
    page.click("#moved button")
    page.wait_for_selector("#moved table")
    page.click("summary:has-text('What each model says')")
    page.click("#answers button")
    page.wait_for_selector("#answers table")
    page.fill("#sale-price", "88")
    page.click("#sold button")
    page.wait_for_url("**/sold")
    assert "$88" in page.inner_text("table")
    page.click("summary:has-text('Delete') >> nth=0")
    page.click("button.danger >> nth=0")
    page.wait_for_url("**/sold")
    assert "$88" not in page.inner_text("table")
    visit.upload(small_file)
    visit.quality()
    assert "too high" in visit.go("/drift").inner_text(".lead")
    assert visit.problems == []
    visit.close()


def test_text_of_listings_is_never_run_and_wraps(browser: Any, url: str) -> None:
    visit = Visit(browser, url, NARROW)
    for text in (HOSTILE, f"{LONG} Cobalt drill", f"{RIGHT_TO_LEFT} Cobalt drill"):
        page = visit.price(f"{text}\nCobalt drill, size 12 kg")
        assert visit.overflow() <= 0
        assert page.evaluate("window.ran") is None
        if page.locator(".folds").count():
            page.click("summary:has-text('What moved the price')")
            page.wait_for_selector("#moved :is(table, p)")
            assert visit.overflow() <= 0
    page = visit.go("/sold")
    assert "<script>window.ran = 1</script>" in page.inner_text("main")
    assert page.evaluate("getComputedStyle(document.querySelector('table bdi')).unicodeBidi") == "isolate"
    assert page.evaluate("window.ran") is None
    assert visit.overflow() <= 0
    assert visit.problems == []
    visit.close()


def test_five_thousand_rows_are_uploaded_priced_and_downloaded(browser: Any, url: str, tmp_path: Path) -> None:
    visit = Visit(browser, url)
    path = make_csv(tmp_path / "many.csv", 5_000)
    page = visit.upload(path, 120)
    assert "5,000 of 5,000 rows have a price" in page.inner_text("#job")
    with page.expect_download() as download:
        page.click("a.button.main")
    assert download.value.suggested_filename == "many-prices.csv"
    download.value.save_as(tmp_path / "prices.csv")
    with (tmp_path / "prices.csv").open(encoding="utf-8-sig", newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert len(rows) == 5_000
    assert visit.problems == []
    visit.close()


def test_the_page_of_a_file_goes_on_after_a_restart_of_the_server(
    browser: Any, served_models: dict[str, Path], tmp_path: Path
) -> None:
    path, uploads = make_csv(tmp_path / "many.csv", 20_000), tmp_path / "uploads"
    with serve(served_models, uploads=uploads) as address:
        visit = Visit(browser, address)
        page = visit.go("/file")
        page.set_input_files("#file", path)
        page.click("button.main")
        page.wait_for_selector("progress[max], a.button.main")
    with serve(served_models, uploads=uploads, port=int(address.rpartition(":")[2])):
        page.wait_for_selector("a.button.main", timeout=240_000)
        assert "20,000 of 20,000 rows have a price" in page.inner_text("#job")
    visit.close()


def test_the_sign_in_of_a_server_with_keys(browser: Any, served_models: dict[str, Path], tmp_path: Path) -> None:
    key = add_key(tmp_path / "keys.json", "desk")
    with serve({"median": served_models["median"]}, keys_path=tmp_path / "keys.json") as address:
        visit = Visit(browser, address, NARROW, "dark")
        page = visit.go("/")
        assert find_violations(visit) == []
        page.fill("#key", key)
        page.keyboard.press("Enter")
        page.wait_for_selector("#text")
        assert key not in str(visit.context.cookies())
        page.context.clear_cookies(name="pricesmith_session")
        page.fill("#text", TEXT)
        visit.problems.clear()
        page.click("button.main")
        page.wait_for_selector("#key")
        visit.close()


def test_a_server_that_stopped_is_said_inside_the_page(browser: Any, served_models: dict[str, Path]) -> None:
    with serve(served_models) as address:
        visit = Visit(browser, address)
        page = visit.go("/")
    page.fill("#text", TEXT)
    page.click("button.main")
    page.wait_for_selector("#result [role=alert]")
    assert "The server did not answer" in page.inner_text("#result")
    assert page.input_value("#text") == TEXT
    visit.close()
