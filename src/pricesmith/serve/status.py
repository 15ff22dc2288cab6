"""Routes about the server itself: its models, their reload, and whether it is up and ready."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Path, Request, Response

from pricesmith.serve.engine import Engine
from pricesmith.serve.errors import DECLARED, ServeError, declare
from pricesmith.serve.metrics import Metrics
from pricesmith.serve.pricing import get_service
from pricesmith.serve.schemas import (
    MAX_NAME,
    ModelOutput,
    ModelsOutput,
    OpenAIModel,
    ReloadOutput,
    ReloadRequest,
    StatusOutput,
)

router = APIRouter(tags=["server"])
OPEN: dict[int | str, dict[str, Any]] = {403: DECLARED[403]}  # these routes need no key


@router.get("/health", responses=OPEN)
async def health() -> StatusOutput:
    """Whether the process answers."""
    return StatusOutput(status="ok")


@router.get("/ready", responses={**OPEN, 503: {"model": StatusOutput, "description": "The models are not loaded yet."}})
async def ready(request: Request, response: Response) -> StatusOutput:
    """Whether all models are loaded; status 503 until then."""
    service = get_service(request)
    if not service.ready:
        response.status_code = 503
        return StatusOutput(status="loading")
    return StatusOutput(
        status="ready", models={name: engine.model.identity for name, engine in service.engines.items()}
    )


@router.get(
    "/metrics",
    response_class=Response,
    responses={
        200: {"description": "Counters and times.", "content": {"text/plain": {"schema": {"type": "string"}}}},
        **declare(),
    },
)
async def metrics(request: Request) -> Response:
    """What the server has done, in the text format of Prometheus."""
    registry: Metrics = request.app.state.metrics
    content, media_type = await asyncio.to_thread(registry.write)
    return Response(content, media_type=media_type)


@router.get("/v1/models", responses=declare())
async def models(request: Request) -> ModelsOutput:
    """The served models, the default one first."""
    service = get_service(request)
    service.engine()
    engines = list(service.engines.values())
    return ModelsOutput(models=list(map(describe_model, engines)), data=list(map(describe_entry, engines)))


@router.get("/v1/models/{name}", responses=declare(404, 422))
async def model(request: Request, name: Annotated[str, Path(max_length=MAX_NAME)]) -> OpenAIModel:
    """One served model, for clients of OpenAI's API."""
    return describe_entry(get_service(request).engine(name))


@router.post("/v1/models/reload", responses=declare(400, 404, 408, 409, 413, 422))
async def reload(request: Request, body: ReloadRequest) -> ReloadOutput:
    """Load a model again from its folder and switch to it without dropping a request.

    A broken folder, or a new model that is significantly worse, leaves the old one serving.
    """
    service = get_service(request)
    if service.keys is None:
        raise ServeError(
            403,
            "This server has no keys, so it is not reloaded over the network",
            allowed="a server that was started with --keys",
            hint="Send its process the signal SIGHUP, or start it with --keys FILE.",
        )
    return await service.reload(body.model, force=body.force)


def describe_entry(engine: Engine) -> OpenAIModel:
    """A served model in the words of OpenAI's API."""
    return OpenAIModel(id=engine.name, created=int(datetime.fromisoformat(engine.loaded.loaded_at).timestamp()))


def describe_model(engine: Engine) -> ModelOutput:
    """A served model, for programs."""
    model, loaded = engine.model, engine.loaded
    return ModelOutput(
        name=engine.name,
        kind=str(model.manifest["kind"]),
        identity=model.identity,
        currency=str(model.info["currency"]),
        level=model.level,
        training_listings=int(model.manifest["rows"]["train"]),
        catalog=str(model.info["name"]),
        fields=loaded.reader.known,
        loaded_at=loaded.loaded_at,
        asks_api=model.asks_api,
    )
