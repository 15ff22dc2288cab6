"""Runs batch jobs: submits what is not answered yet, waits, stores each result once, and resumes after a kill.

    run = BatchRun(pricer, provider, clock=Clock())
    run.submit(requests)          returns when all that may wait at the provider has been submitted
    run.wait()                    returns when every request is answered or has failed; then the cache has the answers

The budget is that of the command. The worst case of a whole job at the batch price is reserved before it is submitted,
and replaced line by line by the real cost. Jobs that an earlier command submitted for the same requests count too.
"""

from __future__ import annotations

import hashlib
import itertools
import math
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from pricesmith.pricers.api.batch_jobs.http import CallFailed, Clock, OutcomeUnknown
from pricesmith.pricers.api.batch_jobs.open_job import (
    CANCEL_HINT,
    PENDING_HINT,
    BatchPending,
    CancelledJobs,
    OpenJob,
    count_jobs,
    describe_odd_results,
    failures_error,
    is_token_limit,
    lower_token_limit,
    rejected_error,
)
from pricesmith.pricers.api.batch_jobs.outcomes import CANCELLED, EXPIRED, ResultReader
from pricesmith.pricers.api.batch_jobs.protocol import ENDED, BatchProvider, RemoteJob
from pricesmith.pricers.api.batch_jobs.questions import BatchQuestions
from pricesmith.pricers.api.batch_jobs.sharding import BatchLimits, SizedRequest, take_shard
from pricesmith.pricers.api.batch_jobs.store import BatchJob, BatchStore, Line, Outcome
from pricesmith.pricers.api.client import RequestFailed
from pricesmith.pricers.api.errors import clean_message
from pricesmith.pricers.api.limits import max_failed

if TYPE_CHECKING:
    from pricesmith.pricers.api.pricer import ApiPricer, ApiRequest

SETTLE_SECONDS = 120.0  # after which a job that is not in the provider's list was never created
FIRST_PAUSE, MAX_PAUSE, PAUSE_FACTOR = 10.0, 300.0, 1.5  # seconds between two looks at the jobs
MAX_OUTAGE = 7200.0  # seconds for which the provider may be unreachable while a run waits
MAX_PROBES = 3  # requests that are asked one by one until one is answered
MAX_ROUNDS = 3  # times that a request is submitted
STORED_AT_ONCE = 200  # results in one transaction
GONE_STATUSES, MAX_TIMES_GONE = (404, 410), 3


