"""The state of batch jobs, in the SQLite file of the response cache.

    store = BatchStore(cache)
    job = store.create(run, endpoint.url, endpoint.model, [Line(key, worst), ...])
    store.mark_creating(job.id, now)          durable before the provider is asked to create the job
    store.mark_submitted(job.id, "batch_123")
    store.settle(job.id, [Outcome(key, "answered", cost, completion=completion), ...])
    store.close(job.id)

Every change is one transaction and is on disk when the method returns, so after a kill at any point the next command
knows which requests may be at the provider. A key is open in at most one job: a partial unique index guarantees it. A
reply and the cost of its line are stored in the same transaction.

The states of a job: `prepared` (nothing has been sent that could create it), `creating` (the request that creates it
may have arrived), `submitted` (the provider's id is known), `closed`, and `void` (it never existed at the provider, or
the provider rejected it; nothing was charged).
"""

from __future__ import annotations

import json
import math
import os
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from pricesmith.core.errors import InputError
from pricesmith.pricers.api.response_cache import PRICE, Completion, ResponseCache

JobState = Literal["prepared", "creating", "submitted", "closed", "void"]
LineState = Literal["open", "answered", "failed", "expired", "void"]
JOB_COLUMNS = "id, run, endpoint, model, state, owner, pid, remote, file, presumed, foreign_ids, created, sent"


@dataclass(frozen=True)
class Line:
    """One request of a job: its key in the response cache and its worst-case cost in US dollars."""

    key: str
    worst: float


@dataclass(frozen=True)
class Outcome:
    """What became of a line, and its cost in US dollars. An answered line has its completion."""

    key: str
    state: LineState
    cost: float = 0.0
    reason: str = ""
    completion: Completion | None = None


@dataclass(frozen=True)
class BatchJob:
    """One job. `remote` is the provider's id, `file` that of an uploaded file; `sent` is when its creation was tried.

    `presumed`: the id was found by time and size only, so the results decide whether it is this job; `foreign_ids` are
    those that turned out to be others. `owner` is the process that handles its submission.
    """

    id: str
    run: str
    endpoint: str
    model: str
    state: JobState
    owner: str
    pid: int
    remote: str
    file: str
    presumed: bool
    foreign_ids: tuple[str, ...]
    created: float
    sent: float | None


