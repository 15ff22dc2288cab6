"""The tab "How good is it?": the leaderboard, the conclusion and the coverage of the evaluations, as the report has
them; nothing is computed in another way here."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Request, Response

from pricesmith.core.build_file import BUILD_FILE
from pricesmith.core.errors import PricesmithError
from pricesmith.serve.errors import ServeError
from pricesmith.serve.pages.render import error_status, render
from pricesmith.serve.pages.wording import format_day
from pricesmith.serve.pricing import get_service
from pricesmith.serve.service import Service
from pricesmith.text.formatting import join_names, to_single_line

if TYPE_CHECKING:
    from pricesmith.reporting.data import ReportData

PATIENCE = 1.5  # seconds until a page says that the figures are being computed
REFRESH = 2  # seconds until such a page asks again

router = APIRouter()


def find_evals(service: Service) -> Path | None:
    """The folder of evaluations: the one that was named, or that of the build folder of a served model."""
    if service.settings.evals is not None:
        return service.settings.evals
    for folder in service.folders.values():
        for build in (folder, folder.resolve().parent.parent):
            if (build / BUILD_FILE).is_file() and (build / "evals").is_dir():
                return build / "evals"
    return None


def folder_state(folder: Path) -> tuple[tuple[str, int, int], ...]:
    """Changes when a file of the folder does."""
    return tuple(
        sorted((path.name, path.stat().st_mtime_ns, path.stat().st_size) for path in folder.iterdir() if path.is_file())
    )


@dataclass
class ReportCache:
    """The figures of a folder of evaluations, computed once for each state of the folder, by one thread."""

    state: object = None
    task: asyncio.Task[ReportData] | None = None
    pages: dict[object, bytes] = field(default_factory=dict)

    def start(self, folder: Path) -> asyncio.Task[ReportData]:
        """The figures, or the work that computes them. Raises InputError for a folder that cannot be read."""
        from pricesmith.core.errors import InputError
        from pricesmith.reporting.data import build_report_data

        try:
            state = (str(folder), folder_state(folder))
        except OSError as error:
            raise InputError(
                "The evaluations cannot be read", got=error.strerror or "", hint="Check --evals of the server."
            ) from None
        if self.task is None or self.state != state:
            self.state, self.task = state, asyncio.create_task(asyncio.to_thread(build_report_data, folder))
            self.pages.clear()
        return self.task

    async def page(self, data: ReportData) -> bytes:
        """The report as one HTML file."""
        from pricesmith.reporting.page import render_page

        if self.state not in self.pages:
            text = await asyncio.to_thread(render_page, data)
            self.pages = {self.state: text.encode()}
        return self.pages[self.state]


def get_cache(request: Request) -> ReportCache:
    """The cache of the application."""
    state = request.app.state
    if not hasattr(state, "report_cache"):
        state.report_cache = ReportCache()
    cache: ReportCache = state.report_cache
    return cache


async def wait_for_data(task: asyncio.Task[ReportData], seconds: float) -> ReportData | None:
    """The figures; None if they take longer."""
    done, _ = await asyncio.wait({task}, timeout=seconds)
    return task.result() if done else None


@router.get("/quality")
async def show_quality(request: Request) -> Response:
    """The figures; while they are computed, a page that asks again; without evaluations, how to make some."""
    service = get_service(request)
    values: dict[str, Any] = {"tab": "quality", "title": "How good is it?", "content": None, "command": ""}
    folder = find_evals(service)
    if folder is None:
        engine = service.engine()
        return render(request, "quality.html.j2", **values | {"command": f"pricesmith eval {engine.folder}"})
    try:
        data = await wait_for_data(get_cache(request).start(folder), PATIENCE)
    except PricesmithError as error:
        return render(request, "quality.html.j2", error_status(error), **values | {"error": error})
    if data is None:
        return render(request, "quality.html.j2", **values | {"refresh": REFRESH})
    return render(request, "quality.html.j2", **values | {"content": describe_quality(service, data)})


@router.get("/quality/report.html")
async def download_report(request: Request) -> Response:
    """The report as a file. It has scripts of its own, so that it is never shown under this server's address."""
    folder = find_evals(get_service(request))
    if folder is None:
        raise ServeError(404, "There are no evaluations", hint="Start the server with --evals FOLDER.")
    cache = get_cache(request)
    data = await wait_for_data(cache.start(folder), 600)
    if data is None:
        raise ServeError(503, "The report is being computed", hint="Try again in a minute.")
    headers = {"content-disposition": 'attachment; filename="report.html"'}
    return Response(await cache.page(data), media_type="text/html", headers=headers)


def describe_quality(service: Service, data: ReportData) -> dict[str, Any]:
    """What the tab shows, as the report words it."""
    from pricesmith.reporting import tables
    from pricesmith.reporting.page import coverage_content

    by_identity = {engine.model.identity: engine.name for engine in service.engines.values()}
    evaluated = {name: str(data.evals.meta[name].get("manifest")) for name in data.evaluations}
    served = {name for name, identity in evaluated.items() if identity in by_identity}
    missing = [name for identity, name in by_identity.items() if identity not in evaluated.values()]
    main, *others = tables.leaderboard_tables(data)
    return {
        "headline": tables.headline(data),
        "lead": tables.lead_sentence(data),
        "conclusion": [to_single_line(sentence, 1_000) for sentence in data.sentences],
        "tiles": tables.summary_tiles(data),
        "best": to_single_line(data.best.name, 40),
        "board": main,
        "others": others,
        "coverage": coverage_content(data),
        "served": served,
        "missing": join_names([to_single_line(name, 40) for name in missing], 5) if missing else "",
        "several_missing": len(missing) > 1,
        "date": format_day(str(data.meta.get("date") or "")),
    }
