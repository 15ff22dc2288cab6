"""A server and a Chromium for the browser tests and for `tools/page_pictures.py`: the same pages and states."""

from __future__ import annotations

import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
WIDE, NARROW = (1280, 800), (400, 800)


def find_chromium() -> str | None:
    """The Chromium or Chrome of this machine; None without one."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


@contextmanager
def serve(folders: Mapping[str, Path], *, port: int = 0, **settings: Any) -> Iterator[str]:
    """Serve models with uvicorn on a port (0: a free one); its address."""
    import uvicorn

    from pricesmith.serve.app import create_app
    from pricesmith.serve.service import ServeSettings, Service

    with socket.create_server(("127.0.0.1", port)) as listener:
        port = int(listener.getsockname()[1])
        app = create_app(Service(folders, ServeSettings(port=port, **settings)))
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", ws="none", timeout_graceful_shutdown=2))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        until = time.monotonic() + 240
        while not server.started:
            if not thread.is_alive() or time.monotonic() > until:
                raise RuntimeError("the server did not start")
            time.sleep(0.02)
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            server.should_exit = True
            thread.join(240)


@contextmanager
def open_browser(executable: str) -> Iterator[Browser]:
    """A Chromium without a window."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"], timeout=240_000)
        try:
            yield browser
        finally:
            browser.close()


class Visit:
    """A window of a size and color scheme, and everything that went wrong in it: messages of the console (violations of
    the content security policy are among them), errors of scripts and requests to other hosts."""

    def __init__(
        self, browser: Browser, url: str, size: tuple[int, int] = WIDE, scheme: str = "light", **options: Any
    ) -> None:
        self.url = url
        width, height = size
        self.context: BrowserContext = browser.new_context(
            viewport={"width": width, "height": height},
            color_scheme="dark" if scheme == "dark" else "light",
            reduced_motion="reduce",
            **options,
        )
        self.context.set_default_timeout(240_000)  # milliseconds: a busy machine takes its time
        self.page: Page = self.context.new_page()
        self.problems: list[str] = []
        self.page.on("console", lambda message: self.problems.append(f"console: {message.text}"))
        self.page.on("pageerror", lambda error: self.problems.append(f"script: {error}"))
        self.page.on("request", lambda request: self.note_request(request.url))

    def note_request(self, url: str) -> None:
        """Note a request to another host."""
        if not url.startswith((self.url, "data:", "blob:")):
            self.problems.append(f"request: {url}")

    def close(self) -> None:
        """Close the window."""
        self.context.close()

    def go(self, path: str) -> Page:
        """Open a page of the server."""
        self.page.goto(f"{self.url}{path}")
        return self.page

    def price(self, text: str) -> Page:
        """Type a text and press the button, and wait for the answer."""
        page = self.go("/")
        page.fill("#text", text)
        page.click("button.main")
        page.wait_for_selector("#headline, #result .box.bad")
        return page

    def price_and_unfold(self, text: str) -> Page:
        """A price with everything that is folded away."""
        page = self.price(text)
        for name, shown in (("What moved the price", "#moved table"), ("What each model says", "#answers table")):
            page.click(f"summary:has-text('{name}')")
            page.wait_for_selector(shown)
        return page

    def upload(self, path: Path, seconds: float = 240) -> Page:
        """Upload a file and wait until it is priced."""
        page = self.go("/file")
        page.set_input_files("#file", path)
        page.click("button.main")
        page.wait_for_selector("a.button.main", timeout=1_000 * seconds)
        return page

    def quality(self) -> Page:
        """The figures of the evaluations, when they are computed."""
        page = self.go("/quality")
        page.wait_for_selector("table.board", timeout=240_000)
        return page

    def overflow(self) -> int:
        """Pixels by which the page is wider than the window."""
        script = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        return int(self.page.evaluate(script))


def all_states(text: str, odd_text: str, upload: Path) -> dict[str, Callable[[Visit], Page]]:
    """Every tab in every state that looks different, by name."""
    return {
        "price, empty": lambda visit: visit.go("/"),
        "price, answered": lambda visit: visit.price_and_unfold(text),
        "price, nothing similar": lambda visit: visit.price(odd_text),
        "file, empty": lambda visit: visit.go("/file"),
        "file, done": lambda visit: visit.upload(upload),
        "quality": lambda visit: visit.quality(),
        "sold": lambda visit: visit.go("/sold"),
        "drift": lambda visit: visit.go("/drift"),
    }
