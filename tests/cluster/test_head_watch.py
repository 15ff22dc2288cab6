"""A first node that is gone: the command ends with an error that says so, at once or when it waits inside Ray."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import pytest

from pricesmith.cluster import head_watch
from pricesmith.cluster.head_watch import HeadWatch, watch_head
from pricesmith.core.errors import PricesmithError


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Connections every hundredth of a second, lost at once."""
    monkeypatch.setattr(head_watch, "PERIOD", 0.01)
    monkeypatch.setattr(head_watch, "LOST_SECONDS", 0.0)
    monkeypatch.setattr(head_watch, "GRACE", 600.0)


@pytest.fixture
def head() -> Iterator[socket.socket]:
    """A port that accepts connections."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


def address_of(server: socket.socket) -> str:
    return f"127.0.0.1:{server.getsockname()[1]}"


@pytest.mark.usefixtures("quick")
def test_a_lost_first_node_is_an_error_with_a_remedy(head: socket.socket) -> None:
    """The exception in the main thread becomes the error; nobody has interrupted the command."""
    with (
        pytest.raises(PricesmithError, match="first node of the cluster is gone") as caught,
        watch_head(address_of(head)),
    ):
        head.close()
        while True:
            time.sleep(0.01)
    assert "no answer from 127.0.0.1" in caught.value.got
    assert "it resumes" in caught.value.hint


@pytest.mark.usefixtures("quick")
def test_a_process_that_cannot_be_interrupted_ends_with_the_error(
    head: socket.socket, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Instead of without a word, as Ray would end it."""
    monkeypatch.setattr(head_watch, "GRACE", 0.0)
    ended: list[int] = []
    watch = HeadWatch(address_of(head), interrupt=lambda: None, end=ended.append)
    head.close()
    watch.run()
    assert ended == [1]
    assert "The first node of the cluster is gone\n  got: no answer" in capfd.readouterr().err


@pytest.mark.usefixtures("quick")
def test_a_first_node_that_answers_is_watched_until_the_block_ends(head: socket.socket) -> None:
    """Errors of the block stay as they are."""
    for _ in range(3):
        with pytest.raises(ValueError, match="of the block"), watch_head(address_of(head)):
            head.accept()[0].close()
            raise ValueError("of the block")
    for thread in threading.enumerate():
        if thread.name == "head watch":
            thread.join(30)
            assert not thread.is_alive()


@pytest.mark.usefixtures("quick")
def test_a_block_of_another_thread_is_not_watched(head: socket.socket) -> None:
    """Only the main thread can be interrupted."""
    head_address, names = address_of(head), []
    head.close()

    def run() -> None:
        with watch_head(head_address):
            names.extend(thread.name for thread in threading.enumerate())

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert names
    assert "head watch" not in names
