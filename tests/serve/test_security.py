"""Who may use a server: hosts, origins, keys and their limits."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from tests.serve.conftest import Open

from pricesmith.core.errors import UsageError
from pricesmith.serve.keys import add_key, remove_key
from pricesmith.serve.service import ServeSettings, Service

BODY = {"text": "Cobalt drill, size 12 kg"}


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    return tmp_path / "keys.json"


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "evil.example:8000", "", "[::2]:8000"])
def test_a_request_for_another_host_is_refused(client: TestClient, host: str) -> None:
    answer = client.get("/v1/models", headers={"host": host})
    assert answer.status_code == 403
    assert answer.json()["error"]["what"] == "This host name is not allowed"


@pytest.mark.parametrize("host", ["127.0.0.1:8000", "localhost", "LOCALHOST:8000", "[::1]:8000"])
def test_the_names_of_this_machine_are_allowed(client: TestClient, host: str) -> None:
    assert client.get("/v1/models", headers={"host": host}).status_code == 200


def test_another_host_is_allowed_by_its_name(open_client: Open) -> None:
    with open_client(hosts=("prices.example",)) as client:
        assert client.get("/health", headers={"host": "prices.example"}).status_code == 200
        assert client.get("/health", headers={"host": "other.example"}).status_code == 403


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:8001"},
        {"origin": "http://127.0.0.1:8000.evil.example"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ],
)
def test_a_web_page_of_another_origin_cannot_post(client: TestClient, headers: dict[str, str]) -> None:
    answer = client.post("/v1/price", json=BODY, headers=headers)
    assert answer.status_code == 403
    assert answer.json()["error"]["what"] == "A web page of another origin sent this"


def test_the_own_page_and_programs_can_post(client: TestClient) -> None:
    own = {"origin": "http://127.0.0.1:8000", "sec-fetch-site": "same-origin"}
    assert client.post("/v1/price", json=BODY, headers=own).status_code == 200
    assert client.post("/v1/price", json=BODY).status_code == 200


def test_every_response_has_the_security_headers(client: TestClient) -> None:
    for answer in (client.get("/health"), client.get("/nowhere"), client.get("/health", headers={"host": "evil"})):
        policy = answer.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; script-src 'self'")
        assert "unsafe" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-store"


def get_routes(client: TestClient) -> list[tuple[str, str]]:
    """Every method and path of the server, with made ids."""
    routes = []
    for path, methods in client.app.openapi()["paths"].items():  # type: ignore[attr-defined]
        routes += [(method.upper(), re.sub(r"{\w+}", "none", path)) for method in methods]
    return routes


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_every_route_but_the_open_ones_needs_a_valid_key(open_client: Open, key_file: Path, host: str) -> None:
    key, removed = add_key(key_file, "website"), add_key(key_file, "removed")
    with open_client(keys_path=key_file, host=host) as client:
        remove_key(key_file, "removed")
        routes = [*get_routes(client), ("GET", "/openapi.json"), ("GET", "/nowhere"), ("POST", "/v1/price/")]
        assert ("POST", "/v1/price") in routes
        opened = set()
        for method, path in routes:
            for presented in (None, "ps_other", removed, key[:-1], key + "x", ""):
                headers = {} if presented is None else {"authorization": f"Bearer {presented}"}
                answer = client.request(method, path, headers=headers, follow_redirects=False)
                if answer.status_code != 401:
                    opened.add(path)
                else:
                    assert answer.headers["www-authenticate"] == "Bearer"
                    assert answer.json()["error"]["next"]
                assert not presented or presented not in answer.text
        assert opened == {"/health", "/ready"}
        right = client.post("/v1/price", json=BODY, headers={"authorization": f"Bearer {key}"})
        assert right.status_code == 200


def test_a_browser_without_a_key_is_sent_to_the_sign_in(open_client: Open, key_file: Path) -> None:
    add_key(key_file, "website")
    with open_client(keys_path=key_file, root_path="/prices") as client:
        answer = client.get("/", headers={"accept": "text/html"}, follow_redirects=False)
        assert (answer.status_code, answer.headers["location"]) == (303, "/prices/sign-in")


def test_a_key_has_its_limit_of_requests_and_others_are_unaffected(open_client: Open, key_file: Path) -> None:
    limited, other = add_key(key_file, "limited", per_minute=5), add_key(key_file, "other")
    with open_client(keys_path=key_file) as client:
        answers = [client.get("/v1/models", headers={"authorization": f"Bearer {limited}"}) for _ in range(8)]
        assert [answer.status_code for answer in answers] == [200] * 5 + [429] * 3
        assert 1 <= int(answers[-1].headers["retry-after"]) <= 12
        assert client.get("/v1/models", headers={"authorization": f"Bearer {other}"}).status_code == 200


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.0.7", "::", "example.org"])
def test_a_server_that_other_machines_reach_needs_a_key(
    served_models: dict[str, Path], key_file: Path, monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(key_file.parent))
    with pytest.raises(UsageError) as refused:
        Service(served_models, ServeSettings(host=host))
    assert refused.value.hint == "pricesmith keys add NAME"
    with pytest.raises(UsageError) as refused:
        Service(served_models, ServeSettings(host=host, keys_path=key_file))
    assert refused.value.hint == f"pricesmith keys add NAME --keys {key_file}"
    add_key(key_file, "website")
    assert Service(served_models, ServeSettings(host=host, keys_path=key_file)).keys is not None


def test_a_server_without_keys_is_not_reloaded_over_the_network(client: TestClient) -> None:
    answer = client.post("/v1/models/reload", json={})
    assert answer.status_code == 403
    assert "SIGHUP" in answer.json()["error"]["next"]
