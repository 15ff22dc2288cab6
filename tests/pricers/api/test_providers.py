"""Where a model is asked, what it costs and which key it gets; the user's own file over the shipped one."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from pricesmith.core.errors import InputError, PricesmithError, UsageError
from pricesmith.pricers.api.model_spec import parse_api_model
from pricesmith.pricers.api.prices import PriceList
from pricesmith.pricers.api.providers import find_endpoint, read_provider_table, to_native_format

NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)
KEYS = ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GEMINI_API_KEY", "OPENROUTER_API_KEY")


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No file of the machine's own, and made keys."""
    monkeypatch.delenv("PRICESMITH_PROVIDERS", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    for name in KEYS:
        monkeypatch.setenv(name, f"made-{name.lower()}")


def own(text: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The user's own file."""
    path = tmp_path / "own.toml"
    path.write_text(text)
    monkeypatch.setenv("PRICESMITH_PROVIDERS", str(path))


def rate(prices: PriceList, tier: str = "") -> tuple[float, float]:
    """The prices of input and output on a day."""
    price = prices.at(NOW, tier)
    assert price is not None
    return price.input, price.output


def test_every_shipped_price_has_its_date_and_source() -> None:
    """No price stands without where and when it was read."""
    providers, models = read_provider_table()
    names = "openai anthropic google xai deepseek mistral openrouter vllm llama-server ollama"
    assert set(names.split()) <= providers.keys()
    lists = [model.prices for by_name in models.values() for model in by_name.values() if model.prices]
    assert len(lists) >= 20
    assert all(prices.date and prices.source for prices in lists)


def test_a_model_is_found_by_name_by_beginning_or_by_its_provider() -> None:
    """`gpt-6-luna` is in the table, `gpt-99` begins as OpenAI's do, `ollama/x` says it."""
    luna = find_endpoint("gpt-6-luna")
    assert (luna.provider, luna.url) == ("openai", "https://api.openai.com/v1")
    assert luna.price is not None
    assert rate(luna.price) == (0.1, 0.5)
    assert find_endpoint("gpt-99").provider == "openai"
    local = find_endpoint("ollama/gemma3:4b")
    assert (local.model, local.key, local.host) == ("gemma3:4b", "", "localhost:11434")
    routed = find_endpoint("openrouter/openai/gpt-6-luna")
    assert (routed.model, routed.price) == ("openai/gpt-6-luna", None)


def test_a_price_that_is_not_known_is_none() -> None:
    """Not 0, and not the price of a model with a like name."""
    for model in ("gpt-99", "gpt-4o-2024-08-06", "gemini-3-pro-preview", "ollama/gpt-6-luna"):
        assert find_endpoint(model).price is None
    assert find_endpoint("gpt-6-luna", url="http://127.0.0.1:1/v1").price is None
    given = find_endpoint("gpt-99", price="2/10").price
    assert given is not None
    assert rate(given) == (2, 10)
    assert rate(given, "flex") == (1, 5)
    assert given.at(NOW, "priority") is None


def test_the_users_own_file_overrides_the_shipped_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Provider by provider and model by model; entries that it does not have stay."""
    model = '[openai.models."gpt-6-luna"]\ninput = 1\noutput = 3\ndate = "2027-01-01"\nsource = "my contract"\n'
    text = '[mine]\nurl = "https://prices.example/v1"\nkey = "OPENAI_API_KEY"\nbegins = ["my-"]\n'
    own(f'[openai]\nurl = "https://proxy.example/v1"\n{model}{text}', monkeypatch, tmp_path)
    luna = find_endpoint("gpt-6-luna")
    assert luna.price is not None
    assert (luna.url, rate(luna.price), luna.price.source) == ("https://proxy.example/v1", (1, 3), "my contract")
    assert find_endpoint("gpt-4.1").price is not None
    assert find_endpoint("my-model").url == "https://prices.example/v1"


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ('[openai.models."m"]\ninput = 1\n', "only half of a price"),
        ('[openai.models."m"]\ninput = 1\noutput = 2\n', "without its date or source"),
        ('[openai]\nadress = "x"\n', "no setting 'adress'"),
        ('[openai.models."m"]\ninput = -1\noutput = 2\n', "cannot have this value"),
        ("openai = 3\n", "not a table"),
        ("[openai]\nmodels = 3\n", "not a table"),
        ('[openai.models]\nm = "2/10"\n', "not a table"),
        ('[made]\nkey = "MADE_KEY"\n', "no 'url', which it needs"),
        ('[openai.models."m"]\ninput = 1\noutput = 2\nsource = "s"\ndate = "2026-13-45"\n', "invalid date"),
        ("not toml [", "docs/api-models.md"),
    ],
)
def test_a_wrong_own_file_is_refused(text: str, what: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """With what is wrong in it, before anything is asked."""
    own(text, monkeypatch, tmp_path)
    with pytest.raises((UsageError, InputError), match=what):
        find_endpoint("gpt-6-luna")


def test_a_provider_without_a_url_is_refused_without_showing_its_settings(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """One of them may be a secret that was written into the file."""
    own('[made]\nextra_headers = { x-key = "sk-0123456789abcdef" }\n', monkeypatch, tmp_path)
    with pytest.raises(UsageError, match="no 'url'") as caught:
        find_endpoint("made/m")
    assert caught.value.got == "extra_headers"
    assert "sk-0123456789abcdef" not in str(caught.value)


def test_a_named_own_file_must_be_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A typing error in the variable is not passed over."""
    monkeypatch.setenv("PRICESMITH_PROVIDERS", str(tmp_path / "none.toml"))
    with pytest.raises(InputError, match="no file"):
        find_endpoint("gpt-6-luna")


def test_a_missing_key_is_reported_with_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything is sent."""
    monkeypatch.delenv("OPENAI_API_KEY")
    with pytest.raises(UsageError, match="key for openai is not set") as caught:
        find_endpoint("gpt-6-luna")
    assert "export OPENAI_API_KEY" in str(caught.value)


def test_a_key_in_the_place_of_its_variables_name_is_not_shown() -> None:
    """It would stand in a terminal's history and in logs."""
    with pytest.raises(UsageError, match="not the name of a variable") as caught:
        find_endpoint("m", url="http://127.0.0.1:8000/v1", key="sk-live-abcdef")
    assert "abcdef" not in str(caught.value)


def test_an_unknown_model_is_reported_with_the_known_ones() -> None:
    """And with the nearest name."""
    with pytest.raises(UsageError, match="No provider of") as caught:
        find_endpoint("gtp-4.1")
    assert "'gpt-4.1'" in str(caught.value)


def test_a_key_goes_to_its_own_provider_only() -> None:
    """Another URL gets none, unless it is named; nor does it travel without encryption to another machine."""
    assert find_endpoint("m", url="http://127.0.0.1:8000/v1").key == ""
    assert find_endpoint("m", url="https://evil.example/v1").key == ""
    assert find_endpoint("m", url="https://api.openai.com/v1/").key == "made-openai_api_key"
    assert find_endpoint("m", url="http://[::1]:8000/v1", key="OPENAI_API_KEY").key
    with pytest.raises(UsageError, match="unencrypted"):
        find_endpoint("m", url="http://box.example/v1", key="OPENAI_API_KEY")
    assert "made-openai" not in repr(find_endpoint("gpt-6-luna"))


@pytest.mark.parametrize("url", ["ftp://x/v1", "localhost:8000", "http://"])
def test_what_is_no_base_url_is_refused(url: str) -> None:
    """And shown."""
    with pytest.raises(UsageError, match="Invalid URL") as caught:
        find_endpoint("m", url=url)
    assert url in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "http://u:secret@h/v1",
        "http://secret@h/v1",
        "https://h/v1?api_key=secret",
        "https://h/v1?key=a@secret",
        "https://h/v1?secret",
        "https://u:se?secret@h/v1",
        "https://h/v1#secret",
        "h/v1?api_key=secret",
    ],
)
def test_a_url_that_may_hold_a_key_is_refused_and_not_shown(url: str) -> None:
    """It would be written to the store, the evaluation and the report; the remedy is an environment variable."""
    with pytest.raises(UsageError, match="may contain a key") as caught:
        find_endpoint("m", url=url)
    assert "secret" not in str(caught.value)
    assert "environment variable" in str(caught.value)
    assert "key=MY_KEY" in str(caught.value)


