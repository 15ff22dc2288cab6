"""The server: `pricesmith serve MODEL...` prices for a web page and for programs.

    run_server({"ridge": Path("out/ridge")}, ServeSettings(port=8000))

`engine.py` prices, `app.py` joins the routes, `security.py` is the outermost layer.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pricesmith.serve.service import ServeSettings, Service

__all__ = ["ServeSettings", "Service", "run_server"]


def run_server(folders: Mapping[str, Path], settings: ServeSettings) -> None:
    """Serve models until the process is stopped."""
    import uvicorn

    from pricesmith.serve.app import create_app

    app = create_app(Service(folders, settings))
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        root_path=settings.root_path,
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=bool(settings.trusted_proxies),
        forwarded_allow_ips=list(settings.trusted_proxies) or None,
        timeout_keep_alive=10,
        timeout_graceful_shutdown=10,
        h11_max_incomplete_event_size=64 * 1024,
    )
    uvicorn.Server(config).run()
