"""Routes about the server itself: its models, their reload, and whether it is up and ready."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from pricesmith.serve.engine import Engine
from pricesmith.serve.errors import DECLARED, ServeError
from pricesmith.serve.pricing import get_service
from pricesmith.serve.schemas import ModelOutput, ModelsOutput, ReloadOutput, ReloadRequest, StatusOutput

router = APIRouter(tags=["server"], responses=DECLARED)


@router.get("/health")
async def health() -> StatusOutput:
    """Whether the process answers."""
    return StatusOutput(status="ok")


@router.get("/ready")
async def ready(request: Request, response: Response) -> StatusOutput:
    """Whether all models are loaded; status 503 until then."""
    service = get_service(request)
    if not service.ready:
        response.status_code = 503
        return StatusOutput(status="loading")
    return StatusOutput(
        status="ready", models={name: engine.model.identity for name, engine in service.engines.items()}
    )


@router.get("/v1/models")
async def models(request: Request) -> ModelsOutput:
    """The served models, the default one first."""
    service = get_service(request)
    service.engine()
    return ModelsOutput(models=[describe_model(engine) for engine in service.engines.values()])


@router.post("/v1/models/reload")
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
