"""The application: routes, error handlers and layers, for a service."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from starlette.middleware import Middleware

from pricesmith import __version__
from pricesmith.serve import chat, feedback, files, pages, pricing, status, stream
from pricesmith.serve.errors import install_error_handlers
from pricesmith.serve.metrics import Metrics, MetricsLayer
from pricesmith.serve.pages.render import error_page
from pricesmith.serve.security import SecurityLayer
from pricesmith.serve.service import Service
from pricesmith.serve.timeouts import BodyLayer

ABOUT = "Prices of things from their description, with intervals. Every error says what, got, allowed and next."


def create_app(service: Service) -> FastAPI:
    """The application of a service; the models are loaded when it starts."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await service.start()
        try:
            yield
        finally:
            await service.stop()

    metrics = Metrics(service)
    app = FastAPI(
        title="Pricesmith",
        description=ABOUT,
        version=__version__,
        lifespan=lifespan,
        docs_url=None,  # its pages load scripts from other hosts
        redoc_url=None,
        generate_unique_id_function=lambda route: route.name,
        middleware=[
            Middleware(MetricsLayer, metrics=metrics),
            Middleware(SecurityLayer, service=service),
            Middleware(BodyLayer, seconds=service.settings.body_timeout, max_body=service.settings.max_body),
        ],
    )
    app.state.service = service
    app.state.metrics = metrics
    app.state.error_page = error_page
    modules = (stream, pricing, chat, feedback, files, status, pages)
    for module in modules:
        app.include_router(module.router)
    install_error_handlers(app, [route for module in modules for route in module.router.routes])
    return app
