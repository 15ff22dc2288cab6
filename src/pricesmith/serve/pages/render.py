"""Rendering of the web page: its templates, its files, and what all tabs share.

Templates escape all text of listings. Nothing is loaded from another host, and no script or style is inline, so that
the content security policy of `security.py` holds.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from hashlib import sha256
from importlib import resources
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse

from pricesmith import __version__
from pricesmith.core.errors import InputError, PricesmithError, UsageError
from pricesmith.serve.errors import ServeError
from pricesmith.serve.log import LogUnavailable
from pricesmith.serve.pages.forms import base_path, get_token, is_partial, set_token
from pricesmith.serve.pricing import get_service
from pricesmith.text.formatting import keep_percent_together, to_single_line

PACKAGE = "pricesmith.serve.pages"
TABS = (
    ("", "Price one"),
    ("file", "Price a file"),
    ("quality", "How good is it?"),
    ("sold", "Sold prices"),
    ("drift", "Drift"),
)
STATIC = {"style.css": "text/css", "page.js": "text/javascript", "htmx.min.js": "text/javascript"}

router = APIRouter()


@cache
def get_templates() -> Any:
    """The templates. All values are escaped."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader(PACKAGE),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=keep_percent_together,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["line"] = to_single_line
    return environment


@cache
def read_static(name: str) -> bytes:
    """A file of the folder `static`."""
    return resources.files(PACKAGE).joinpath("static", name).read_bytes()


@cache
def static_version() -> str:
    """Changes when a file of the folder `static` does, so that browsers may keep the files."""
    return sha256(b"".join(read_static(name) for name in STATIC)).hexdigest()[:12]


@router.get("/static/{name}")
async def static(name: str) -> Response:
    """The style sheet and the scripts."""
    if name not in STATIC:
        raise ServeError(404, "There is no such file", allowed=", ".join(STATIC))
    headers = {"cache-control": "public, max-age=31536000, immutable"}
    return Response(read_static(name), media_type=STATIC[name], headers=headers)


def render(request: Request, template: str, status: int = 200, /, **values: Any) -> HTMLResponse:
    """A page or a part of one."""
    service = get_service(request)
    shared = {
        "base": base_path(request),
        "token": get_token(request),
        "version": static_version(),
        "release": __version__,
        "tabs": TABS,
        "models": list(service.engines),
        "signed_in": request.scope.get("pricesmith.key", ""),
        "refresh": None,
        "error": None,
    }
    text = get_templates().get_template(template).render({**shared, **values})
    response = HTMLResponse(text, status, headers={"vary": "hx-request, cookie"})
    set_token(request, response)
    return response


def error_page(request: Request, status: int, facts: Mapping[str, str], headers: Mapping[str, str]) -> HTMLResponse:
    """A page that says nothing but an error, or the error alone for htmx."""
    error = {**facts, "hint": facts["next"] if status < 500 else f"{facts['next']} Request: {facts['request_id']}"}
    if status == 404:
        error |= {"what": "There is no such page", "hint": ""}
    template = "error.html.j2" if is_partial(request) else "error_page.html.j2"
    response = render(request, template, status, title=error["what"], tab="none", error=error)
    response.headers.update(headers)
    return response


def error_status(error: PricesmithError) -> int:
    """The status of a page that shows an error."""
    if isinstance(error, ServeError):
        return error.status
    if isinstance(error, LogUnavailable):
        return 503
    return 422 if isinstance(error, UsageError | InputError) else 500
