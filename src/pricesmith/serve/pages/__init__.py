"""The web page: every tab works with JavaScript off; htmx only replaces a part instead of the whole page."""

from __future__ import annotations

from fastapi import APIRouter

from pricesmith.serve.pages import drift, files, price, quality, render, sign_in, sold

router = APIRouter(include_in_schema=False)
for module in (render, sign_in, price, files, quality, sold, drift):
    router.include_router(module.router)
