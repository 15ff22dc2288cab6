"""The proxies of docs/serving.md, as they stand there: sign-in over HTTPS, prices, streams, a path of their own."""

from __future__ import annotations

import json
import re
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from tests.serve.test_process import Server

from pricesmith.serve.keys import add_key

PAGE = Path(__file__).parents[2] / "docs" / "serving.md"
TEXT = "Cobalt drill, size 12 kg"


def read_block(language: str) -> str:
    """The configuration that the documentation shows."""
    match = re.search(rf"```{language}\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert match
    return match[1]


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def wait_for_port(port: int, process: subprocess.Popen[bytes]) -> None:
    """Wait until a proxy listens."""
    end = time.monotonic() + 240
    while time.monotonic() < end:
        assert process.poll() is None, process.communicate()[1]
        with socket.socket() as client:
            if client.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise AssertionError("the proxy does not listen")


@pytest.fixture(params=["", "/prices"], ids=["at the root", "under a path"])
def root(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def server(served_models: dict[str, Path], tmp_path: Path, root: str) -> Iterator[tuple[Server, str]]:
    """A server behind a proxy, and its key."""
    key = add_key(tmp_path / "keys.json", "website")
    arguments = ["--keys", str(tmp_path / "keys.json"), "--allow-host", "localhost", "--trusted-proxy", "127.0.0.1"]
    options = [*arguments, "--root-path", root] if root else arguments
    started = Server(str(served_models["median"]), "--no-log", *options)
    yield started, key
    started.process.kill()
    started.process.communicate()


def check_proxy(url: str, key: str) -> None:
    """Use a server over HTTPS as a person and as a program."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # made for this test
    with httpx2.Client(verify=context, timeout=240) as client:
        assert client.get(f"{url}/health").status_code == 200
        assert client.post(f"{url}/v1/price", json={"text": TEXT}).status_code == 401
        page = client.get(f"{url}/", headers={"accept": "text/html"}, follow_redirects=True)
        assert page.status_code == 200
        assert str(page.url) == f"{url}/sign-in"
        token = re.search(r'name="token" value="([^"]+)"', page.text)
        assert token
        origin = "/".join(url.split("/")[:3])
        form = {"token": token[1], "key": key}
        signed = client.post(f"{url}/sign-in", data=form, headers={"origin": origin, "accept": "text/html"})
        assert signed.status_code == 303, signed.text[:500]
        cookie = next(value for value in signed.headers.get_list("set-cookie") if "pricesmith_session" in value)
        assert "Secure" in cookie
        home = client.get(f"{url}/", headers={"accept": "text/html"})
        assert "What are you pricing?" in home.text
        style = re.search(r'href="([^"]+\.css[^"]*)"', home.text)
        assert style
        assert client.get(str(home.url.join(style[1]))).headers["content-type"].startswith("text/css")
        program = {"authorization": f"Bearer {key}"}
        assert client.post(f"{url}/v1/price", json={"text": TEXT}, headers=program).json()["price"] > 0
        lines = "".join(json.dumps(f"{TEXT} {n}") + "\n" for n in range(3))
        program["content-type"] = "application/x-ndjson"
        answer = client.post(f"{url}/v1/price/batch", content=lines, headers=program)
        assert len(answer.text.splitlines()) == 3


@pytest.mark.skipif(not shutil.which("nginx") or not shutil.which("openssl"), reason="nginx or openssl is missing")
def test_nginx(server: tuple[Server, str], tmp_path: Path, root: str) -> None:
    port = free_port()
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost"]
    subprocess.run(
        [*command, "-keyout", tmp_path / "prices.key", "-out", tmp_path / "prices.pem"], check=True, capture_output=True
    )
    block = read_block("nginx").replace("listen 443", f"listen 127.0.0.1:{port}").replace("/etc/ssl", str(tmp_path))
    block = block.replace("http://127.0.0.1:8000", server[0].url.removesuffix(root))
    if root:
        block = block.replace("location / {", f"location {root}/ {{")
        block = re.sub(r"(proxy_pass [^;]+);", r"\1/;", block)
    paths = "".join(
        f"{name}_temp_path {tmp_path}/{name};\n" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    top = f"pid {tmp_path}/nginx.pid;\nerror_log stderr;\ndaemon off;\nevents {{}}\n"
    (tmp_path / "nginx.conf").write_text(f"{top}http {{\naccess_log off;\n{paths}{block}}}\n")
    process = subprocess.Popen(["nginx", "-c", tmp_path / "nginx.conf"], stderr=subprocess.PIPE)
    try:
        wait_for_port(port, process)
        check_proxy(f"https://localhost:{port}{root}", server[1])
    finally:
        process.terminate()
        process.communicate()


@pytest.mark.skipif(not shutil.which("caddy"), reason="caddy is missing")
def test_caddy(server: tuple[Server, str], tmp_path: Path, root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    port = free_port()
    block = read_block("caddy").replace("prices.example.com", f"https://localhost:{port}")
    block = block.replace("127.0.0.1:8000", server[0].url.removesuffix(root).removeprefix("http://"))
    inside = "tls internal\n"
    if root:
        body = block.split("{", 1)[1].rsplit("}", 1)[0]
        block = f"https://localhost:{port} {{\n{inside}handle_path {root}/* {{{body}}}\n}}\n"
    else:
        block = block.replace("{\n", "{\n" + inside, 1)
    top = "{\nadmin off\nauto_https disable_redirects\nskip_install_trust\n}\n"
    (tmp_path / "Caddyfile").write_text(top + block)
    command = ["caddy", "run", "--config", tmp_path / "Caddyfile", "--adapter", "caddyfile"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE)
    try:
        wait_for_port(port, process)
        check_proxy(f"https://localhost:{port}{root}", server[1])
    finally:
        process.terminate()
        process.communicate()
