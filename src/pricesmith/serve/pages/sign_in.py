"""Signing in with a key, for people who use the page of a server with keys."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse

from pricesmith.core.errors import PricesmithError
from pricesmith.serve.errors import ServeError
from pricesmith.serve.pages.forms import base_path, check_token, read_form
from pricesmith.serve.pages.render import error_status, render
from pricesmith.serve.pricing import get_service
from pricesmith.serve.session import COOKIE, session_cookie

router = APIRouter()


@router.get("/sign-in")
async def show_sign_in(request: Request) -> Response:
    """The form; without keys there is nothing to sign in to."""
    if get_service(request).keys is None:
        return RedirectResponse(f"{base_path(request)}/", 303)
    return render(request, "sign_in.html.j2", title="Sign in", tab=None)


@router.post("/sign-in")
async def sign_in(request: Request) -> Response:
    """Sign in with a key; the cookie has a random token, never the key."""
    service, form = get_service(request), await read_form(request)
    try:
        check_token(request, form.get("token", ""))
        key = service.keys.find(form.get("key", "").strip()) if service.keys is not None else None
        if key is None or service.sessions is None:
            raise ServeError(
                401,
                "This key is not valid",
                hint="Ask whoever runs the server: `pricesmith keys add NAME` makes a key.",
            )
    except PricesmithError as error:
        return render(request, "sign_in.html.j2", error_status(error), title="Sign in", tab=None, error=error)
    return redirect_with_session(request, service.sessions.open(key), "/")


@router.post("/sign-out")
async def sign_out(request: Request) -> Response:
    """End the sign-in."""
    service, form = get_service(request), await read_form(request)
    check_token(request, form.get("token", ""))
    if service.sessions is not None:
        service.sessions.close(request.cookies.get(COOKIE, ""))
    return redirect_with_session(request, "", "/sign-in")


def redirect_with_session(request: Request, token: str, to: str) -> Response:
    """Go to another page, with the cookie of a sign-in or, for an empty token, without it."""
    base = base_path(request)
    response = RedirectResponse(f"{base}{to}", 303)
    response.headers.append(
        "set-cookie", session_cookie(token, https=request.url.scheme == "https", path=f"{base}/" if base else "/")
    )
    return response
