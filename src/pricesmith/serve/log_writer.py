"""The one thread that writes a log. Whatever waits is committed together, and is on disk before its caller goes on.

writer = LogWriter(path)
future = writer.submit(lambda connection: connection.execute(...))     future.result() returns after the commit
writer.close()
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from pricesmith.core.atomic import file_lock
from pricesmith.serve.log_file import check_log_file, find_log_file, open_for_writing, report_log_errors
from pricesmith.serve.log_records import LogUnavailable

MAX_WAITING = 10_000  # jobs; with more, new ones are refused
MAX_TOGETHER = 1_000  # jobs of one transaction

T = TypeVar("T")


@dataclass(slots=True)
class LogJob:
    """Work in a transaction, or `alone` and outside of one, and where its result goes."""

    work: Callable[[sqlite3.Connection], Any]
    alone: bool = False
    future: Future[Any] = field(default_factory=Future)


class LogWriter:
    """The thread, its connection and its lock on the log. Raises UsageError if another process writes the log."""

    def __init__(self, path: Path | str, start: Callable[[sqlite3.Connection], None] = lambda connection: None) -> None:
        self.path = find_log_file(path)
        check_log_file(self.path)
        self.start = start
        self.waiting: deque[LogJob] = deque()
        self.change = threading.Condition()
        self.closed = False
        self.files: dict[Path, tuple[int, int]] = {}
        opened: Future[None] = Future()
        self.thread = threading.Thread(target=self.run, args=(opened,), name=f"log {self.path.name}", daemon=True)
        self.thread.start()
        opened.result()

    def submit(self, work: Callable[[sqlite3.Connection], T], *, alone: bool = False) -> Future[T]:
        """Queue work. Its future has the result after the commit, or the error, and then nothing was stored."""
        job = LogJob(work, alone)
        with self.change:
            if self.closed:
                raise LogUnavailable(f"The log {self.path} is closed")
            if len(self.waiting) >= MAX_WAITING:
                raise LogUnavailable(f"The log {self.path} cannot keep up", got=f"{MAX_WAITING:,} writes are waiting")
            self.waiting.append(job)
            self.change.notify()
        return job.future

    def close(self) -> None:
        """Write what waits, and close the file."""
        with self.change:
            self.closed = True
            self.change.notify()
        self.thread.join()

    def run(self, opened: Future[None]) -> None:
        """The thread: it holds the lock and the connection, so that both are released where they were acquired."""
        lock = self.path.with_name(f"{self.path.name}.lock")
        try:
            with contextlib.ExitStack() as stack:
                stack.enter_context(file_lock(lock, f"Another process writes the log {self.path}"))
                with report_log_errors(self.path):
                    connection = open_for_writing(self.path)
                    stack.callback(connection.close)
                    self.remember_files()
                    self.start(connection)
                opened.set_result(None)
                while jobs := self.take_jobs():
                    self.work_off(connection, jobs)
        except BaseException as error:
            self.fail_waiting(error)
            if not opened.done():
                opened.set_exception(error)

    def take_jobs(self) -> list[LogJob]:
        """The jobs of the next transaction, waiting for one; none if the log was closed."""
        with self.change:
            while not self.waiting and not self.closed:
                self.change.wait()
            jobs: list[LogJob] = []
            while self.waiting and len(jobs) < MAX_TOGETHER:
                if self.waiting[0].alone and jobs:
                    break
                jobs.append(self.waiting.popleft())
                if jobs[-1].alone:
                    break
            return jobs

    def work_off(self, connection: sqlite3.Connection, jobs: list[LogJob]) -> None:
        """Do the jobs, commit, and pass on the results. If the commit fails, all of them fail."""
        jobs = [job for job in jobs if job.future.set_running_or_notify_cancel()]
        if not jobs:
            return
        outcomes: list[tuple[Any, BaseException | None]] = []
        try:
            with report_log_errors(self.path):
                self.check_files()
                if jobs[0].alone:
                    outcomes.append((jobs[0].work(connection), None))
                else:
                    connection.execute("BEGIN IMMEDIATE")
                    outcomes = [self.do_job(connection, job) for job in jobs]
                    connection.execute("COMMIT")
                self.check_files()
        except BaseException as error:
            with contextlib.suppress(sqlite3.Error):
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
            outcomes = [(None, error)] * len(jobs)
        for job, (value, failure) in zip(jobs, outcomes, strict=True):
            if failure is None:
                job.future.set_result(value)
            else:
                job.future.set_exception(failure)

    def do_job(self, connection: sqlite3.Connection, job: LogJob) -> tuple[Any, BaseException | None]:
        """The result of a job, or its own error, which leaves the other jobs of the transaction alone.

        Raises the errors of SQLite that concern the file.
        """
        connection.execute("SAVEPOINT job")
        failure: BaseException | None = None
        value = None
        try:
            value = job.work(connection)
        except sqlite3.Error as error:
            if type(error) in (sqlite3.OperationalError, sqlite3.DatabaseError, sqlite3.InternalError):
                raise
            failure = error
        except Exception as error:
            failure = error
        if failure is not None:
            connection.execute("ROLLBACK TO job")
        connection.execute("RELEASE job")
        return value, failure

    def remember_files(self) -> None:
        """Note which files are written: the log, and its journal once there is one."""
        for path in (self.path, self.path.with_name(f"{self.path.name}-wal")):
            with contextlib.suppress(FileNotFoundError):
                status = os.stat(path)
                self.files.setdefault(path, (status.st_dev, status.st_ino))

    def check_files(self) -> None:
        """Raise LogUnavailable if the log or its journal was removed or replaced: rows written to it would be lost."""
        self.remember_files()
        for path, identity in self.files.items():
            try:
                status = os.stat(path)
            except FileNotFoundError:
                status = None
            if status is None or (status.st_dev, status.st_ino) != identity:
                raise LogUnavailable(
                    f"The log {self.path} was removed or replaced while it is in use",
                    got=f"{path} is not the file that was opened",
                    hint="Restart the server.",
                )

    def fail_waiting(self, error: BaseException) -> None:
        """Refuse all jobs, present and future, after the thread has ended with an error."""
        with self.change:
            self.closed = True
            jobs = list(self.waiting)
            self.waiting.clear()
        for job in jobs:
            if job.future.set_running_or_notify_cancel():
                job.future.set_exception(error)
