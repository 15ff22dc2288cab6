"""Uploaded files: priced in the background by the code of `price --file`, downloaded under safe names."""

from __future__ import annotations

import csv
import errno
import io
import json
import subprocess
import sys
import threading
import time
import zipfile
from pathlib import Path
from typing import Any

import httpx2
import pytest
from fastapi.testclient import TestClient

import pricesmith as ps
from pricesmith.serve import jobs
from pricesmith.serve.jobs import FileJob, JobPricer, JobRecord, UploadLimits
from pricesmith.serve.keys import add_key
from pricesmith.serve.uploads import content_disposition, safe_name
from pricesmith.testing import make_csv

ROWS = 40


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A CSV file of 40 made goods."""
    return make_csv(tmp_path_factory.mktemp("table") / "new.csv", ROWS, seed=5).read_bytes()


@pytest.fixture
def file_client(open_client: Any, tmp_path: Path) -> Any:
    """A client of a server whose uploads are in this test's folder."""
    with open_client(uploads=tmp_path / "uploads", upload_limits=UploadLimits(upload=200_000, waiting=3)) as client:
        yield client


def wait(client: TestClient, id: str) -> dict[str, Any]:
    """The state of an uploaded file as soon as it has ended."""
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline:
        state = client.get(f"/v1/files/{id}").json()
        if state["state"] in ("done", "failed"):
            return state
        time.sleep(0.02)
    raise AssertionError("the file was not priced in time")


def upload(client: TestClient, content: bytes, name: str = "new.csv", **fields: Any) -> Any:
    return client.post("/v1/files", files={"file": (name, content)}, data=fields)


def rows_of(content: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(content.decode())))


