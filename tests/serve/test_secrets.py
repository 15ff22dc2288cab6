"""Keys and listings do not leak: into answers, the log of the process, the log of quotes, or any file beside it."""

from __future__ import annotations

from pathlib import Path

import httpx2
from tests.serve.test_process import Server

from pricesmith.serve.keys import add_key

LISTING = "Zirconium canary lamp, 12 kg"


def test_no_key_and_no_listing_is_written_anywhere(model_copy: Path, tmp_path: Path) -> None:
    """With right and wrong keys, in headers, cookies and URLs, verbose logging, errors, an upload and a sign-in."""
    key, wrong = add_key(tmp_path / "keys.json", "website"), "ps_wrong-canary-0123456789"
    process_log = tmp_path / "process.log"
    options = ["--keys", str(tmp_path / "keys.json"), "--log", str(tmp_path / "shop.requests.db")]
    server = Server(str(model_copy), *options, "-v", "--log-file", str(process_log))
    right = {"authorization": f"Bearer {key}"}
    answers: list[httpx2.Response] = []
    try:
        for headers in (right, {"authorization": f"Bearer {wrong}"}, {"cookie": f"pricesmith_session={wrong}"}, {}):
            for path in (
                "/v1/price",
                f"/v1/price?key={key}",
                "/v1/feedback",
                "/v1/models/reload",
                "/v1/files",
                "/none",
            ):
                answers.append(server.post(path, {"text": LISTING, "key": 1}, headers=headers))
        answers.append(server.post("/v1/price", {"text": LISTING}, headers=right))
        assert answers[-1].status_code == 200
        answers.append(server.get("/metrics", headers=right))
        answers.append(server.get("/v1/models", headers=right))
        page = {"accept": "text/html"}
        token = server.get("/sign-in", headers=page)
        answers.append(token)
        form = {"token": token.text.split('name="token" value="')[1].split('"')[0], "key": wrong}
        own = {**page, "cookie": token.headers["set-cookie"].split(";")[0]}
        answers.append(httpx2.post(f"{server.url}/sign-in", data=form, headers=own))
        answers.append(httpx2.post(f"{server.url}/sign-in", data={**form, "key": key}, headers=own))
        assert answers[-1].status_code == 303
    finally:
        _, errors = server.stop()
    for answer in answers:
        shown = answer.text + "".join(f"{name}: {value}" for name, value in answer.headers.items())
        assert key not in shown
        assert wrong not in shown
    assert process_log.exists()
    texts = {"standard error": errors.encode()}
    texts |= {path.name: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert "shop.requests.db" in texts
    for name, content in texts.items():
        assert key.encode() not in content, name
        assert wrong.encode() not in content, name
        if "lamp" not in name:
            assert LISTING.encode() not in content, name