class BatchStore:
    """Batch jobs and their lines. Raises InputError if the file is damaged."""

    def __init__(self, cache: ResponseCache) -> None:
        self.cache = cache

    def create(self, run: str, endpoint: str, model: str, lines: Sequence[Line]) -> tuple[BatchJob, list[Line]] | None:
        """Write a prepared job with those of `lines` that nobody has answered, claimed or put into another job.

        Returns the job and its lines in order, or None if no line is left.
        """
        cache = self.cache
        with cache.lock:
            cache.owner.lock()
            job = uuid.uuid4().hex
            with cache.transaction():
                taken = self.taken(line.key for line in lines)
                own_lines = list({line.key: line for line in lines if line.key not in taken}.values())
                if not own_lines:
                    return None
                cache.connection.execute(
                    "INSERT INTO batch_jobs (id, run, endpoint, model, state, owner, pid, created) "
                    "VALUES (?, ?, ?, ?, 'prepared', ?, ?, ?)",
                    (job, run, endpoint, model, cache.owner.name, os.getpid(), time.time()),
                )
                cache.connection.executemany(
                    "INSERT INTO batch_lines (job, number, key, worst_usd, state) VALUES (?, ?, ?, ?, 'open')",
                    [(job, number, line.key, line.worst) for number, line in enumerate(own_lines, 1)],
                )
        return self.get(job), own_lines

    def taken(self, keys: Iterable[str]) -> set[str]:
        """Return those of `keys` that are answered, open in a job, or claimed by a living process."""
        cache, keys = self.cache, list(keys)
        taken = {key for (key,) in cache.select("SELECT key FROM answers", keys)} | self.open_keys(keys)
        claims = cache.select("SELECT key, owner FROM claims", keys)
        alive = {owner: cache.owner.is_alive(owner) for owner in {owner for _, owner in claims}}
        return taken | {key for key, owner in claims if alive[owner] and owner != cache.owner.name}

    def open_keys(self, keys: Iterable[str]) -> set[str]:
        """Return those of `keys` that are open in an unfinished job."""
        return {key for (key,) in self.cache.select("SELECT key FROM open_batch_lines", keys)}

    def find_open(self, keys: Iterable[str]) -> list[BatchJob]:
        """Return the unfinished jobs with an open line among `keys`, the oldest first."""
        ids = {job for (job,) in self.cache.select("SELECT job FROM open_batch_lines", keys)}
        return sorted((self.get(job) for job in ids), key=lambda job: (job.created, job.id))

    def get(self, job: str) -> BatchJob:
        """Return a job by its id. Raises InputError if its state is damaged."""
        rows = self.cache.run(f"SELECT {JOB_COLUMNS} FROM batch_jobs WHERE id = ?", (job,))
        try:
            values = dict(zip(JOB_COLUMNS.split(", "), *rows, strict=True))
            foreign = tuple(map(str, json.loads(values["foreign_ids"])))
            times = [float(values[name] or 0.0) for name in ("created", "sent")]
        except (ValueError, TypeError):
            raise self.damaged_job(job) from None
        if values["state"] not in get_args(JobState) or not all(map(math.isfinite, times)):
            raise self.damaged_job(job)
        return BatchJob(**values | {"presumed": bool(values["presumed"]), "foreign_ids": foreign})

    def damaged_job(self, job: str) -> InputError:
        """The error for a job whose state is not what was written. What it may have bought is not bought again."""
        return InputError(
            f"The state of batch job {job} in {self.cache.path} is damaged",
            got="a job without an entry, or with values that Pricesmith does not write",
            hint=f"Its requests may be paid for: restore {self.cache.path.name} and the files beside it from a copy, "
            "or move them away, which loses all answers in them.",
        )

    def open_lines(self, job: str) -> list[tuple[int, Line]]:
        """Return the open lines of a job with their numbers in its file, from 1."""
        rows = self.cache.run(
            "SELECT number, key, worst_usd FROM batch_lines WHERE job = ? AND state = 'open' ORDER BY number", (job,)
        )
        try:
            return [(int(number), Line(str(key), float(worst))) for number, key, worst in rows]
        except (ValueError, TypeError):
            raise self.damaged_job(job) from None

    def ended_lines(self, job: str) -> dict[str, str]:
        """Return the keys of a job's lines that have ended, with their reasons, empty for an answer."""
        return dict(self.cache.run("SELECT key, reason FROM batch_lines WHERE job = ? AND state != 'open'", (job,)))

    def count(self, job: str) -> int:
        """Return the number of lines of a job, open or not."""
        return int(self.cache.run("SELECT COUNT(*) FROM batch_lines WHERE job = ?", (job,))[0][0])

    def adopt(self, job: str) -> bool:
        """Take over the submission of an unfinished job; False if a living process handles it."""
        cache = self.cache
        with cache.lock:
            cache.owner.lock()
            with cache.transaction():
                (row,) = cache.run("SELECT owner FROM batch_jobs WHERE id = ?", (job,))
                if row[0] != cache.owner.name and cache.owner.is_alive(row[0]):
                    return False
                cache.run("UPDATE batch_jobs SET owner = ?, pid = ? WHERE id = ?", (cache.owner.name, os.getpid(), job))
        return True

    def mark_creating(self, job: str, now: float, file: str = "") -> None:
        """Record that the request that creates the job is about to be sent, with the id of its uploaded file."""
        self.cache.run("UPDATE batch_jobs SET state = 'creating', sent = ?, file = ? WHERE id = ?", (now, file, job))

    def mark_submitted(self, job: str, remote: str, *, presumed: bool = False) -> None:
        """Record the provider's id of the job."""
        self.cache.run(
            "UPDATE batch_jobs SET state = 'submitted', remote = ?, presumed = ? WHERE id = ?", (remote, presumed, job)
        )

    def mark_foreign(self, job: str) -> None:
        """Record that the presumed id is that of somebody else's job: the job is to be found again."""
        known = self.get(job)
        foreign = json.dumps([*known.foreign_ids, known.remote])
        self.cache.run(
            "UPDATE batch_jobs SET state = 'creating', remote = '', presumed = 0, foreign_ids = ? WHERE id = ?",
            (foreign, job),
        )

    def remote_ids(self) -> set[str]:
        """Return the provider's ids of all jobs of this cache."""
        return {remote for (remote,) in self.cache.run("SELECT remote FROM batch_jobs WHERE remote != ''")}

    def settle(
        self, job: str, outcomes: Sequence[Outcome], effort: str = "", purposes: Mapping[str, str] | None = None
    ) -> list[Outcome]:
        """Store replies and end their lines; returns the outcomes of lines that were still open.

        A line is settled once: an outcome for a line that is not open in this job changes nothing. With its last line
        the job is closed. `effort` is the reasoning effort that was asked for; `purposes` are what the replies are for,
        by key, if that is not a price.
        """
        cache, settled = self.cache, []
        known = self.get(job)
        with cache.transaction():
            for outcome in outcomes:
                changed = cache.connection.execute(
                    "UPDATE batch_lines SET state = ?, cost_usd = ?, reason = ? "
                    "WHERE job = ? AND key = ? AND state = 'open'",
                    (outcome.state, outcome.cost, outcome.reason, job, outcome.key),
                ).rowcount
                if not changed:
                    continue
                if outcome.completion is not None:
                    purpose = (purposes or {}).get(outcome.key, PRICE)
                    cache.insert(
                        outcome.key, known.endpoint, known.model, outcome.completion, purpose=purpose, effort=effort
                    )
                settled.append(outcome)
            if not cache.run("SELECT 1 FROM batch_lines WHERE job = ? AND state = 'open' LIMIT 1", (job,)):
                cache.run(
                    "UPDATE batch_jobs SET state = 'closed', ended = ? WHERE id = ? AND state = 'submitted'",
                    (time.time(), job),
                )
        return settled

    def close(self, job: str, state: Literal["closed", "void"] = "closed") -> None:
        """End a job. Its open lines end with it: they cost nothing and can be asked again."""
        with self.cache.transaction():
            line = "expired" if state == "closed" else "void"
            self.cache.run(
                "UPDATE batch_lines SET state = ?, cost_usd = 0 WHERE job = ? AND state = 'open'", (line, job)
            )
            self.cache.run("UPDATE batch_jobs SET state = ?, ended = ? WHERE id = ?", (state, time.time(), job))

    def spent(self, run: str) -> float:
        """Return the US dollars that the settled lines of a run's jobs cost, at worst where that is unknown."""
        (row,) = self.cache.run(
            "SELECT SUM(cost_usd) FROM batch_lines WHERE job IN (SELECT id FROM batch_jobs WHERE run = ?)", (run,)
        )
        return float(row[0] or 0.0)

    def has_submitted(self, run: str) -> bool:
        """Return whether a job of this run has reached the provider."""
        return bool(self.cache.run("SELECT 1 FROM batch_jobs WHERE run = ? AND remote != '' LIMIT 1", (run,)))

    def find_unfinished(self, endpoint: str, model: str) -> list[BatchJob]:
        """Return all unfinished jobs of a model, the oldest first."""
        rows = self.cache.run(
            "SELECT id FROM batch_jobs WHERE endpoint = ? AND model = ? AND state IN ('prepared', 'creating', "
            "'submitted') ORDER BY created",
            (endpoint, model),
        )
        return [self.get(job) for (job,) in rows]
