"""Forms of the web page: reading them, and refusing those that another site made a browser send.

A form carries the token of a cookie (double submit), besides the checks of Host and Origin in `security.py`; neither
needs JavaScript. The cookie has nothing in it but the token.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping

from fastapi import Request, Response

from pricesmith.serve.errors import ServeError

FORM_COOKIE = "pricesmith_form"
TOKEN = re.compile(r"[A-Za-z0-9_-]{43}")
MAX_FORM_FIELDS = 400
FIELD = "field:"  # begins the names of inputs for columns of the catalog


def get_token(request: Request) -> str:
    """The token of the browser, or a new one that `set_token` must send."""
    token = request.cookies.get(FORM_COOKIE, "")
    if TOKEN.fullmatch(token):
        return token
    if not hasattr(request.state, "form_token"):
        request.state.form_token = secrets.token_urlsafe(32)
    return str(request.state.form_token)


def set_token(request: Request, response: Response) -> None:
    """Send the token to a browser that does not have it yet."""
    if request.cookies.get(FORM_COOKIE, "") != (token := get_token(request)):
        set_cookie(request, response, FORM_COOKIE, token)


def set_cookie(request: Request, response: Response, name: str, value: str, max_age: int | None = None) -> None:
    """Set a cookie that scripts cannot read and other sites cannot send."""
    response.set_cookie(
        name,
        value,
        max_age=max_age,
        path=base_path(request) or "/",
        secure=request.url.scheme == "https",
        httponly=True,
        samesite="strict",
    )


def base_path(request: Request) -> str:
    """The path under which a proxy serves the application; empty for none."""
    return str(request.scope.get("root_path", "")).rstrip("/")


def check_token(request: Request, sent: str) -> None:
    """Raise ServeError (403) if a form does not carry the token of its browser."""
    own = request.cookies.get(FORM_COOKIE, "")
    if not (TOKEN.fullmatch(own) and secrets.compare_digest(own.encode(), sent.encode("utf-8", "replace"))):
        raise ServeError(
            403,
            "This form was not sent from this page, or the page is too old",
            hint="Send it again. If that does not help, allow cookies for this address.",
        )


async def read_form(request: Request) -> dict[str, str]:
    """The values of a form by name, the last one of each; files are left out. The token is checked by the caller."""
    async with request.form(max_files=0, max_fields=MAX_FORM_FIELDS) as form:
        return {name: value for name, value in form.multi_items() if isinstance(value, str)}


def read_fields(form: Mapping[str, str]) -> dict[str, str]:
    """The inputs for columns of the catalog that are filled in."""
    return {
        name.removeprefix(FIELD): value.strip()
        for name, value in form.items()
        if name.startswith(FIELD) and value.strip()
    }


def is_partial(request: Request) -> bool:
    """Whether htmx asks for a part of a page, not a browser for a whole one."""
    return request.headers.get("hx-request") == "true"
