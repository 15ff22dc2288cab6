"""Files that are priced in the background, one after another, by `pricesmith price --file`'s own code.

    store = JobStore(service.engine, Path("out/shop.uploads"), UploadLimits())
    job = store.submit(upload, JobOptions(model="ridge"), key_name="")

Each job is a folder: the uploaded file, `job.json`, which is written whole at every change, the parts that are priced
already, and the result. So a job goes on after a restart of the server, and priced parts are not priced again. Jobs are
removed a day after they end.
"""

from __future__ import annotations

import logging
import re
import secrets
import shutil
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pricesmith.batch.price import MAX_COMPARABLES, price_file
from pricesmith.catalog.comparables import Comparable
from pricesmith.catalog.listing_reader import build_reader
from pricesmith.catalog.readers.sources import Limits, read_rows, resolve_sources
from pricesmith.core.atomic import file_lock, write_json
from pricesmith.core.errors import PricesmithError, UsageError
from pricesmith.core.progress import Progress, Remaining
from pricesmith.core.types import Listing, Quote
from pricesmith.serve.batch_pool import PartFunction
from pricesmith.serve.errors import ServeError
from pricesmith.serve.loaded_model import LoadedModel, check_listings, find_comparables, price_listings
from pricesmith.serve.uploads import Upload

if TYPE_CHECKING:
    from pricesmith.serve.engine import Engine

log = logging.getLogger("pricesmith.serve")
T = TypeVar("T")
JOB = "job.json"
ID = re.compile(r"f[0-9a-f]{24}")
CHUNK = 512  # listings that a process prices before other requests have their turn
PART_ROWS = 2_000
ENDINGS = (".csv", ".xlsx", ".parquet", ".jsonl")
UNFINISHED = ("waiting", "counting", "pricing")
SWEEP_SECONDS = 600.0


@dataclass(frozen=True)
class UploadLimits:
    """Bytes of one upload and of all files together, the number of files that wait, and seconds until a file that is
    done is removed."""

    upload: int = 500_000_000
    total: int = 5_000_000_000
    waiting: int = 20
    keep: float = 86_400.0


class JobOptions(BaseModel):
    """How a file is priced: by which model (default: the first one), into which kind of file (default: the kind of the
    upload, else CSV), with how many comparables; `map` is field to column, for columns with unusual names."""

    model_config = ConfigDict(extra="forbid")
    model: str = Field("", max_length=2_000)
    format: Literal["", "csv", "xlsx", "parquet", "jsonl"] = ""
    comparables: int = Field(0, ge=0, le=MAX_COMPARABLES)
    map: dict[str, str] = Field(default_factory=dict, max_length=40)


class JobRecord(BaseModel):
    """What is stored about a job. Times are seconds since 1970."""

    model_config = ConfigDict(extra="ignore")
    id: str
    name: str
    model: str
    ending: str
    comparables: int
    map: dict[str, str]
    key_name: str
    created_at: float
    ended_at: float | None = None
    state: Literal["waiting", "counting", "pricing", "done", "failed"] = "waiting"
    rows: int | None = None
    rows_done: int = 0
    error: dict[str, str] | None = None
    facts: dict[str, Any] = Field(default_factory=dict)

    @property
    def result_name(self) -> str:
        """What the result is called when it is saved."""
        stem = self.name.partition(".")[0] or "upload"
        return f"{stem}-prices{self.ending}"


class JobStopped(Exception):
    """The job was deleted, or the server stops."""