class BatchRun:
    """The batch jobs of one model in one command. `failures` has the requests that have no answer in the end.

    `waits`: whether `wait` waits, or raises BatchPending if jobs are unfinished. `answered` are the keys of the
    replies that this run has stored, `asked` those of single requests. `cost` is what the settled lines of its jobs
    cost, in US dollars, `n_kept` the number of replies, also those that another command waits for.
    """

    def __init__(
        self,
        pricer: ApiPricer,
        provider: BatchProvider,
        questions: BatchQuestions,
        *,
        waits: bool = True,
        clock: Clock | None = None,
    ) -> None:
        self.pricer, self.provider, self.waits, self.clock = pricer, provider, waits, clock or Clock()
        self.store, self.budget, self.endpoint = BatchStore(pricer.cache), pricer.budget, pricer.endpoint
        self.questions = questions
        self.requests: dict[str, ApiRequest] = {}
        self.queue: deque[str] = deque()
        self.deferred: list[str] = []  # another command asks these one by one
        self.jobs: dict[str, OpenJob] = {}
        self.rounds: Counter[str] = Counter()
        self.failures: dict[str, RequestFailed] = {}
        self.answered: set[str] = set()
        self.asked: set[str] = set()
        self.n_kept, self.cost, self.run_id = 0, 0.0, ""
        self.effort, self.purposes = pricer.options.reasoning_effort, dict[str, str]()
        self.token_limit, self.last_success, self.cancelling = math.inf, 0.0, False

    def worst(self, request: ApiRequest) -> float:
        """Return what a request may cost at most in a batch job, in US dollars; 0 without a price."""
        return self.questions.worst(request)

    # Submission

    def submit(self, requests: Sequence[ApiRequest]) -> None:
        """Submit the requests that are neither answered nor in a job, as far as limits and budget allow.

        Raises BudgetExceeded if not even one fits, PricesmithError if the provider refuses them.
        """
        self.requests = {request.key: request for request in requests}
        self.purposes = {request.key: request.purpose for request in requests}
        self.run_id = hashlib.sha256("\n".join(sorted(self.requests)).encode()).hexdigest()
        cached = self.pricer.cache.find(self.requests)
        pending = [key for key in self.requests if key not in cached]
        if not pending:  # then the next model or step has what is left of the budget
            self.budget.earlier += self.store.spent(self.run_id)
            return
        self.endpoint.check_ready(self.pricer.now().date())
        self.count_earlier_costs()
        for job in self.store.find_open(pending):
            self.track(job)
        in_jobs = self.store.open_keys(pending)
        self.queue.extend(key for key in pending if key not in in_jobs)
        if in_jobs:
            self.note(f"{len(in_jobs):,} of {len(pending):,} requests are in batch jobs that were submitted before.")
        if self.queue and not self.store.has_submitted(self.run_id):
            self.settle_parameters()
        self.submit_waiting()

    def count_earlier_costs(self) -> None:
        """Count what earlier batch jobs of the same command cost as spent."""
        spent = self.budget.earlier + self.store.spent(self.run_id)
        if spent:
            with self.budget.change:
                self.budget.spent, self.budget.earlier = self.budget.spent + spent, 0.0
            self.note(f"Batch jobs of this command have cost up to ${spent:,.4f} before; that counts as spent.")

    def settle_parameters(self) -> None:
        """Ask the first request by itself at the standard price: a refused parameter would fail every line of a job."""
        for _ in range(MAX_PROBES):
            if not self.queue:
                return
            key = self.queue.popleft()
            is_settled = self.questions.ask(self.requests[key])
            self.asked.add(key)
            if is_settled:
                return

    def submit_waiting(self) -> None:
        """Submit jobs until everything is submitted or a limit or the budget is reached."""
        while self.queue and not self.cancelling:
            if not self.provider.is_exact and self.has_unresolved():
                return  # two jobs of unknown ids could be mistaken for each other
            shard = self.next_shard()
            if not shard:
                return
            self.submit_shard(shard)

    def next_shard(self) -> list[SizedRequest]:
        """Return the next requests that one job may have; empty if the rest must wait for other jobs."""
        queued = sum(job.tokens for job in self.jobs.values())
        room = math.inf
        with self.budget.change:
            self.budget.check_overrun()
            if self.budget.limit is not None:
                room = self.budget.limit - self.budget.spent - self.budget.reserved
        limits = BatchLimits(self.provider.limits.requests, self.provider.limits.bytes, self.token_limit)
        shard = take_shard(self.sized_requests(), limits, room=room, queued_tokens=queued)
        if shard or self.jobs:
            return shard
        first = next(self.sized_requests())
        if first.worst > room:
            with self.budget.change:
                raise self.budget.exceeded_error(first.worst)
        self.queue.popleft()
        self.fail(first.key, "a request that is over the limits of a batch job", 0.0)
        return self.next_shard() if self.queue else []

    def sized_requests(self) -> Iterator[SizedRequest]:
        """Yield the waiting requests as lines of a job, with their worst-case costs at the batch price."""
        for key in list(self.queue):
            request = self.requests[key]
            yield SizedRequest(
                key, self.provider.line(key, self.questions.body(request)), self.questions.worst(request)
            )

    def submit_shard(self, shard: Sequence[SizedRequest]) -> None:
        """Submit one job. What happens between its steps is on disk, so that a kill loses nothing."""
        lines = [Line(request.key, request.worst) for request in shard]
        for _ in shard:
            self.queue.popleft()
        created = self.store.create(self.run_id, self.endpoint.url, self.endpoint.model, lines)
        own_keys = set() if created is None else {line.key for line in created[1]}
        self.rejoin([request.key for request in shard if request.key not in own_keys])
        if created is None:
            return
        job, lines = created
        data = [request.data for request in shard if request.key in own_keys]
        self.track(job, sum(request.tokens for request in shard if request.key in own_keys))
        try:
            file = self.provider.upload(job.id, data)
        except (CallFailed, OutcomeUnknown):
            self.end(job.id, "void")
            raise
        self.store.mark_creating(job.id, self.clock.now(), file)
        self.jobs[job.id].since = self.clock.now()
        try:
            remote = self.provider.create(job.id, file, data)
        except OutcomeUnknown as error:
            self.note(f"It is unknown whether {self.endpoint.host} took a batch job ({error.got}); looking for it.")
            return
        except CallFailed:
            self.end(job.id, "void")
            raise
        self.store.mark_submitted(job.id, remote)
        self.note(f"Submitted batch job {remote} to {self.endpoint.host}: {len(data):,} requests.")

    def rejoin(self, keys: Sequence[str]) -> None:
        """Deal with requests that another command has answered or submitted in the meantime, or is asking now."""
        if not keys:
            return
        cached = self.pricer.cache.find(keys)
        for job in self.store.find_open(keys):
            if job.id not in self.jobs:
                self.track(job)
        elsewhere = self.store.open_keys(keys)
        self.deferred += [key for key in keys if key not in cached and key not in elsewhere]

    def track(self, job: BatchJob, tokens: float = 0.0) -> None:
        """Follow a job, and reserve the worst case of its open lines: it may have been sent already."""
        open_job = OpenJob(job, self.store.open_lines(job.id), tokens)
        self.jobs[job.id] = open_job
        with self.budget.change:
            self.budget.reserved += open_job.worst

    # Waiting

    def wait(self) -> None:
        """Return when every request is answered or has failed.

        Raises BatchPending if the run does not wait, PricesmithError if the provider fails or too many requests have
        no answer. After Ctrl-C the jobs keep running at the provider.
        """
        pause = FIRST_PAUSE
        if not self.unfinished:
            return
        self.last_success = self.clock.now()
        try:
            self.pricer.progress.start(f"waiting for batch jobs of {self.pricer.label}", len(self.requests))
            while self.unfinished:
                before = (len(self.jobs), len(self.queue), len(self.answered))
                self.step_through_outages()
                if not self.unfinished:
                    break
                if not self.waits:
                    raise self.pending_error()
                changed = before != (len(self.jobs), len(self.queue), len(self.answered))
                pause = FIRST_PAUSE if changed else pause
                self.clock.sleep(pause)
                pause = min(MAX_PAUSE, pause * PAUSE_FACTOR)
        except KeyboardInterrupt:
            if self.jobs:
                self.note(
                    f"The batch job keeps running at {self.endpoint.host}. Run the same command to collect its "
                    f"answers; {CANCEL_HINT}"
                )
            raise
        self.check_failures()

    @property
    def unfinished(self) -> bool:
        """Whether a request still waits for its answer."""
        return bool(self.jobs or self.queue or self.deferred)

    def step_through_outages(self) -> None:
        """Look at the jobs; a provider that cannot be reached for a while does not end a run that waits for a day."""
        try:
            self.step()
        except CallFailed as error:
            if not (error.is_temporary and self.waits) or self.clock.now() - self.last_success > MAX_OUTAGE:
                raise
            self.note(f"{self.endpoint.host} cannot be reached ({error.got}); trying again.")
        else:
            self.last_success = self.clock.now()

    def step(self) -> None:
        """Look at each job once, store what has ended, and submit what may be submitted now."""
        for id in list(self.jobs):
            self.advance(id)
        cached = self.pricer.cache.find(self.deferred)
        self.queue.extend(key for key in self.deferred if key not in cached)
        self.deferred.clear()
        self.submit_waiting()

    def advance(self, id: str) -> None:
        """Look at one job."""
        job = self.store.get(id)
        if job.state in ("closed", "void"):  # by another command
            reasons = self.store.ended_lines(id)
            keys = [key for key in self.jobs[id].lines if key in self.requests]
            self.forget(id)
            if not self.cancelling:
                self.rejoin([key for key in keys if reasons[key] != CANCELLED])
                for key in keys:
                    if reasons[key] == CANCELLED:
                        self.fail(key, CANCELLED, 0.0)
        elif job.state == "submitted":
            self.poll(job)
        elif self.store.adopt(id):
            if job.state == "prepared":
                self.end(id, "void")
            else:
                self.recover(job)

    def recover(self, job: BatchJob) -> None:
        """Find out whether a job was created, after a kill or a lost reply."""
        known = {*self.store.remote_ids(), *job.foreign_ids}
        matches = self.provider.find(job.id, job.sent or job.created, self.store.count(job.id), known)
        if matches:
            self.store.mark_submitted(job.id, matches[0], presumed=not self.provider.is_exact)
            self.note(f"Found batch job {matches[0]} at {self.endpoint.host}, which was submitted before.")
            self.poll(self.store.get(job.id))
        elif self.clock.now() - (job.sent or 0.0) >= SETTLE_SECONDS:
            self.end(job.id, "void")

    def has_unresolved(self) -> bool:
        """Return whether it is unknown which of the provider's jobs one of ours is."""
        jobs = [self.store.get(id) for id in self.jobs]
        return any(job.state == "creating" or job.presumed for job in jobs)

    def poll(self, job: BatchJob) -> None:
        """Ask the provider about a job, and deal with its end."""
        try:
            remote = self.provider.status(job.remote)
        except CallFailed as error:
            self.count_gone(job.id, error, "batch job is")
            return
        if (text := self.jobs[job.id].describe_progress(remote, self.clock.now())) is not None:
            self.note(text)
        if remote.state == "rejected":
            self.reject(job, remote)
        elif remote.state in ENDED:
            self.collect(job, remote)

    # Ends

    def collect(self, job: BatchJob, remote: RemoteJob) -> None:
        """Store the results of an ended job, each once, and close it."""
        open_job = self.jobs[job.id]
        settled = self.store.ended_lines(job.id).keys()
        reader = ResultReader(dict(open_job.lines), self.questions.read, settled)
        try:
            outcomes = reader.read(self.provider.results(remote))
            while part := list(itertools.islice(outcomes, STORED_AT_ONCE)):
                self.settle(job.id, part)
        except CallFailed as error:
            self.count_gone(job.id, error, "results are")
            return
        if job.presumed and not reader.seen and reader.counts["unknown"]:
            self.store.mark_foreign(job.id)
            self.recover(self.store.get(job.id))
            return
        reason = CANCELLED if remote.state == "cancelled" else EXPIRED
        self.settle(job.id, reader.missing(charged=remote.state == "completed", reason=reason))
        if odd := describe_odd_results(reader.counts):
            self.note(f"Results of {self.endpoint.host} that were ignored: {odd}.")
        self.end(job.id, "closed")

    def settle(self, id: str, outcomes: Sequence[Outcome]) -> None:
        """Store outcomes, replace their reservations by their costs, and put what can be asked again into the queue."""
        open_job = self.jobs[id]
        settled = {outcome.key for outcome in self.store.settle(id, outcomes, self.effort, self.purposes)}
        for outcome in outcomes:
            line = open_job.lines[outcome.key]
            cost = outcome.cost if outcome.key in settled else 0.0  # else another command has settled it
            self.budget.commit(line.worst, cost, failed=outcome.state == "failed" and cost > 0)
            del open_job.lines[outcome.key]
            self.n_kept += outcome.state == "answered"
            self.cost += cost
            if outcome.key not in self.requests:
                continue
            if outcome.state == "answered":
                self.answered.add(outcome.key)
                self.pricer.progress.advance()
            elif outcome.state == "failed":
                self.fail(outcome.key, outcome.reason, cost)
            else:
                self.ask_again(outcome.key, outcome.reason)

    def ask_again(self, key: str, reason: str) -> None:
        """Put a request that was not answered into the queue, a limited number of times."""
        self.rounds[key] += 1
        if self.cancelling:
            return
        if self.rounds[key] >= MAX_ROUNDS or reason == CANCELLED:
            self.fail(key, reason or EXPIRED, 0.0)
        else:
            self.queue.append(key)

    def reject(self, job: BatchJob, remote: RemoteJob) -> None:
        """Deal with a job that the provider did not accept: nothing was charged.

        Too many waiting tokens: smaller jobs, or later. Errors about some lines: the others are asked again. Raises
        PricesmithError if it is about all of them.
        """
        open_job = self.jobs[job.id]
        keys, tokens, others = list(open_job.lines), open_job.tokens, len(self.jobs) - 1
        errors = {open_job.numbers[error.line]: error for error in remote.errors if error.line in open_job.numbers}
        codes = " ".join(f"{error.code} {error.message}".lower() for error in remote.errors)
        self.end(job.id, "void", ask_again=False)
        own_keys = [key for key in keys if key in self.requests]
        if is_token_limit(codes) and (others or len(keys) > 1):
            queued = sum(job.tokens for job in self.jobs.values())
            self.token_limit = min(self.token_limit, lower_token_limit(tokens, queued, codes))
            self.note(f"{self.endpoint.host} lets fewer tokens wait: the next batch jobs are smaller, or later.")
            self.queue.extend(own_keys)
        elif errors and len(errors) < len(keys):
            for key in own_keys:
                if key in errors:
                    self.fail(key, clean_message(f"rejected: {errors[key].message}", self.endpoint.secrets), 0.0)
                else:
                    self.ask_again(key, "rejected with other requests")
        else:
            raise rejected_error(self.endpoint.host, remote, self.endpoint.secrets)

    def count_gone(self, id: str, error: CallFailed, what: str) -> None:
        """End a job whose results cannot be had: its lines failed, and may have been charged.

        Only after several looks: a provider may not know at once what it has just created. Raises `error` if it does
        not say that something is gone; then the same command reads the results later.
        """
        if error.status not in GONE_STATUSES:
            raise error
        self.jobs[id].times_gone += 1
        if self.jobs[id].times_gone < MAX_TIMES_GONE:
            return
        reason = f"the {what} no longer at {self.endpoint.host}"
        lines = list(self.jobs[id].lines.values())
        self.settle(id, [Outcome(line.key, "failed", line.worst, reason) for line in lines])
        self.end(id, "closed")

    def end(self, id: str, state: str, *, ask_again: bool = True) -> None:
        """Close a job or declare it void; its open lines can be asked again."""
        keys = [key for key in self.jobs[id].lines if key in self.requests]
        self.store.close(id, "void" if state == "void" else "closed")
        self.forget(id)
        if ask_again and not self.cancelling:
            self.queue.extend(keys)

    def forget(self, id: str) -> None:
        """Stop following a job and free what is still reserved for it."""
        job = self.jobs.pop(id)
        for line in job.lines.values():
            self.budget.commit(line.worst, 0.0)

    def fail(self, key: str, reason: str, cost: float) -> None:
        """Record that a request has no answer."""
        self.failures[key] = RequestFailed(f"{self.endpoint.model} sent no reply", got=reason, cost_usd=cost)

    # Cancelling

    def cancel(self) -> CancelledJobs:
        """Cancel all unfinished jobs of this model, and collect what was finished.

        Raises BatchPending if the run does not wait, and a job has not ended.
        """
        self.cancelling = True
        for job in self.store.find_unfinished(self.endpoint.url, self.endpoint.model):
            self.track(job)
        if self.jobs:
            self.endpoint.check_key()
        count, requests = len(self.jobs), sum(len(job.lines) for job in self.jobs.values())
        asked: set[str] = set()
        while self.jobs:
            for id in list(self.jobs):
                job = self.store.get(id)
                if job.state == "submitted" and id not in asked:
                    self.provider.cancel(job.remote)
                    asked.add(id)
                self.advance(id)
            if self.jobs and not self.waits:
                raise self.pending_error()
            if self.jobs:
                self.clock.sleep(FIRST_PAUSE)
        return CancelledJobs(count, requests, self.n_kept, self.cost)

    def close(self) -> None:
        """Close the connections."""
        self.provider.close()
        self.questions.close()

    # Notes and errors

    def note(self, text: str) -> None:
        """Note one line."""
        self.pricer.progress.note(text)

    def pending_error(self) -> BatchPending:
        """The error if jobs are unfinished and the command does not wait."""
        waiting = sum(len(job.lines) for job in self.jobs.values())
        rest = len(self.queue) + len(self.deferred)
        queued = f", and {rest:,} are not submitted yet" if rest else ""
        got = f"{waiting:,} requests in {count_jobs(len(self.jobs))} at {self.endpoint.host}{queued}"
        return BatchPending(f"The answers of {self.pricer.label} are not finished", got=got, hint=PENDING_HINT)

    def check_failures(self) -> None:
        """Raise PricesmithError if more requests have no answer than an evaluation may leave unanswered."""
        if len(self.failures) > max_failed(len(self.requests)):
            raise failures_error(
                self.endpoint.host, [error.got for error in self.failures.values()], len(self.requests)
            )