def make_zip(*names: str) -> bytes:
    """An archive of small tables."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name in names:
            archive.writestr(name, "name\nCobalt drill")
    return content.getvalue()


def test_an_uploaded_file_is_priced_as_on_the_command_line(
    file_client: TestClient, table: bytes, served_models: dict[str, Path], tmp_path: Path
) -> None:
    answer = upload(file_client, table, comparables=2)
    assert answer.status_code == 202
    state = wait(file_client, answer.json()["id"])
    assert (state["state"], state["rows_done"], state["rows"], state["priced"]) == ("done", ROWS, ROWS, ROWS)
    assert answer.headers["location"] == f"/v1/files/{state['id']}"
    result = file_client.get(state["result"])
    (tmp_path / "new.csv").write_bytes(table)
    ps.price_file(served_models["ridge"], tmp_path / "new.csv", tmp_path / "prices.csv", comparables=2)
    assert result.content == (tmp_path / "prices.csv").read_bytes()
    assert result.headers["content-disposition"].startswith('attachment; filename="new-prices.csv"')


@pytest.mark.parametrize("form", ["xlsx", "parquet", "jsonl"])
def test_the_result_has_the_format_that_was_asked_for(file_client: TestClient, table: bytes, form: str) -> None:
    state = wait(file_client, upload(file_client, table, format=form).json()["id"])
    result = file_client.get(state["result"])
    assert state["result_name"] == f"new-prices.{form}"
    assert result.content.startswith({"xlsx": b"PK", "parquet": b"PAR1", "jsonl": b"{"}[form])


def test_formulas_are_escaped_unless_every_text_must_join(file_client: TestClient) -> None:
    rows = [{"name": "Cobalt drill, size 12 kg", "sku": "=1+1"}, {"name": "Aster lamp of brass", "sku": "-5"}]
    content = "\n".join(json.dumps(row) for row in rows).encode()
    state = wait(file_client, upload(file_client, content, "new.jsonl", format="csv", map="title=name").json()["id"])
    escaped = rows_of(file_client.get(state["result"]).content)
    exact = rows_of(file_client.get(state["result"], params={"escape": False}).content)
    assert [row["sku"] for row in escaped] == ["'=1+1", "-5"]
    assert [row["sku"] for row in exact] == ["=1+1", "-5"]
    assert [row["price"] for row in escaped] == [row["price"] for row in exact]


@pytest.mark.parametrize(
    ("name", "content", "what"),
    [
        ("new.csv", b"\xff\xd8\xff picture", "is not what its name says"),
        ("new.csv", b"a,b\n1,2\n", "no column"),
        ("new.zip", make_zip("a.csv", "b.csv"), "An upload takes one file"),
        ("new.xlsx", b"PK\x03\x04 and nothing more", ""),
        ("new.parquet", b"PAR1 and nothing more", ""),
    ],
)
def test_a_file_that_cannot_be_read_fails_with_a_reason(
    file_client: TestClient, tmp_path: Path, name: str, content: bytes, what: str
) -> None:
    state = wait(file_client, upload(file_client, content, name).json()["id"])
    assert state["state"] == "failed"
    assert what in state["error"]["what"] or what in state["error"]["got"]
    assert str(tmp_path) not in json.dumps(state)
    assert "--" not in json.dumps(state["error"])
    assert set(state["error"]) == {"what", "got", "allowed", "next", "request_id"}
    assert file_client.get(f"/v1/files/{state['id']}/result").status_code == 409


@pytest.mark.parametrize(
    ("form", "status"),
    [
        ({"files": {"file": ("new.exe", b"MZ")}}, 422),
        ({"files": {"file": ("new.pkl", b"\x80\x04")}}, 422),
        ({"files": {"file": ("new.csv", b"a" * 300_000)}}, 413),
        ({"files": {"file": ("new.csv", b"name\nx"), "other": ("b.csv", b"name\nx")}}, 422),
        ({"data": {"model": "ridge"}, "files": {"not a file": (None, "x")}}, 422),
        ({"files": {"file": ("new.csv", b"name\nx")}, "data": {"comparables": "99"}}, 422),
        ({"files": {"file": ("new.csv", b"name\nx")}, "data": {"model": "none"}}, 404),
        ({"files": {"file": ("new.csv", b"name\nx")}, "data": {"map": "title"}}, 422),
        ({"files": {"file": ("new.csv", b"name\nx")}, "data": {"model": "x" * 20_000}}, 413),
        ({"json": {"file": "x"}}, 415),
        ({"content": b"--a\r\nbroken", "headers": {"content-type": "multipart/form-data; boundary=a"}}, 400),
        ({"content": b"name\nx", "headers": {"content-type": "multipart/form-data"}}, 400),
    ],
)
def test_a_wrong_upload_is_refused_and_leaves_nothing(
    file_client: TestClient, tmp_path: Path, form: dict[str, Any], status: int
) -> None:
    answer = file_client.post("/v1/files", **form)
    assert (answer.status_code, set(answer.json())) == (status, {"error"})
    assert [path.name for path in (tmp_path / "uploads").glob("f*")] == []


def test_no_more_files_wait_than_allowed(open_client: Any, table: bytes, tmp_path: Path) -> None:
    with open_client(uploads=tmp_path / "uploads", upload_limits=UploadLimits(waiting=0)) as client:
        answer = upload(client, table)
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "60")


def test_the_room_for_uploads_is_limited(open_client: Any, table: bytes, tmp_path: Path) -> None:
    with open_client(uploads=tmp_path / "uploads", upload_limits=UploadLimits(total=1_000)) as client:
        answer = upload(client, table)
    assert answer.status_code == 429
    assert [path.name for path in (tmp_path / "uploads").glob("f*")] == []


def test_a_server_that_cannot_store_files_says_so(open_client: Any, table: bytes, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with open_client(uploads=tmp_path / "file" / "uploads") as client:
        answer = upload(client, table)
    assert (answer.status_code, answer.json()["error"]["what"]) == (503, "Files cannot be stored")


def test_a_result_that_was_removed_is_missed(file_client: TestClient, table: bytes, tmp_path: Path) -> None:
    state = wait(file_client, upload(file_client, table).json()["id"])
    (tmp_path / "uploads" / state["id"] / "prices.csv").unlink()
    assert file_client.get(state["result"]).status_code == 404


def test_a_deleted_file_is_gone(file_client: TestClient, table: bytes, tmp_path: Path) -> None:
    state = wait(file_client, upload(file_client, table).json()["id"])
    assert file_client.delete(f"/v1/files/{state['id']}").status_code == 204
    assert file_client.get(f"/v1/files/{state['id']}").status_code == 404
    assert [path.name for path in (tmp_path / "uploads").glob("f*")] == []


def test_a_file_that_is_deleted_while_it_is_priced_is_gone_and_the_next_one_is_priced(
    file_client: TestClient, table: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on = threading.Event(), threading.Event()
    work = JobPricer.work

    def wait_for_the_test(pricer: JobPricer, function: Any) -> Any:
        begun.set()
        assert go_on.wait(240)
        return work(pricer, function)

    monkeypatch.setattr(JobPricer, "work", wait_for_the_test)
    first, second = upload(file_client, table).json()["id"], upload(file_client, table).json()["id"]
    assert begun.wait(240)
    state = file_client.get(f"/v1/files/{first}").json()
    assert (state["state"], state["rows"], state["rows_done"]) == ("pricing", ROWS, 0)
    assert file_client.get(f"/v1/files/{second}").json()["files_before"] == 1
    assert file_client.get(f"/v1/files/{first}/result").status_code == 409
    assert file_client.delete(f"/v1/files/{first}").status_code == 204
    assert file_client.get(f"/v1/files/{first}").status_code == 404
    go_on.set()
    assert wait(file_client, second)["state"] == "done"
    assert [path.name for path in (tmp_path / "uploads").glob("f*")] == [second]


def test_a_file_that_is_deleted_as_its_end_is_stored_is_gone_without_an_error(
    file_client: TestClient, table: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The state in memory says that it is done before its record is on disk, and its folder goes meanwhile."""
    stored, save = threading.Event(), FileJob.save

    def delete_and_save(job: FileJob) -> None:
        if job.record.state == "done" and not stored.is_set():
            assert file_client.delete(f"/v1/files/{job.record.id}").status_code == 204
            stored.set()
            raise FileNotFoundError(errno.ENOENT, "No such file or directory", "job.json")
        save(job)

    errors: list[Any] = []
    monkeypatch.setattr(FileJob, "save", delete_and_save)
    monkeypatch.setattr(jobs.log, "exception", lambda *parts: errors.append(parts))
    first, second = upload(file_client, table).json()["id"], upload(file_client, table).json()["id"]
    assert wait(file_client, second)["state"] == "done"
    assert file_client.get(f"/v1/files/{first}").status_code == 404
    assert [path.name for path in (tmp_path / "uploads").glob("f*")] == [second]
    assert stored.is_set()
    assert errors == []


