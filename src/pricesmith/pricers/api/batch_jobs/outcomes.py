"""What the results of a job mean for its lines. Results are not trusted: unknown and repeated keys are only counted.

reader = ResultReader({line.key: line}, read_reply)
for outcome in reader.read(provider.results(job)): ...
reader.counts["unknown"], reader.missing()
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

from pricesmith.pricers.api.batch_jobs.protocol import LineResult
from pricesmith.pricers.api.batch_jobs.store import Line, Outcome
from pricesmith.pricers.api.formats.base import ApiError
from pricesmith.pricers.api.response_cache import Completion

EXPIRED, CANCELLED = "expired in a batch job", "cancelled in a batch job"
UNREADABLE = "a result that cannot be read"
MAX_REASON_CHARS = 300
ReadReply = Callable[[int, bytes], "tuple[Completion, float | None] | ApiError"]


class ResultReader:
    """Reads the results of one job.

    `read_reply` interprets the status and the body of one reply: a completion and what counts against the budget (None
    if unknown), or an error. `settled` are keys of the job whose results were stored before.

    `counts` has the results that are `unknown` (no open line has their key), `repeated` and `unreadable`.
    """

    def __init__(self, lines: Mapping[str, Line], read_reply: ReadReply, settled: Collection[str] = ()) -> None:
        self.lines, self.read_reply, self.settled = lines, read_reply, settled
        self.seen: set[str] = set()
        self.counts: Counter[str] = Counter()

    def read(self, results: Iterable[LineResult]) -> Iterator[Outcome]:
        """Yield the outcome of each line that has a result, once."""
        for result in results:
            if result.state == "unreadable":
                self.counts["unreadable"] += 1
            elif result.key not in self.lines:
                self.counts["settled" if result.key in self.settled else "unknown"] += 1
            elif result.key in self.seen:
                self.counts["repeated"] += 1
            else:
                self.seen.add(result.key)
                yield self.outcome(result)

    def outcome(self, result: LineResult) -> Outcome:
        """Return the outcome of one result. A request that failed is not charged; a reply of unknown cost is, at worst.

        `expired` lines can be asked again.
        """
        if result.state != "done":
            return Outcome(result.key, "expired", reason=EXPIRED if result.state == "expired" else CANCELLED)
        reply = self.read_reply(result.status, json.dumps(result.body).encode())
        worst = self.lines[result.key].worst
        if isinstance(reply, tuple):
            completion, cost = reply
            return Outcome(result.key, "answered", worst if cost is None else cost, completion=completion)
        again = reply.kind == "retry" and not 200 <= result.status < 300
        reason = f"{reply.cause}: {reply.message}" if reply.message else reply.cause
        # A reply of status 200 that cannot be read was charged for; asking again would pay twice.
        charged = worst if 200 <= result.status < 300 else 0.0
        return Outcome(result.key, "expired" if again else "failed", charged, reason[:MAX_REASON_CHARS])

    def missing(self, *, charged: bool, reason: str = EXPIRED) -> list[Outcome]:
        """Return the outcomes of the lines without a result: they can be asked again, at no cost.

        If results were unreadable, these lines may be theirs: they failed, and may have been charged (`charged`).
        """
        rest = [line for key, line in self.lines.items() if key not in self.seen]
        if charged and self.counts["unreadable"]:
            return [Outcome(line.key, "failed", line.worst, UNREADABLE) for line in rest]
        return [Outcome(line.key, "expired", reason=reason) for line in rest]
