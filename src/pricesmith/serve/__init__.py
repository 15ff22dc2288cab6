"""The server: `pricesmith serve MODEL...` prices for a web page and for programs.

    run_server({"ridge": Path("out/ridge")}, ServeSettings(port=8000))

`engine.py` prices, `app.py` joins the routes, `security.py` is the outermost layer.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
from collections.abc import Callable, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from pricesmith.core.errors import PricesmithError, UsageError
from pricesmith.serve.service import ServeSettings, Service

if TYPE_CHECKING:
    from collections.abc import Iterator

    import uvicorn

__all__ = ["ServeSettings", "Service", "run_server"]

log = logging.getLogger("pricesmith.serve")
BACKLOG = 2_048  # connections that the system keeps waiting
GRACEFUL = 10  # seconds that requests in work have when the server stops
KEEP_ALIVE = 10  # seconds that an idle connection stays open
MAX_HEADERS = 64 * 1024  # bytes


def run_server(
    folders: Mapping[str, Path], settings: ServeSettings, on_ready: Callable[[str], None] = lambda url: None
) -> None:
    """Serve models until the process is stopped; `on_ready` gets the server's URL when all models are loaded.

    Raises UsageError if the address cannot be used, and InputError if a model is unfinished or damaged.
    """
    service = Service(folders, settings)
    listener = bind(settings.host, settings.port)
    with listener:
        asyncio.run(serve(service, listener, on_ready))


def bind(host: str, port: int) -> socket.socket:
    """A socket that listens at an address. Raises UsageError if that is not possible."""
    try:
        if not 0 <= port <= 65535:
            raise OverflowError("port out of range")
        (family, kind, protocol, _, address), *_ = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
        except BaseException:
            listener.close()
            raise
    except (OSError, OverflowError) as error:
        raise UsageError(
            f"The server cannot listen at {host}, port {port}",
            got=getattr(error, "strerror", None) or str(error),
            allowed="an address of this machine and a port that is free, 1 to 65535",
            hint="Choose another --port, such as 8001; --port 0 takes a free one.",
        ) from None
    return listener


def url_of(listener: socket.socket, root_path: str) -> str:
    """The URL of a listening socket. One that listens on all addresses is named by that of loopback."""
    host, port = listener.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://{f'[{host}]' if ':' in host else host}:{port}{root_path}"


async def serve(service: Service, listener: socket.socket, on_ready: Callable[[str], None]) -> None:
    """Listen, then load the models; until they are loaded /ready and the prices answer 503."""
    import uvicorn

    from pricesmith.serve.app import create_app
    from pricesmith.serve.timeouts import build_protocol

    settings = service.settings
    config = uvicorn.Config(
        create_app(service),
        http=build_protocol(settings.body_timeout),
        lifespan="off",
        root_path=settings.root_path,
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=bool(settings.trusted_proxies),
        forwarded_allow_ips=list(settings.trusted_proxies) or None,
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE,
        timeout_graceful_shutdown=GRACEFUL,
        h11_max_incomplete_event_size=MAX_HEADERS,
    )
    server = uvicorn.Server(config)
    listening = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        await load(service, server, listening)
        if service.ready:
            with reload_on_signal(service):
                on_ready(url_of(listener, settings.root_path))
                await listening
    finally:
        server.should_exit = True
        with suppress(asyncio.CancelledError):
            await listening
        await service.stop()


async def load(service: Service, server: uvicorn.Server, listening: asyncio.Task[None]) -> None:
    """Load the models, unless the server is stopped meanwhile."""
    loading = asyncio.create_task(service.start())
    await asyncio.wait({loading, listening}, return_when=asyncio.FIRST_COMPLETED)
    if listening.done() and not loading.done():
        loading.cancel()
        return
    await loading


@contextmanager
def reload_on_signal(service: Service) -> Iterator[None]:
    """Load all models again whenever the process gets SIGHUP; Windows has no such signal."""
    hangup = getattr(signal, "SIGHUP", None)
    if hangup is None:
        yield
        return
    loop = asyncio.get_running_loop()
    tasks: set[asyncio.Task[None]] = set()

    async def reload_all() -> None:
        for name in service.engines:
            try:
                result = await service.reload(name)
            except PricesmithError as error:
                log.error("%s is not reloaded; the old model serves on. %s", name, error)
            else:
                log.warning("%s: %s", name, result.comparison if result.switched else "nothing has changed")

    def start() -> None:
        task = loop.create_task(reload_all())
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    before = signal.signal(hangup, lambda number, frame: loop.call_soon_threadsafe(start))
    try:
        yield
    finally:
        signal.signal(hangup, before)
