"""Further fields of requests: sent, part of the key of an answer, and without written secrets."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.pricers.api.test_client import LISTINGS, answer, build_pricer
from tests.pricers.api.test_providers import own

from pricesmith.core.errors import UsageError
from pricesmith.pricers.api.extra_fields import OWN_FIELDS, ExtraHeader, check_extra_body, check_extra_headers
from pricesmith.pricers.api.limits import Budget
from pricesmith.pricers.api.providers import find_endpoint
from pricesmith.pricers.api.response_cache import ResponseCache
from pricesmith.testing import FakeEndpoint

SECRET = "gw-Zq81hfLm20xPw7"


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No file and no variables of the machine's own."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    for name in ("PRICESMITH_PROVIDERS", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID", "ANTHROPIC_WORKSPACE_ID", "GATEWAY"):
        monkeypatch.delenv(name, raising=False)
    for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "OPENROUTER_API_KEY"):
        monkeypatch.setenv(name, f"made-{name.lower()}")


def test_fields_of_the_users_table_are_sent_with_every_question(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OpenRouter's choice of the provider, and a gateway's headers, one of them from a variable."""
    monkeypatch.setenv("GATEWAY", SECRET)
    with FakeEndpoint(lambda _: f"24 {SECRET}", style="openrouter") as fake, ResponseCache(tmp_path / "a") as cache:
        monkeypatch.setenv("OPENROUTER_API_KEY", fake.key)
        table = f"""[openrouter]
            url = "{fake.url}"
            extra_body = {{ provider = {{ order = ["azure"], allow_fallbacks = false }} }}
            extra_headers = {{ x-title = "prices", x-gateway-auth = {{ env = "GATEWAY" }} }}
        """
        own(table, monkeypatch, tmp_path)
        endpoint = find_endpoint("openrouter/maker/model")
        assert SECRET not in repr(endpoint)
        pricer = build_pricer(fake, cache, Budget())
        pricer = type(pricer)(endpoint, pricer.options, cache, Budget(), currency="USD")
        (quote,) = pricer.price(LISTINGS[:1])
        pricer.close()
        (seen,) = fake.requests
        assert seen.body["provider"] == {"order": ["azure"], "allow_fallbacks": False}
        headers = {name.lower(): value for name, value in seen.headers.items()}
        assert (headers["x-title"], headers["x-gateway-auth"]) == ("prices", SECRET)
    assert quote.raw == "24 [key]"
    assert all(SECRET.encode() not in path.read_bytes() for path in tmp_path.rglob("a*") if path.is_file())