@pytest.mark.parametrize(
    ("model", "url"), [("m", "https://h/made-openai%5Fapi_key/v1"), ("made-openai_api_key", "https://h/v1")]
)
def test_a_key_in_the_path_or_the_models_name_is_refused_and_not_shown(model: str, url: str) -> None:
    """Both are shown in tables."""
    with pytest.raises(UsageError, match="contains the key in OPENAI_API_KEY") as caught:
        find_endpoint(model, url=url, key="OPENAI_API_KEY")
    assert "made-openai" not in str(caught.value)


@pytest.mark.parametrize("price", ["2", "a/b", "-1/2", "nan/1", "1/inf", ""])
def test_what_is_no_price_of_tokens_is_refused(price: str) -> None:
    """A price on the command line has two sides."""
    if price:
        with pytest.raises(UsageError, match="Invalid token price"):
            find_endpoint("gpt-6-luna", price=price)


def test_google_has_a_format_of_its_own() -> None:
    """Its batch jobs take no other; the other providers stay as they are."""
    native = to_native_format(find_endpoint("gemini-3.8-flash"))
    assert (native.format, native.url) == ("gemini", "https://generativelanguage.googleapis.com/v1beta")
    assert to_native_format(find_endpoint("gpt-99")) == find_endpoint("gpt-99")


