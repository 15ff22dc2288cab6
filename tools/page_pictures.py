"""Take the README's pictures of the page and of the report: `docs/images/page.png` and `docs/images/report.png`.

    make demo && python tools/page_pictures.py out/demo

The page is served and shown by the code of the browser tests (`tests/serve/pages/browsing.py`).
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
IMAGES = ROOT / "docs" / "images"
SIZE = (900, 940)


def load_browsing() -> Any:
    """The module of the browser tests that serves and shows pages."""
    spec = importlib.util.spec_from_file_location("browsing", ROOT / "tests" / "serve" / "pages" / "browsing.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["browsing"] = module
    spec.loader.exec_module(module)
    return module


def take_pictures(build: Path, text: str, to: Path) -> None:
    """Write both pictures of a build folder into a folder."""
    browsing = load_browsing()
    executable = browsing.find_chromium()
    if executable is None:
        raise SystemExit("There is no Chromium on this machine: apt-get install chromium")
    with tempfile.TemporaryDirectory() as temporary, browsing.open_browser(executable) as browser:
        log = Path(temporary) / "demo.requests.db"
        with browsing.serve({build.name: build}, log_path=log, uploads=Path(temporary) / "uploads") as url:
            visit = browsing.Visit(browser, url, SIZE)
            visit.price(text)
            save(visit.page, to / "page.png")
            visit.close()
        visit = browsing.Visit(browser, "file://", SIZE)
        visit.page.goto((build / "report.html").resolve().as_uri())
        visit.page.wait_for_timeout(500)  # the charts draw themselves
        save(visit.page, to / "report.png")
        visit.close()


def save(page: Any, path: Path) -> None:
    """Write what the window shows, without a focus ring or the pointer's colors."""
    page.mouse.move(0, 0)
    page.evaluate("document.activeElement?.blur()")
    page.screenshot(path=path)
    print(f"{path}: {path.stat().st_size / 1_000:,.0f} kB")


def main() -> int:
    parser = argparse.ArgumentParser(description="Take the README's pictures of the page and of the report.")
    parser.add_argument("build", type=Path, help="a folder that `pricesmith build` or `make demo` made")
    parser.add_argument("--text", default="Diamond, 1.2 carat, ideal cut, color G, clarity VS1")
    parser.add_argument("--to", type=Path, default=IMAGES)
    options = parser.parse_args()
    take_pictures(options.build, options.text, options.to)
    return 0


if __name__ == "__main__":
    sys.exit(main())
