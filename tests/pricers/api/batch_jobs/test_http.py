"""Calls about batch jobs: what is repeated and what is not, and that the key stays where it belongs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from pricesmith.core.errors import PricesmithError
from pricesmith.pricers.api.batch_jobs.http import BatchHttp, CallFailed, OutcomeUnknown
from pricesmith.testing.batch_server import FakeBatchServer, StepClock


@pytest.fixture
def fake() -> Iterator[FakeBatchServer]:
    """A fake provider."""
    with FakeBatchServer("openai") as fake:
        yield fake


def open_http(fake: FakeBatchServer, key: str = "") -> BatchHttp:
    """Calls to the fake provider, whose pauses take no time."""
    endpoint = fake.endpoint()
    return BatchHttp(replace(endpoint, key=key or endpoint.key), timeout=120.0, clock=StepClock())


def test_a_call_that_changes_nothing_is_repeated(fake: FakeBatchServer) -> None:
    """After a status 500, with growing pauses."""
    fake.faults["status 500"] = 2
    fake.create("m", "n", [])
    http = open_http(fake)
    assert http.call("GET", f"{fake.url}/batches/job_1")["id"] == "job_1"
    assert fake.events.count("status") == 3


def test_a_call_gives_up_after_several_tries(fake: FakeBatchServer) -> None:
    """The error says that nothing is lost."""
    fake.faults["status 500"] = 99
    fake.create("m", "n", [])
    with pytest.raises(CallFailed, match="refuses a call") as caught:
        open_http(fake).call("GET", f"{fake.url}/batches/job_1")
    assert caught.value.status == 500
    assert "run the same command again later" in str(caught.value)


def test_a_wrong_key_is_not_tried_again_and_not_shown(fake: FakeBatchServer) -> None:
    """The hint names the variable."""
    with pytest.raises(CallFailed) as caught:
        open_http(fake, "sk-wrong-0123456789").call("GET", f"{fake.url}/batches/job_1")
    assert caught.value.status == 401
    assert "Check the key in MADE_KEY" in str(caught.value)
    assert len(fake.headers) == 1


@pytest.mark.parametrize("fault", ["create lost", "create 500"])
def test_the_call_that_creates_a_job_is_not_repeated(fault: str, fake: FakeBatchServer) -> None:
    """Nobody knows whether it was taken."""
    fake.faults[fault] = 1
    fake.files["file-1"] = b'{"custom_id": "a", "body": {"model": "m"}}\n'
    body = {"input_file_id": "file-1", "metadata": {"pricesmith_job": "x"}}
    with pytest.raises(OutcomeUnknown):
        open_http(fake).call("POST", f"{fake.url}/batches", body=body, creates=True)
    assert len(fake.jobs) == 1


def test_an_unreachable_provider_is_not_one_that_may_have_taken_the_job() -> None:
    """Without a connection nothing was sent."""
    with FakeBatchServer("openai") as fake:
        http = open_http(fake)
        url = f"{fake.url}/batches"
    with pytest.raises(CallFailed, match="does not answer"):
        http.call("POST", url, body={}, creates=True)


def test_a_truncated_download_is_repeated_whole(fake: FakeBatchServer) -> None:
    """The file has no line twice."""
    fake.create("m", "n", [])
    fake.finish(fake.jobs["job_1"])
    fake.jobs["job_1"].extra_results = [b'{"a": 1}', b'{"b": 2}']
    fake.faults["results cut"] = 2
    with open_http(fake).download(f"{fake.url}/files/out-job_1/content") as file:
        assert file.read() == b'{"a": 1}\n{"b": 2}\n'
    assert fake.events.count("results") == 3


def test_a_download_that_is_never_whole_is_an_error(fake: FakeBatchServer) -> None:
    """What has arrived is not read: a line may be missing."""
    fake.create("m", "n", [])
    fake.finish(fake.jobs["job_1"])
    fake.jobs["job_1"].extra_results = [b'{"a": 1}']
    fake.faults["results cut"] = 99
    with pytest.raises(PricesmithError), open_http(fake).download(f"{fake.url}/files/out-job_1/content"):
        pass


def test_only_needed_headers_are_sent(fake: FakeBatchServer) -> None:
    """The key in its header, and nothing about this machine or the libraries."""
    fake.create("m", "n", [])
    open_http(fake).call("GET", f"{fake.url}/batches/job_1")
    assert fake.headers[0]["authorization"] == f"Bearer {fake.key}"
    assert set(fake.headers[0]) <= {"host", "accept", "accept-encoding", "authorization", "user-agent", "connection"}
    assert fake.headers[0]["user-agent"] == "pricesmith"