AZURE = "https://made.openai.azure.com/openai/deployments/mine"


def test_a_classic_deployment_of_azure_has_its_version_in_the_query(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its key goes into the header api-key; the newer v1 URL takes a bearer key, as others do."""
    monkeypatch.setenv("AZURE_KEY", "made-azure-key-0123")
    endpoint = find_endpoint("gpt-6-luna", url=f"{AZURE}?api-version=2024-10-21", key="AZURE_KEY")
    assert endpoint.url == AZURE
    assert endpoint.question_url() == f"{AZURE}/chat/completions?api-version=2024-10-21"
    assert endpoint.headers() == {"api-key": "made-azure-key-0123"}
    preview = find_endpoint("mine", url="https://made.openai.azure.com/openai/v1/?api-version=preview", key="AZURE_KEY")
    assert preview.question_url() == "https://made.openai.azure.com/openai/v1/chat/completions?api-version=preview"
    newer = find_endpoint("mine", url="https://made.openai.azure.com/openai/v1/", key="AZURE_KEY")
    assert newer.question_url() == "https://made.openai.azure.com/openai/v1/chat/completions"
    assert newer.headers() == {"Authorization": "Bearer made-azure-key-0123"}


@pytest.mark.parametrize("query", ["api-version=secret", "api-version=2024-10-21&key=secret", "x=2024-10-21-secret"])
def test_no_other_query_is_accepted(query: str) -> None:
    """It may contain a key."""
    with pytest.raises(UsageError, match="may contain a key") as caught:
        find_endpoint("m", url=f"{AZURE}?{query}")
    assert "secret" not in str(caught.value)
    assert "api-version" in str(caught.value.allowed)


def test_bedrock_is_asked_at_its_region_with_its_bearer_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """A colon in the model's name is part of it."""
    monkeypatch.setenv("AWS_BEARER_TOKEN_BEDROCK", "made-aws-key-0123")
    url = "https://bedrock-runtime.us-west-2.amazonaws.com/openai/v1"
    model = parse_api_model(f"api:openai.gpt-oss-120b-1:0@url={url},key=AWS_BEARER_TOKEN_BEDROCK")
    endpoint = find_endpoint(model.model, url=model.options.url, key=model.options.key)
    assert endpoint.model == "openai.gpt-oss-120b-1:0"
    assert endpoint.question_url() == f"{url}/chat/completions"
    assert endpoint.headers() == {"Authorization": "Bearer made-aws-key-0123"}


def test_anthropic_is_asked_in_its_own_format(monkeypatch: pytest.MonkeyPatch) -> None:
    """At its own URL, and at that of a gateway which speaks it."""
    endpoint = find_endpoint("claude-haiku-5-5")
    assert endpoint.question_url() == "https://api.anthropic.com/v1/messages"
    assert endpoint.headers()["x-api-key"] == "made-anthropic_api_key"
    assert endpoint.headers()["anthropic-version"] == "2023-06-01"
    model = parse_api_model("api:claude-haiku-5-5@url=http://127.0.0.1:4000/v1,format=anthropic")
    gateway = find_endpoint(model.model, url=model.options.url, api_format=model.options.format)
    assert gateway.question_url() == "http://127.0.0.1:4000/v1/messages"


@pytest.mark.parametrize(
    ("model", "today", "what", "instead"),
    [
        ("gpt-4.1", date(2027, 1, 14), "gpt-4.1 was shut down on 2027-01-14", "Use api:gpt-6-luna."),
        ("gpt-4.1-nano", date(2026, 11, 29), "gpt-4.1-nano was shut down on 2026-10-23", "Use api:gpt-6-luna."),
        ("claude-sonnet-4-5", date(2026, 12, 1), "claude-sonnet-4-5 was shut down", "Use api:claude-opus-5-5."),
    ],
)
def test_a_model_that_is_shut_down_is_refused_with_another_one(
    model: str, today: date, what: str, instead: str
) -> None:
    """The named replacement, or a model of the same provider that has no shutdown date."""
    with pytest.raises(PricesmithError, match=what) as caught:
        find_endpoint(model).check_ready(today)
    assert instead in caught.value.hint
    assert model not in caught.value.allowed.split(", ")
    find_endpoint(caught.value.hint.split()[1].removeprefix("api:").rstrip(".")).check_ready(today)


def test_a_shutdown_that_was_put_off_can_be_taken_back(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As the error says; the price stays."""
    today = date(2026, 11, 29)
    with pytest.raises(PricesmithError) as caught:
        find_endpoint("o4-mini").check_ready(today)
    assert 'put shutdown = "" below [openai.models."o4-mini"]' in caught.value.hint
    own('[openai.models."o4-mini"]\nshutdown = ""\n', monkeypatch, tmp_path)
    endpoint = find_endpoint("o4-mini")
    endpoint.check_ready(today)
    assert endpoint.price is not None


def test_a_shutdown_is_announced_until_its_day() -> None:
    """With the named replacement; nothing is said about a model that has none."""
    endpoint = find_endpoint("gpt-4.1")
    expected = "gpt-4.1 is shut down on 2027-01-14; named replacement gpt-6-luna."
    assert endpoint.shutdown_warning(date(2027, 1, 13)) == expected
    assert endpoint.shutdown_warning(date(2027, 1, 14)) == ""
    assert find_endpoint("gpt-5.1").shutdown_warning(date(2026, 11, 29)) == "gpt-5.1 is shut down on 2027-04-01."
    assert find_endpoint("gpt-6-luna").shutdown_warning(date(2026, 11, 29)) == ""


def test_the_table_in_the_documentation_works(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """With dated prices, prices by the hour, tiers and a shutdown."""
    page = Path(__file__).parents[3] / "docs" / "api-models.md"
    own(page.read_text(encoding="utf-8").split("```toml\n")[1].split("```")[0], monkeypatch, tmp_path)
    monkeypatch.setenv("MADE_KEY", "made-key")
    made = find_endpoint("made-1")
    assert (made.url, made.shutdown, made.replacement) == ("https://prices.example/v1", date(2027, 6, 30), "made-2")
    assert made.price is not None
    assert rate(made.price, "flex") == (1, 5)
    night = made.price.at(datetime(2027, 1, 4, 23, tzinfo=UTC))
    assert night is not None
    assert night.input == 3
