"""An unfinished job as its run follows it, what is said about it, and how a run ends otherwise than with answers."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pricesmith.core.errors import PricesmithError
from pricesmith.core.progress import format_duration
from pricesmith.pricers.api.batch_jobs.protocol import ENDED, RemoteJob
from pricesmith.pricers.api.batch_jobs.store import BatchJob, Line
from pricesmith.pricers.api.errors import clean_message
from pricesmith.pricers.api.redaction import Secrets

CANCEL_HINT = "--cancel-batch in place of --batch cancels it; what is finished by then is charged and kept."
PENDING_HINT = f"Run the same command again later (without --no-wait it waits); {CANCEL_HINT}"
NOTE_SECONDS = 600.0  # between two notes about a running job
TOKEN_LIMIT = re.compile(r"limit:? *([\d,]+) *enqueued tokens|enqueued.{0,80}?limit:? *([\d,]+)", re.IGNORECASE)
TOKEN_LIMIT_WORDS = ("token_limit_exceeded", "enqueued token", "enqueued_token")


class BatchPending(PricesmithError):
    """Batch jobs are not finished, and the command does not wait for them."""

    exit_code = 75  # EX_TEMPFAIL of sysexits.h: run the same command later


@dataclass(frozen=True)
class CancelledJobs:
    """What became of cancelled jobs: their number and requests, the answers finished before, and what these cost."""

    jobs: int
    requests: int
    answers: int
    cost_usd: float


class OpenJob:
    """An unfinished job of this run: the open lines by key, and what was last said about it."""

    def __init__(self, job: BatchJob, lines: Sequence[tuple[int, Line]], tokens: float) -> None:
        self.id, self.since, self.tokens = job.id, job.sent or job.created, tokens
        self.lines = {line.key: line for _, line in lines}
        self.numbers = {number: line.key for number, line in lines}
        self.noted: tuple[object, ...] = ()
        self.noted_at = 0.0
        self.times_gone = 0

    @property
    def worst(self) -> float:
        """What the open lines cost at worst."""
        return sum(line.worst for line in self.lines.values())

    def describe_progress(self, remote: RemoteJob, now: float) -> str | None:
        """Return how far the job is in words; None if that has not changed, or was said a short while ago."""
        state = (remote.state, remote.finished, remote.failed)
        if state == self.noted or (self.noted and now - self.noted_at < NOTE_SECONDS and remote.state not in ENDED):
            return None
        self.noted, self.noted_at = state, now
        counts = [f"{remote.total:,} submitted"] if remote.total is not None else []
        counts += [f"{remote.finished:,} finished"] if remote.finished is not None else []
        counts += [f"{remote.failed:,} failed"] if remote.failed else []
        text = ", ".join([remote.state, *counts])
        return f"Batch job {remote.id}: {text}, after {format_duration(max(1.0, now - self.since))}."


def count_jobs(count: int) -> str:
    """Return a number of jobs in words."""
    return "1 batch job" if count == 1 else f"{count:,} batch jobs"


def describe_odd_results(counts: Mapping[str, int]) -> str:
    """Return the results that were ignored in words; empty if there are none."""
    return ", ".join(f"{counts[name]:,} {name}" for name in ("unknown", "repeated", "unreadable") if counts[name])


def is_token_limit(message: str) -> bool:
    """Return whether a job was rejected because too many input tokens wait, by the message in lower case."""
    return any(word in message for word in TOKEN_LIMIT_WORDS)


def lower_token_limit(tokens: float, queued: float, message: str) -> float:
    """Return how many input tokens may wait at once, after a job of `tokens` was rejected while `queued` waited.

    The provider's message may name the limit; the number of tokens is an estimate, so it may be lower still.
    """
    match = TOKEN_LIMIT.search(message)
    limit = float((match[1] or match[2]).replace(",", "")) if match else math.inf
    return min(limit, 0.9 * (tokens + queued) if queued else max(1.0, tokens / 2))


def failures_error(host: str, causes: Sequence[str], total: int) -> PricesmithError:
    """The error if too many of `total` requests have no answer; it names the most common cause."""
    return PricesmithError(
        f"{host} has not answered {len(causes):,} of {total:,} requests",
        got=Counter(causes).most_common(1)[0][0],
        hint="All answers so far are cached. Correct the cause and run the same command again, or leave out --batch to "
        "ask one by one.",
    )


def rejected_error(host: str, remote: RemoteJob, secrets: Secrets) -> PricesmithError:
    """The error if the provider did not accept a job; its message without the key and control codes."""
    reasons = [f"{error.code}: {error.message}" for error in remote.errors]
    return PricesmithError(
        f"{host} rejected the batch job",
        got=clean_message(reasons[0] if reasons else f"batch job {remote.id}, without a reason", secrets),
        hint="Nothing was charged. Correct the cause, or leave out --batch to ask one by one.",
    )