class FileJob(Progress):
    """A job and its progress: the pricing code calls `start` and `advance`."""

    def __init__(self, record: JobRecord, folder: Path) -> None:
        self.record, self.folder = record, folder
        self.remaining: Remaining | None = None
        self.rows_of_part = 0
        self.deleted = False
        self.stopping: Callable[[], bool] = lambda: False

    def save(self) -> None:
        """Write the record, whole."""
        write_json(self.folder / JOB, self.record.model_dump())

    @property
    def input(self) -> Path:
        """The uploaded file."""
        return self.folder / "input" / self.record.name

    @property
    def result(self) -> Path:
        """The file of prices."""
        return self.folder / f"prices{self.record.ending}"

    @property
    def rows_done(self) -> int:
        """Rows that are priced so far, those of the part in work included."""
        done = self.record.rows_done + self.rows_of_part
        return done if self.record.rows is None else min(done, self.record.rows)

    @property
    def seconds_left(self) -> float | None:
        """An estimate; None before the first rows are priced."""
        return self.remaining.seconds() if self.remaining is not None and self.record.state == "pricing" else None

    def check(self) -> None:
        """Raises JobStopped if the work is no longer wanted."""
        if self.deleted or self.stopping():
            raise JobStopped

    def set_state(self, state: Literal["waiting", "counting", "pricing", "done", "failed"], **values: Any) -> None:
        """Change and store the state."""
        self.record = self.record.model_copy(update={"state": state, **values})
        if not self.deleted:
            self.save()

    def start(self, what: str, total: int | None = None) -> None:
        self.check()
        self.record.rows_done = self.rows_of_part = 0
        self.remaining = Remaining(self.record.rows or 0)

    def advance(self, steps: int = 1) -> None:
        self.record.rows_done += steps
        self.rows_of_part = 0
        if self.remaining is not None and self.record.rows:
            self.remaining.advance(steps)
        self.check()

    def count_priced(self, rows: int) -> None:
        """Rows of the part in work are priced."""
        self.rows_of_part += rows
        self.check()


class JobPricer:
    """A served model as `price_file` takes it: it prices 512 listings at a time, as many for each further process, then
    others have their turn.

    Fees of an API model count toward the budget of the day, so `price_file` need not divide a budget of its own.
    """

    def __init__(self, engine: Engine, loaded: LoadedModel, job: FileJob) -> None:
        self.engine, self.loaded, self.job = engine, loaded, job
        self.has_comparables = loaded.model.has_comparables

    @property
    def name(self) -> str:
        return self.loaded.model.name

    def price(self, listings: Sequence[Listing]) -> list[Quote]:
        return self.map_rows(price_listings, listings, self.job.count_priced)

    def find_comparables(
        self, listings: Sequence[Listing], k: int = 3, *, quotes: Sequence[Quote] | None = None
    ) -> list[list[Comparable]]:
        assert quotes is not None
        return self.map_rows(find_comparables, [*zip(listings, quotes, repeat(k), strict=False)])

    def nothing_similar(self, listings: Sequence[Listing]) -> list[bool | None]:
        return self.map_rows(check_listings, listings)

    def map_rows(
        self, function: PartFunction, rows: Sequence[Any], count: Callable[[int], None] = lambda rows: None
    ) -> list[Any]:
        """The results of a function for each row, some rows at a time; `count` gets the number of those that are
        done."""
        results: list[Any] = []
        while len(results) < len(rows):
            turn = rows[len(results) : len(results) + CHUNK * self.loaded.processes]
            results += self.work(partial(self.loaded.map_rows, function, turn))
            count(len(turn))
        return results

    def work(self, function: Callable[[], T]) -> T:
        """The result of a function that runs in the engine's thread; one that waits for an API model runs in this."""
        self.job.check()
        if self.loaded.model.asks_api:
            if self.engine.limits.spending is not None:
                self.engine.limits.spending.renew()
            return self.loaded.context.copy().run(function)
        future: Future[T] = self.engine.thread.submit(self.loaded.context.copy().run, function)
        return future.result()


