"""Routes of files: upload one, ask how far it is, download the prices, delete it."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request, Response
from fastapi.responses import FileResponse, StreamingResponse
from pydantic import ValidationError

from pricesmith.batch.price import MAX_COMPARABLES
from pricesmith.core.errors import UsageError
from pricesmith.serve.errors import ServeError, declare, request_key
from pricesmith.serve.jobs import FileJob, JobOptions, JobStore
from pricesmith.serve.pricing import get_service
from pricesmith.serve.schemas import ErrorFacts, FileOutput
from pricesmith.serve.uploads import Upload, check_ending, content_disposition, receive_upload

router = APIRouter(tags=["files"])
MEDIA_TYPES = {
    ".csv": "text/csv; charset=utf-8",
    ".xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    ".parquet": "application/vnd.apache.parquet",
    ".jsonl": "application/x-ndjson",
}
FORM: dict[str, Any] = {
    "type": "object",
    "required": ["file"],
    "properties": {
        "file": {"type": "string", "format": "binary", "description": "CSV, TSV, JSON Lines, Parquet or XLSX."},
        "model": {"type": "string", "description": "Name of the model (default: the first one)."},
        "format": {"type": "string", "enum": ["csv", "xlsx", "parquet", "jsonl"], "description": "Of the result."},
        "comparables": {"type": "integer", "minimum": 0, "maximum": MAX_COMPARABLES},
        "map": {"type": "array", "items": {"type": "string"}, "description": "field=column, for unusual names."},
    },
}
ENCODING = {"file": {"contentType": ", ".join(media.partition(";")[0] for media in MEDIA_TYPES.values())}}
LINKS = {
    name: {"operationId": name, "parameters": {"id": "$response.body#/id"}}
    for name in ("file_state", "file_result", "delete_file")
}
FileId = Annotated[str, Path(max_length=40, description="The id that the upload was answered with.")]
Escape = Annotated[
    bool,
    Query(
        description="CSV only. True: text that a spreadsheet would run as a formula has an apostrophe before it. "
        "False: every text is as it was uploaded, for programs."
    ),
]


def get_jobs(request: Request) -> JobStore:
    """The jobs of the application."""
    return get_service(request).jobs


@router.post(
    "/v1/files",
    status_code=202,
    responses={202: {"links": LINKS}, **declare(400, 404, 408, 413, 415, 422)},
    openapi_extra={
        "requestBody": {"required": True, "content": {"multipart/form-data": {"schema": FORM, "encoding": ENCODING}}}
    },
)
async def upload_file(request: Request, response: Response) -> FileOutput:
    """Upload a file and price all of its rows in the background.

    `model`, `format`, `comparables` and `map` may be fields of the form or parameters of the URL.
    """
    jobs = get_jobs(request)
    get_service(request).engine()
    upload = await receive(request, jobs)
    job = jobs.submit(upload, read_options(request, upload), request_key(request))
    response.headers["Location"] = f"{request.scope.get('root_path', '')}/v1/files/{job.record.id}"
    return describe_job(jobs, job)


async def receive(request: Request, jobs: JobStore) -> Upload:
    """The uploaded file of a request, on the disk."""
    folder, limit = jobs.new_folder(), jobs.limits.upload
    return await receive_upload(request, folder, limit, check_ending, jobs.take_room)


def read_options(request: Request, upload: Upload) -> JobOptions:
    """How a file is priced, from the form and the URL. Raises UsageError for a wrong value; the upload is removed."""
    values: dict[str, Any] = {}
    for name in ("model", "format", "comparables"):
        if value := upload.value(name) or request.query_params.get(name, ""):
            values[name] = value
    try:
        pairs = [*upload.fields.get("map", ()), *request.query_params.getlist("map")]
        values["map"] = read_mapping([pair for pair in pairs if pair])
        return JobOptions.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        remove_upload(upload)
        raise UsageError(
            f"The field {first['loc'][0]} of the form is wrong",
            got=str(first["input"])[:80],
            allowed=str(first["msg"])[:120],
        ) from None
    except UsageError:
        remove_upload(upload)
        raise


def read_mapping(pairs: list[str]) -> dict[str, str]:
    """field=column pairs as a mapping. Raises UsageError for a text without `=`."""
    wrong = next((pair for pair in pairs if "=" not in pair), None)
    if wrong is not None:
        raise UsageError("The field map of the form is wrong", got=wrong[:80], allowed="field=column")
    return {field.strip(): column.strip() for field, _, column in (pair.partition("=") for pair in pairs)}


def remove_upload(upload: Upload) -> None:
    """Remove the folder of an upload that does not become a job."""
    import shutil

    shutil.rmtree(upload.path.parent.parent, ignore_errors=True)


@router.get("/v1/files/{id}", responses=declare(404, 503))
async def file_state(request: Request, id: FileId) -> FileOutput:
    """How far an uploaded file is."""
    jobs = get_jobs(request)
    return describe_job(jobs, jobs.get(id, request_key(request)))


@router.get(
    "/v1/files/{id}/result",
    response_class=Response,
    responses={
        200: {
            "description": "The rows of the uploaded file with their prices.",
            "content": {
                media.partition(";")[0]: {"schema": {"type": "string", "format": "binary"}}
                for media in MEDIA_TYPES.values()
            },
        },
        **declare(404, 409, 422, 503),
    },
)
async def file_result(request: Request, id: FileId, escape: Escape = True) -> Response:
    """Download the prices. Status 409 until the file is done."""
    job = get_jobs(request).get(id, request_key(request))
    return result_response(job, escape=escape)


def result_response(job: FileJob, *, escape: bool = True) -> Response:
    """The result of a job as a download. Raises ServeError (409) if it is not done."""
    record = job.record
    if record.state != "done":
        hint = "Upload it again when the reason is removed." if record.state == "failed" else "Ask again in a moment."
        raise ServeError(
            409, "This file has no result" if record.state == "failed" else "This file is not done yet",
            got=record.state, hint=hint,
        )  # fmt: skip
    if not job.result.is_file():
        raise ServeError(404, "The prices of this file are gone", got=record.id, hint="Upload it again.")
    headers = {"Content-Disposition": content_disposition(record.result_name)}
    media_type = MEDIA_TYPES[record.ending]
    if record.ending == ".csv" and not escape:
        from pricesmith.batch.writers import unescape_csv

        return StreamingResponse(unescape_csv(job.result), media_type=media_type, headers=headers)
    return FileResponse(job.result, media_type=media_type, headers=headers)


@router.delete("/v1/files/{id}", status_code=204, response_class=Response, responses=declare(404, 503))
async def delete_file(request: Request, id: FileId) -> None:
    """Delete an uploaded file with its prices; work on it ends."""
    jobs = get_jobs(request)
    jobs.delete(jobs.get(id, request_key(request)))


def describe_job(jobs: JobStore, job: FileJob) -> FileOutput:
    """A job, for programs."""
    record, left = job.record, job.seconds_left
    return FileOutput(
        id=record.id,
        name=record.name,
        model=record.model,
        state=record.state,
        rows_done=job.rows_done,
        rows=record.rows,
        seconds_left=None if left is None else round(left, 1),
        files_before=jobs.position(job) if record.state == "waiting" else 0,
        priced=record.facts.get("priced"),
        not_priced=record.facts.get("not_priced"),
        result=f"/v1/files/{record.id}/result" if record.state == "done" else None,
        result_name=record.result_name,
        error=ErrorFacts(**record.error) if record.error else None,
    )
