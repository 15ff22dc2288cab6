"""What one server holds: its models, log, keys and settings. Routes reach it as `request.app.state.service`."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pricesmith.core.errors import PricesmithError, UsageError
from pricesmith.serve.engine import Engine
from pricesmith.serve.errors import ServeError
from pricesmith.serve.jobs import JobStore, UploadLimits
from pricesmith.serve.keys import KeyRing, default_keys_file
from pricesmith.serve.loaded_model import EngineLimits, LoadedModel
from pricesmith.serve.log import RequestLog
from pricesmith.serve.log_file import default_log_path
from pricesmith.serve.schemas import ReloadOutput
from pricesmith.serve.session import Sessions
from pricesmith.serve.spending import DailySpending
from pricesmith.serve.swap_check import compare_models

log = logging.getLogger("pricesmith.serve")
MEGABYTE = 1_000_000
LOOPBACK = ("localhost", "127.0.0.1", "[::1]", "::1")  # hosts that only this machine can reach


@dataclass(frozen=True)
class ServeSettings:
    """The options of `pricesmith serve`. `catalog` and `evals` are shown on the page and used to compare a new model
    with the old one; those of a build folder are found by themselves."""

    host: str = "127.0.0.1"
    port: int = 8000
    root_path: str = ""
    hosts: tuple[str, ...] = ()  # names under which the server is reached, besides those of loopback
    trusted_proxies: tuple[str, ...] = ()
    log_path: Path | None = None
    log_text: bool = False
    keys_path: Path | None = None
    catalog: Path | None = None
    evals: Path | None = None
    max_listings: int = 10_000  # of one batch request
    max_body: int = 32 * MEGABYTE
    uploads: Path | None = None  # folder of uploaded files (default: beside the log)
    upload_limits: UploadLimits = field(default_factory=UploadLimits)
    body_timeout: float = 30.0  # seconds until a request must have arrived
    waiting: int = 20_000  # listings that may wait for each model
    batch_processes: int = 1  # that price a large batch of a model together, the server itself included
    api_budget_per_day: float | None = None  # US dollars that API models may cost (UTC days)
    api_timeout: float = 20.0  # seconds until a listing is priced without the API model
    api_concurrency: int = 8


def open_keys(settings: ServeSettings) -> KeyRing | None:
    """The keys that requests need; None on loopback without a file of keys.

    Raises UsageError if other machines can reach the server and there is no valid key.
    """
    if settings.keys_path is None and settings.host.lower() in LOOPBACK:
        return None
    path = settings.keys_path or default_keys_file()
    ring = KeyRing.load(path)
    if not len(ring):
        raise UsageError(
            "A server that other machines can reach needs a key"
            if settings.host.lower() not in LOOPBACK
            else "There is no valid key in the file of keys",
            got=f"host {settings.host}, no valid key in {path}",
            allowed="a loopback host such as 127.0.0.1, or at least one key",
            hint=f"pricesmith keys add NAME{'' if path == default_keys_file() else f' --keys {path}'}",
        )
    return ring


def default_uploads(settings: ServeSettings, model: Path) -> Path:
    """The folder of uploaded files: beside the log, or where the log of the first model would be."""
    path = settings.log_path or default_log_path(model)
    return path.with_name(f"{path.name.split('.')[0] or 'pricesmith'}.uploads")


class Service:
    """The models, log and keys of one server."""

    def __init__(self, folders: Mapping[str, Path], settings: ServeSettings) -> None:
        if not folders:
            raise UsageError("There is no model to serve", hint="pricesmith serve MODEL")
        self.folders, self.settings = dict(folders), settings
        self.engines: dict[str, Engine] = {}
        self.keys = open_keys(settings)
        self.sessions = Sessions(self.keys) if self.keys is not None else None
        self.log: RequestLog | None = None
        self.spending = DailySpending(settings.api_budget_per_day)
        self.limits = EngineLimits(
            settings.waiting, settings.api_timeout, settings.api_concurrency, self.spending, settings.batch_processes
        )
        self.reloading = asyncio.Lock()
        self.ready = False
        uploads = settings.uploads or default_uploads(settings, next(iter(self.folders.values())))
        self.jobs = JobStore(self.engine, uploads, settings.upload_limits)

    async def start(self) -> None:
        """Open the log and load all models. Raises InputError if one is unfinished or damaged."""
        if self.settings.log_path is not None:
            self.log = await asyncio.to_thread(RequestLog, self.settings.log_path, store_text=self.settings.log_text)
            self.spending.keep(self.log)
        for name, folder in self.folders.items():
            self.engines[name] = await Engine.open(name, folder, self.limits)
        self.ready = True
        await asyncio.to_thread(self.jobs.start)

    async def stop(self) -> None:
        """Finish the batches in work and close everything."""
        self.ready = False
        await asyncio.to_thread(self.jobs.stop)
        for engine in self.engines.values():
            await engine.close()
        if self.log is not None:
            await asyncio.to_thread(self.log.close)

    @property
    def default(self) -> Engine:
        """The model that prices when a request names none."""
        return next(iter(self.engines.values()))

    def engine(self, name: str = "") -> Engine:
        """The engine of a name. Raises ServeError (404) for an unknown one, (503) before the models are loaded."""
        if not self.ready:
            raise ServeError(503, "The models are not loaded yet", hint="Try again in a moment.")
        if not name:
            return self.default
        if name not in self.engines:
            raise ServeError(
                404,
                "There is no model of this name",
                got=name[:80],
                allowed=", ".join(self.engines),
                hint="Leave out `model` to use the first one.",
            )
        return self.engines[name]

    async def reload(self, name: str = "", *, force: bool = False) -> ReloadOutput:
        """Load a model's folder again and switch to it between two batches; the old one serves until then.

        Raises InputError if the folder is unfinished or damaged, and ServeError (409) if the new model is significantly
        worse on common test items, unless `force`; the old one serves on in both cases.
        """
        engine = self.engine(name)
        async with self.reloading:
            old = engine.model
            loaded = await asyncio.to_thread(LoadedModel.open, engine.folder, self.limits)
            if loaded.model.identity == old.identity:
                await asyncio.to_thread(loaded.close)
                return ReloadOutput(
                    model=engine.name,
                    switched=False,
                    old_identity=old.identity,
                    identity=old.identity,
                    comparison="The folder holds the model that is served already.",
                )
            try:
                comparison = await asyncio.to_thread(self.compare, engine, loaded, force)
            except BaseException:
                await asyncio.to_thread(loaded.close)
                raise
            replaced = await engine.swap(loaded)
            await asyncio.to_thread(replaced.close)
            log.info("%s: switched from %s to %s", engine.name, old.identity[:12], loaded.model.identity[:12])
            return ReloadOutput(
                model=engine.name,
                switched=True,
                old_identity=old.identity,
                identity=loaded.model.identity,
                comparison=comparison,
            )

    def compare(self, engine: Engine, loaded: LoadedModel, force: bool) -> str:
        """How the new model compares with the old one, in a sentence. Raises ServeError (409) if it is worse."""
        from pricesmith.catalog import open as open_catalog

        if self.settings.catalog is None:
            return "Not compared: the server was started without --catalog, and the model is in no build folder."
        try:
            check = compare_models(engine.model, loaded.model, open_catalog(self.settings.catalog))
        except PricesmithError as error:
            if not force:
                raise
            return f"Not compared: {error.what}."
        if check.significantly_worse and not force:
            raise ServeError(
                409,
                "The new model is significantly worse than the one that is served, which serves on",
                got=check.sentence,
                hint="Fit it again, or reload with force (JSON: true; SIGHUP never forces).",
            )
        return check.sentence