def test_a_model_has_its_fields_beside_those_of_its_provider(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own ones win; another model has those of the provider alone."""
    table = """[mine]
        url = "https://h/v1"
        extra_body = { seed = 1, user = "shop" }
        extra_headers = { X-Title = "all" }
        [mine.models.m]
        extra_body = { seed = 2 }
        extra_headers = { x-title = "m", x-more = "1" }
    """
    own(table, monkeypatch, tmp_path)
    endpoint = find_endpoint("mine/m")
    assert endpoint.extra_body == {"seed": 2, "user": "shop"}
    assert endpoint.headers() == {"x-title": "m", "x-more": "1"}
    assert find_endpoint("mine/other").extra_body == {"seed": 1, "user": "shop"}
    own(table.replace("seed = 2", "model = 'x'"), monkeypatch, tmp_path)
    with pytest.raises(UsageError, match=r"\[mine\] m extra_body cannot have 'model'"):
        find_endpoint("mine/m")


def test_other_fields_are_other_questions_and_other_secrets_are_not(tmp_path: Path) -> None:
    """An answer with other fields is not reused; the value of a variable changes no answer."""
    with FakeEndpoint(answer) as fake, ResponseCache(tmp_path / "a.sqlite") as cache:
        variable = ExtraHeader("x-auth", variable="GATEWAY", optional=True)
        fields: list[dict[str, Any]] = [
            {},
            {"extra_body": {"seed": 1}},
            {"extra_body": {"seed": 2}},
            {"extra_headers": (ExtraHeader("x-title", "prices"),)},
            {"extra_headers": (variable,)},
        ]
        keys = []
        for more in fields:
            pricer = build_pricer(fake, cache, Budget())
            pricer.endpoint = replace(pricer.endpoint, **more)
            keys.append(pricer.requests(LISTINGS[:1])[0].key)
    assert len(set(keys)) == 4
    assert keys[0] == keys[4]


def test_a_written_header_that_is_missing_its_variable_is_reported_before_a_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An optional one is left out: Anthropic's workspace, OpenAI's organization."""
    own('[openrouter]\nextra_headers = { x-auth = { env = "GATEWAY" } }\n', monkeypatch, tmp_path)
    endpoint = find_endpoint("openrouter/maker/model")
    with pytest.raises(UsageError, match="header x-auth of openrouter") as caught:
        endpoint.check_key()
    assert caught.value.hint == "export GATEWAY=..."
    monkeypatch.setenv("GATEWAY", SECRET)
    endpoint.check_key()
    claude = find_endpoint("claude-haiku-5-5")
    claude.check_key()
    assert "anthropic-workspace-id" not in claude.headers()
    monkeypatch.setenv("ANTHROPIC_WORKSPACE_ID", "wrkspc_01")
    assert claude.headers()["anthropic-workspace-id"] == "wrkspc_01"
    assert "wrkspc_01" in claude.secrets


def test_a_key_is_not_sent_unencrypted_by_a_header(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """To another machine."""
    monkeypatch.setenv("GATEWAY", SECRET)
    own('[mine]\nurl = "http://h/v1"\nextra_headers = { x-auth = { env = "GATEWAY" } }\n', monkeypatch, tmp_path)
    with pytest.raises(UsageError, match="unencrypted"):
        find_endpoint("mine/m")


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("extra_body = 3", "extra_body is not a table"),
        ("extra_body = { model = 'x' }", "cannot have 'model'"),
        ("extra_body = { stream = true }", "cannot have 'stream'"),
        ("extra_body = { api_key = 'abc' }", "may be a secret"),
        ("extra_body = { a = { b = ['Bearer abcdef'] } }", "may be a secret"),
        (f"extra_body = {{ user = 'sk-{'a1' * 10}' }}", "may be a secret"),
        ("extra_body = { day = 2026-11-29 }", "cannot be sent as JSON"),
        ("extra_body = { limit = inf }", "cannot be sent as JSON"),
        (f"extra_body = {{ text = '{'x ' * 3000}' }}", "cannot be sent as JSON"),
        ("extra_headers = 'Bearer abcdef'", "extra_headers is not a table"),
        ("extra_headers = { authorization = { env = 'X' } }", "cannot be set"),
        ("extra_headers = { host = 'x' }", "cannot be set"),
        ("extra_headers = { 'a b' = 'x' }", "cannot be set"),
        ("extra_headers = { x-auth = 'abcdef' }", "may be a secret"),
        (f"extra_headers = {{ x-user = '{'a1' * 20}' }}", "may be a secret"),
        ("extra_headers = { x-user = 3 }", "has an invalid value"),
        ('extra_headers = { x-user = "a\\r\\nb: c" }', "has an invalid value"),
        ("extra_headers = { x-user = 'größe' }", "has an invalid value"),
        ("extra_headers = { x-auth = { env = 'not a name' } }", "does not name a variable"),
        ("extra_headers = { x-auth = { value = 'sk-abc' } }", "does not name a variable"),
    ],
)
def test_a_field_that_cannot_be_sent_is_reported_without_its_value(
    text: str, what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With what is allowed instead."""
    own(f'[mine]\nurl = "https://h/v1"\n{text}\n', monkeypatch, tmp_path)
    with pytest.raises(UsageError, match=what) as caught:
        find_endpoint("mine/m")
    assert caught.value.allowed
    assert not any(part in str(caught.value) for part in ("abc", "a1a1"))


@given(st.dictionaries(st.sampled_from(sorted(OWN_FIELDS)), st.integers(), min_size=1))
def test_what_pricesmith_writes_itself_cannot_be_overridden(values: dict[str, int]) -> None:
    """The model, the limit of tokens, and whatever a budget depends on."""
    with pytest.raises(UsageError, match="extra_body cannot have"):
        check_extra_body(values, "here")


def test_ordinary_fields_pass() -> None:
    """A user's name, a seed, the top of the distribution."""
    body = {"seed": 7, "top_p": 0.9, "user": "shop-12", "reasoning": {"enabled": False}, "stop": ["\n\n"]}
    assert check_extra_body(body, "here") == body
    assert check_extra_headers({"HTTP-Referer": "https://shop.example"}, "here")[0].value == "https://shop.example"