def test_a_file_belongs_to_the_key_that_uploaded_it(open_client: Any, table: bytes, tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    owner, other = ({"authorization": f"Bearer {add_key(path, name)}"} for name in ("owner", "other"))
    with open_client(uploads=tmp_path / "uploads", keys_path=path) as client:
        id = client.post("/v1/files", files={"file": ("new.csv", table)}, headers=owner).json()["id"]
        for method, end in (("GET", ""), ("GET", "/result"), ("DELETE", "")):
            assert client.request(method, f"/v1/files/{id}{end}", headers=other).status_code == 404
        assert client.get(f"/v1/files/{id}").status_code == 401
        assert client.get(f"/v1/files/{id}", headers=owner).status_code == 200


def test_a_job_that_was_stopped_uses_its_parts_again(
    open_client: Any, table: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pricesmith.serve.jobs.PART_ROWS", 10)
    work, calls = JobPricer.work, 0

    def stop_later(pricer: JobPricer, function: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 5:  # two calls a part: the quotes, and whether anything is similar
            pricer.job.stopping = lambda: True
        return work(pricer, function)

    monkeypatch.setattr(JobPricer, "work", stop_later)
    with open_client(uploads=tmp_path / "uploads") as client:
        id = upload(client, table).json()["id"]
        folder = tmp_path / "uploads" / id
        deadline = time.monotonic() + 240
        while calls < 5 and time.monotonic() < deadline:
            time.sleep(0.01)
    assert len(list(folder.glob("prices.csv.parts/part-*.parquet"))) == 2
    with open_client(uploads=tmp_path / "uploads") as client:
        assert wait(client, id)["state"] == "done"
        assert len(rows_of(client.get(f"/v1/files/{id}/result").content)) == ROWS
    assert calls == 9  # the two parts that were left


@pytest.mark.parametrize("id", ["x", "..", "f" + "0" * 24, "%2e%2e%2fjob.json", "f" + "0" * 400])
def test_an_unknown_id_has_no_file(file_client: TestClient, id: str) -> None:
    assert file_client.get(f"/v1/files/{id}/result").status_code in (404, 422)


def test_a_job_goes_on_after_a_restart(open_client: Any, table: bytes, tmp_path: Path) -> None:
    folder = tmp_path / "uploads" / ("f" + "1" * 24)
    (folder / "input").mkdir(parents=True)
    (folder / "input" / "new.csv").write_bytes(table)
    record = JobRecord(
        id=folder.name, name="new.csv", model="ridge", ending=".csv", comparables=0, map={}, key_name="",
        created_at=1.0, state="pricing",
    )  # fmt: skip
    FileJob(record, folder).save()
    cut = tmp_path / "uploads" / ("f" + "2" * 24)
    cut.mkdir()
    (cut / "incoming").write_bytes(b"half")
    with open_client(uploads=tmp_path / "uploads") as client:
        assert wait(client, folder.name)["state"] == "done"
        assert len(rows_of(client.get(f"/v1/files/{folder.name}/result").content)) == ROWS
        assert not cut.exists()
    with open_client(uploads=tmp_path / "uploads") as client:
        assert client.get(f"/v1/files/{folder.name}").json()["state"] == "done"


@pytest.mark.slow
def test_a_file_is_priced_although_the_server_is_killed_again_and_again(
    served_models: dict[str, Path], tmp_path: Path
) -> None:
    """The result has the same bytes as that of one undisturbed process."""
    code = "import sys; from pricesmith.cli import main; sys.exit(main())"
    options = ["--port", "0", "--json", "--log", str(tmp_path / "shop.requests.db")]

    def start() -> tuple[subprocess.Popen[str], str]:
        command = [sys.executable, "-c", code, "serve", str(served_models["ridge"]), *options]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        return process, json.loads(process.stdout.readline())["url"]

    file = make_csv(tmp_path / "big.csv", 9_000, seed=9)
    process, url = start()
    id = httpx2.post(f"{url}/v1/files", files={"file": ("big.csv", file.read_bytes())}).json()["id"]
    kills, deadline = 0, time.monotonic() + 200
    while (state := httpx2.get(f"{url}/v1/files/{id}").json())["state"] != "done":
        assert time.monotonic() < deadline, state
        if kills < 3 and state["rows_done"] > 2_000 * kills:
            process.kill()
            process.communicate()
            kills += 1
            process, url = start()
        time.sleep(0.05)
    content = httpx2.get(f"{url}/v1/files/{id}/result").content
    process.terminate()
    process.communicate()
    ps.price_file(served_models["ridge"], file, tmp_path / "own.csv")
    assert kills == 3
    assert content == (tmp_path / "own.csv").read_bytes()


def test_old_files_are_removed(file_client: TestClient, table: bytes) -> None:
    state = wait(file_client, upload(file_client, table).json()["id"])
    app: Any = file_client.app
    jobs = app.state.service.jobs
    jobs.now = lambda: time.time() + 86_400 + 60
    jobs.sweep()
    assert file_client.get(f"/v1/files/{state['id']}").status_code == 404


def test_the_folder_of_uploads_is_private_and_used_by_one_server(
    open_client: Any, file_client: TestClient, table: bytes, tmp_path: Path
) -> None:
    upload(file_client, table)
    assert (tmp_path / "uploads").stat().st_mode & 0o777 == 0o700
    with open_client(uploads=tmp_path / "uploads") as second:
        assert second.post("/v1/price", json={"text": "Cobalt drill"}).status_code == 200
        answer = upload(second, table)
    assert (answer.status_code, answer.json()["error"]["what"]) == (503, "Files cannot be stored")
    assert "Another server uses" in answer.json()["error"]["got"]


@pytest.mark.parametrize(
    "name",
    [
        "../../x.csv",
        "a\r\nX-Header: 1.csv",
        'a".csv',
        "C:\\x\\y.csv",
        "é.csv",
        "\u202e.csv",
        "a" * 400 + ".csv",
        "",
        "..",
    ],
)
def test_a_file_name_is_safe_in_paths_and_headers(name: str) -> None:
    safe = safe_name(name)
    assert safe.encode().isascii() or safe == "é.csv"
    assert safe not in ("", ".", "..")
    assert not set(safe) & set('/\\"\r\n;\u202e')
    header = content_disposition(name)
    assert header.isascii()
    assert header.count('"') == 2
    assert "\n" not in header