class JobStore:
    """The jobs of a server, in a private folder that no other server uses."""

    def __init__(
        self,
        find_engine: Callable[[str], Engine],
        folder: Path,
        limits: UploadLimits,
        *,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.find_engine, self.folder, self.limits, self.now = find_engine, folder, limits, now
        self.jobs: dict[str, FileJob] = {}
        self.change = threading.Condition()
        self.thread: threading.Thread | None = None
        self.stopping = False
        self.used = 0  # bytes of all files, as of the last upload
        self.exit_stack = ExitStack()
        self.prepared = False

    def start(self) -> None:
        """Go on with the jobs of an earlier process; no folder is made before the first upload. If another server uses
        the folder, this one prices without uploads."""
        try:
            if self.folder.is_dir():
                self.prepare()
        except (OSError, UsageError) as error:
            log.warning("files cannot be uploaded: %s", error)

    def prepare(self) -> None:
        """Make and lock the folder, read its jobs and start the thread. Raises UsageError if another server uses it."""
        with self.change:
            if self.prepared:
                return
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.exit_stack.enter_context(
                file_lock(self.folder / ".lock", f"Another server uses {self.folder} for uploads")
            )
            for path in sorted(self.folder.iterdir()):
                if ID.fullmatch(path.name) and path.is_dir() and not path.is_symlink():
                    self.read_job(path)
            self.prepared = True
            self.thread = threading.Thread(target=self.run, name="file-jobs", daemon=True)
            self.thread.start()

    def read_job(self, folder: Path) -> None:
        """Take up the job of an earlier process. An upload that was cut, or a damaged record, is removed."""
        try:
            record = JobRecord.model_validate_json((folder / JOB).read_bytes())
        except (OSError, ValidationError):
            shutil.rmtree(folder, ignore_errors=True)
            return
        job = self.jobs[folder.name] = FileJob(record, folder)
        job.stopping = lambda: self.stopping
        if record.state in UNFINISHED:
            job.set_state("waiting")

    def stop(self) -> None:
        """Stop the job in work; a later server resumes it."""
        with self.change:
            self.stopping = True
            self.change.notify_all()
        if self.thread is not None:
            self.thread.join()
        self.exit_stack.close()

    def new_folder(self) -> Path:
        """The folder of a new upload. Raises ServeError: 429 if too many files wait, or uploads fill their room; 503 if
        files cannot be stored."""
        try:
            self.prepare()
            self.sweep()
            self.used = sum(path.stat().st_size for path in self.folder.rglob("*") if path.is_file())
        except (OSError, UsageError) as error:
            what = error.what if isinstance(error, UsageError) else error.strerror or ""
            raise ServeError(503, "Files cannot be stored", got=what, hint="Try again later.") from None
        waiting = sum(job.record.state in UNFINISHED for job in self.jobs.values())
        if waiting >= self.limits.waiting:
            raise ServeError(
                429,
                "Too many files wait to be priced",
                got=f"{waiting:,}",
                allowed=f"at most {self.limits.waiting:,}",
                hint="Try again when one of them is done.",
                headers={"Retry-After": "60"},
            )
        self.take_room(0)
        return self.folder / f"f{secrets.token_hex(12)}"

    def take_room(self, size: int) -> None:
        """Count further bytes of an upload. Raises ServeError (429) if they do not fit the room for uploads."""
        self.used += size
        if self.used > self.limits.total:
            raise ServeError(
                429,
                "The room for uploaded files is full",
                allowed=f"{self.limits.total / 1e9:,.1f} GB in all",
                hint="Delete files that are no longer needed: DELETE /v1/files/ID.",
                headers={"Retry-After": "600"},
            )

    def submit(self, upload: Upload, options: JobOptions, key_name: str = "") -> FileJob:
        """A new job for an uploaded file. Raises ServeError (404) for an unknown model."""
        folder = upload.path.parent.parent
        try:
            engine = self.find_engine(options.model)
            suffix = upload.path.suffix.lower()
            ending = f".{options.format}" if options.format else suffix if suffix in ENDINGS else ".csv"
            record = JobRecord(
                id=folder.name,
                name=upload.name,
                model=engine.name,
                ending=ending,
                comparables=options.comparables,
                map=options.map,
                key_name=key_name,
                created_at=self.now(),
            )
            job = FileJob(record, folder)
            job.stopping = lambda: self.stopping
            job.save()
        except OSError as error:
            shutil.rmtree(folder, ignore_errors=True)
            raise ServeError(503, "Files cannot be stored", got=error.strerror or "", hint="Try again later.") from None
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        with self.change:
            self.jobs[record.id] = job
            self.change.notify_all()
        return job

    def get(self, id: str, key_name: str = "") -> FileJob:
        """A job by its id. Raises ServeError (404) for an unknown one, and for one of another key."""
        job = self.jobs.get(id)
        if job is None or job.deleted or job.record.key_name != key_name:
            raise ServeError(
                404,
                "There is no such file",
                got=id[:40],
                hint="Files are removed a day after they are done. Upload it again.",
            )
        return job

    def own_jobs(self, key_name: str = "") -> list[FileJob]:
        """The jobs of a key, the newest first."""
        own = [job for job in self.jobs.values() if job.record.key_name == key_name and not job.deleted]
        return sorted(own, key=lambda job: -job.record.created_at)

    def position(self, job: FileJob) -> int:
        """How many files are priced before this one."""
        return sum(
            other.record.state in UNFINISHED and other.record.created_at < job.record.created_at
            for other in list(self.jobs.values())
        )

    def delete(self, job: FileJob) -> None:
        """Remove a job and its files; the one in work ends first."""
        with self.change:
            job.deleted = True
            working = job.record.state in ("counting", "pricing")
            if not working:
                self.remove(job)

    def remove(self, job: FileJob) -> None:
        """Remove the files of a job."""
        self.jobs.pop(job.record.id, None)
        shutil.rmtree(job.folder, ignore_errors=True)

    def sweep(self) -> None:
        """Remove jobs that ended long ago."""
        oldest = self.now() - self.limits.keep
        with self.change:
            for job in list(self.jobs.values()):
                if job.record.ended_at is not None and job.record.ended_at < oldest:
                    self.remove(job)

    def next_job(self) -> FileJob | None:
        """Wait for the oldest waiting job; None if the server stops."""
        while True:
            with self.change:
                if self.stopping:
                    return None
                waiting = [job for job in self.jobs.values() if job.record.state == "waiting" and not job.deleted]
                if waiting:
                    job = min(waiting, key=lambda job: (job.record.created_at, job.record.id))
                    job.set_state("counting")
                    return job
                self.change.wait(SWEEP_SECONDS)
            self.sweep()

    def run(self) -> None:
        """Price one job after another."""
        while (job := self.next_job()) is not None:
            try:
                self.work(job)
            except JobStopped:
                pass
            except PricesmithError as error:
                self.fail(job, error)
            except Exception as error:
                if not job.deleted:  # else its files were removed while it stored its state
                    log.exception("job %s failed", job.record.id)
                    self.fail(job, describe_failure(job, error))
            if job.deleted:
                with self.change:
                    self.remove(job)

    def fail(self, job: FileJob, error: PricesmithError) -> None:
        """Store why a job failed, without paths of this machine and options of the command line."""
        parts = {"what": error.what, "got": error.got, "allowed": error.allowed, "next": error.hint}
        shown = {name: translate_error(text, job.folder) for name, text in parts.items()}
        try:
            job.set_state("failed", error=shown, ended_at=self.now())
        except OSError:
            if not job.deleted:
                log.exception("the end of job %s cannot be stored", job.record.id)
            job.record = job.record.model_copy(update={"state": "failed", "error": shown, "ended_at": self.now()})

    def work(self, job: FileJob) -> None:
        """Count the rows of a file, then price them."""
        engine = self.find_engine(job.record.model)
        loaded = engine.loaded
        info = loaded.model.info
        (source, *others) = resolve_sources([str(job.input)])
        if not others:  # several tables in one archive: price_file says so
            build_reader(source, info, job.record.map or None)  # refuses a table that the model does not know
            count = 0
            for batch in read_rows(source, Limits()):
                count += len(batch)
                job.record.rows = count
                job.check()
            job.set_state("pricing", rows=count)
        try:
            facts = price_file(
                JobPricer(engine, loaded, job),
                info,
                job.input,
                job.result,
                identity=loaded.model.identity,
                comparables=job.record.comparables,
                part_rows=PART_ROWS,
                overwrite=True,  # the parts of the same work are used, those of another model are not
                mapping=job.record.map or None,
                label=job.record.name,
                progress=job,
            )
        except PricesmithError:
            if engine.loaded is loaded:
                raise
            job.set_state("waiting")  # the model was replaced, and its API client closed: the new one prices the file
            return
        facts.pop("to", None)
        job.set_state("done", rows=facts["rows"], rows_done=facts["rows"], facts=facts, ended_at=self.now())


def describe_failure(job: FileJob, error: Exception) -> PricesmithError:
    """The message for an error that is not about the file."""
    if isinstance(error, OSError):
        return PricesmithError("The file cannot be stored or read", got=error.strerror or "")
    return PricesmithError("The server failed", hint=f"Its log has the reason: {job.record.id}.")


def translate_error(text: str, folder: Path) -> str:
    """A part of an error in the words of the API."""
    paths = [(f"{folder}/input/", ""), (f"{folder}/", ""), (str(folder), "")]
    for old, new in (*paths, ("--map ", "map="), ("--file", "An upload")):
        text = text.replace(old, new)
    return text
