"""The tab "Price a file": an upload, its progress and its download. The work is that of `/v1/files`."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse

from pricesmith.core.errors import PricesmithError
from pricesmith.serve.errors import request_key
from pricesmith.serve.files import describe_job, get_jobs, receive, remove_upload, result_response
from pricesmith.serve.jobs import UNFINISHED, FileJob, JobOptions
from pricesmith.serve.pages.forms import base_path, check_token, is_partial, read_form
from pricesmith.serve.pages.render import error_status, render
from pricesmith.serve.pricing import get_service
from pricesmith.text.formatting import format_count

REFRESH = 1  # seconds until a page of a file that is being priced asks again
FORMATS = (("", "as the upload"), ("csv", "CSV"), ("xlsx", "Excel"), ("parquet", "Parquet"), ("jsonl", "JSON Lines"))
COMPARABLES = 3
ACCEPT = ".csv,.tsv,.jsonl,.ndjson,.json,.parquet,.xlsx,.gz,.zst,.zip"
STATES = {
    "waiting": "Waiting",
    "counting": "Counting rows",
    "pricing": "Pricing",
    "done": "Done",
    "failed": "Not priced",
}

router = APIRouter()


def upload_page(request: Request, error: PricesmithError | None = None) -> HTMLResponse:
    """The form and the files of this key."""
    service, jobs = get_service(request), get_jobs(request)
    status = error_status(error) if error is not None else 200
    return render(
        request,
        "files.html.j2",
        status,
        tab="file",
        title="Price a file",
        error=error,
        formats=FORMATS,
        accept=ACCEPT,
        limit=f"{jobs.limits.upload / 1e6:,.0f} MB",
        days=max(1, round(jobs.limits.keep / 86_400)),
        columns=dict(service.engine().model.info["columns"]),
        jobs=[describe(request, job) for job in jobs.own_jobs(request_key(request))],
    )


def describe(request: Request, job: FileJob) -> dict[str, Any]:
    """A file as the page shows it."""
    facts = describe_job(get_jobs(request), job)
    progress = ""
    if facts.state == "waiting":
        progress = f"{format_count(facts.files_before, 'file')} before it" if facts.files_before else "It is next"
    elif facts.state == "counting":
        progress = f"{format_count(facts.rows or 0, 'row')} so far"
    elif facts.rows is not None:
        progress = f"{facts.rows_done:,} of {facts.rows:,}"
    left = facts.seconds_left
    return {
        "id": facts.id,
        "name": facts.name,
        "uploaded": f"{datetime.fromtimestamp(job.record.created_at, UTC):%Y-%m-%d %H:%M} UTC",
        "model": facts.model,
        "state": facts.state,
        "state_name": STATES[facts.state],
        "working": facts.state in UNFINISHED,
        "progress": progress,
        "left": "" if left is None else describe_seconds(left),
        "rows_done": facts.rows_done,
        "rows": facts.rows,
        "priced": facts.priced,
        "not_priced": facts.not_priced,
        "nothing_similar": job.record.facts.get("nothing_similar"),
        "result_name": facts.result_name,
        "is_csv": job.record.ending == ".csv",
        "error": None if facts.error is None else {**facts.error.model_dump(), "hint": facts.error.next},
    }


def describe_seconds(seconds: float) -> str:
    """About how long something takes: `about 40 s left`, `about 3 minutes left`."""
    if seconds < 90:
        return f"about {max(1, round(seconds))} s left"
    return f"about {format_count(round(seconds / 60), 'minute')} left"


@router.get("/file")
async def show_upload(request: Request) -> Response:
    """The form for an upload, and the files so far."""
    return upload_page(request)


@router.post("/file")
async def upload(request: Request) -> Response:
    """Take a file and go to its page."""
    jobs = get_jobs(request)
    try:
        get_service(request).engine()
        received = await receive(request, jobs)
        try:
            check_token(request, received.value("token"))
            columns = {
                name.removeprefix("column:"): values[-1].strip()
                for name, values in received.fields.items()
                if name.startswith("column:") and values[-1].strip()
            }
            options = JobOptions.model_validate(
                {
                    "model": received.value("model"),
                    "format": received.value("format"),
                    "comparables": COMPARABLES if received.value("comparables") else 0,
                    "map": columns,
                }
            )
        except BaseException:
            remove_upload(received)
            raise
        job = jobs.submit(received, options, request_key(request))
    except PricesmithError as error:
        return upload_page(request, error)
    return RedirectResponse(f"{base_path(request)}/file/{job.record.id}", 303)


@router.get("/file/{id}")
async def show_job(request: Request, id: str) -> Response:
    """How far a file is; the page asks again until it is done."""
    try:
        job = describe(request, get_jobs(request).get(id, request_key(request)))
    except PricesmithError as error:
        if is_partial(request):
            return render(request, "job_part.html.j2", error_status(error), job=None, error=error, wait=REFRESH)
        return upload_page(request, error)
    values = {"job": job, "tab": "file", "title": f"{job['state_name']}: {job['name']}", "wait": REFRESH}
    if is_partial(request):
        return render(request, "job_part.html.j2", **values)
    return render(request, "job.html.j2", **values, refresh=2 * REFRESH if job["working"] else None)


@router.get("/file/{id}/result")
async def download(request: Request, id: str, exact: bool = False) -> Response:
    """The prices of a file. `exact`: without the apostrophes that stop a spreadsheet from running text as formulas."""
    try:
        return result_response(get_jobs(request).get(id, request_key(request)), escape=not exact)
    except PricesmithError as error:
        return upload_page(request, error)


@router.post("/file/{id}/delete")
async def delete(request: Request, id: str) -> Response:
    """Delete a file with its prices."""
    try:
        check_token(request, (await read_form(request)).get("token", ""))
        jobs = get_jobs(request)
        jobs.delete(jobs.get(id, request_key(request)))
    except PricesmithError as error:
        return upload_page(request, error)
    return RedirectResponse(f"{base_path(request)}/file", 303)
