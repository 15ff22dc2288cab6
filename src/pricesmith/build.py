"""`pricesmith build`: from a table to an evaluated, reported model in one command.

    result = build(["shop.csv"], Path("out/shop"))

The folder then holds `catalog`, `models/NAME`, `evals`, `report.html`, `report.json` and `build.toml`, and stands for
its chosen model: the one with the lowest MAE on the validation split. The test split takes no part in that choice.

A refit builds the same folders for a newer table in `.refit`, with the old chosen model as a competitor, and moves them
into place at the end. The old ones go to `previous-1`, `previous-2` and so on.
"""

from __future__ import annotations

import contextlib
import math
import os
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pricesmith.catalog import curate
from pricesmith.catalog import open as open_catalog
from pricesmith.catalog.catalog import Catalog
from pricesmith.catalog.readers.databases import SQLITE
from pricesmith.catalog.readers.feeds import DEMO, SECONDS_A_MB, UNPACKED
from pricesmith.catalog.readers.postgresql_source import POSTGRESQL, parse_address
from pricesmith.catalog.readers.sources import resolve_sources
from pricesmith.catalog.readers.table_copies import table_copies
from pricesmith.core.addresses import mask_password
from pricesmith.core.atomic import file_lock, write_atomic
from pricesmith.core.build_file import (
    BUILD_FILE,
    ApiAnswers,
    BuildFile,
    BuiltModel,
    content_of,
    read_build,
    write_build,
)
from pricesmith.core.console import Console
from pricesmith.core.errors import UsageError
from pricesmith.core.progress import SILENT, Progress
from pricesmith.core.types import Evaluation, Recipe
from pricesmith.pricers.recipes import measured_figures, read_recipe
from pricesmith.text.formatting import format_money

DEFAULT_RECIPES = ("median", "ridge", "sparse_mlp")
SOURCE_ENDINGS = {".csv", ".tsv", ".json", ".jsonl", ".ndjson", ".parquet", ".xlsx", ".gz", ".zst", ".zip"}
SOURCE_ENDINGS |= {".db", ".sqlite", ".sqlite3"}
PARTS = ("catalog", "models", "evals", "report.html", "report.json")
HYBRID_BLEND, HYBRID_CASCADE = "api_blend", "api_cascade"  # folders in models
ASKED_SHARE = 0.2  # of listings that the cascade of a build asks the API model about
REFIT, JOURNAL = ".refit", "promote.txt"
PREVIOUS = "-previous"
DEMO_MB = 18.0  # of text
BYTES_A_ROW = 400
SECONDS_BESIDE_FITS = 12.0  # start-up, evaluation and report, measured on two cores


def default_folder(source: str) -> Path:
    """`out/NAME` for a source: the name of its file, folder or database without its endings."""
    if source.startswith(POSTGRESQL):
        source = parse_address(source).connection.get("dbname", "")
    path = Path(source.removeprefix(DEMO).removeprefix(SQLITE).partition("?")[0])
    while path.suffix.lower() in SOURCE_ENDINGS:
        path = path.with_suffix("")
    name = "".join(sign for sign in path.name if sign not in "*?[]").strip(".-_ ")
    return Path("out") / (name or "build")


@table_copies()
def build(
    sources: Sequence[str],
    to: Path | None = None,
    *,
    recipes: Sequence[str] = (),
    options: Mapping[str, Any] | None = None,
    answers: ApiAnswers | None = None,
    refit: bool = False,
    progress: Progress = SILENT,
) -> dict[str, Any]:
    """Curate, fit, evaluate and report into the folder `to`; what was made and which model was chosen.

    `recipes` are fitted besides those of the folder, or besides the default ones if it is new; `options` are keyword
    arguments of `curate`, and those of the folder hold if they are not given. With `answers` a blend and a cascade of
    the chosen model and the API model are fitted and compared too. Finished stages are not repeated. With `refit` the
    sources are a newer table of the same goods. Raises UsageError if the folder was built from other data
    or with other options and `refit` is False, or if `refit` is True and there is no finished build.
    """
    started = time.perf_counter()
    folder = to or default_folder(sources[0])
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is not a folder", got="a file", hint="Choose another --to.")
    inputs = hash_inputs(sources)
    folder.mkdir(parents=True, exist_ok=True)
    lock = folder.with_name(f".{folder.name}.build.lock")
    with file_lock(lock, f"Another process is building {folder}"):
        promote_refit(folder)
        old = read_build(folder)
        if refit:
            request = refit_request(folder, old, sources, inputs, recipes, options or {})
        else:
            request = build_request(folder, old, sources, inputs, recipes, options or {})
        if answers is not None:
            request = request.model_copy(update={"answers": answers})
        if old is not None and is_done(folder, old, request):
            progress.note(f"{folder} is finished already.")
            return describe(folder, old, started, already_done=True)
        progress.note(format_plan(folder, request, refit=refit))
        if refit and old is not None:
            conclusion = build_refit(folder, old, request, progress)
        else:
            conclusion = run_stages(folder, request, progress)
    built = read_build(folder)
    assert built is not None
    return describe(folder, built, started, conclusion=conclusion)


def hash_inputs(sources: Sequence[str]) -> dict[str, str]:
    """The SHA-256 of each source file by its name; a source that is not a file stands for itself."""
    inputs = {source: "" for source in sources if source.startswith(DEMO)}
    files = resolve_sources(named) if (named := [source for source in sources if source not in inputs]) else []
    return dict(sorted({**inputs, **{file.name: file.digest() for file in files}}.items()))


def build_request(
    folder: Path,
    old: BuildFile | None,
    sources: Sequence[str],
    inputs: Mapping[str, str],
    recipes: Sequence[str],
    options: Mapping[str, Any],
) -> BuildFile:
    """What a build is to make. Raises UsageError if the folder was built from other data or with other options."""
    names = recipe_names([*(old.recipes if old else DEFAULT_RECIPES), *recipes])
    if old is None:
        return BuildFile(sources=tuple(sources), inputs=dict(inputs), options=plain(options), recipes=names)
    if old.inputs != inputs and (old.finished or (folder / "catalog").exists()):
        changed = sorted(name for name in {*old.inputs, *inputs} if old.inputs.get(name) != inputs.get(name))
        raise UsageError(
            f"{folder} was built from other data",
            got=f"new, changed or missing: {', '.join(changed[:5])}",
            allowed="the files that it was built from",
            hint="Add --refit to update it with this table, or choose another --to."
            if old.finished
            else "Choose another --to, or finish the build with the files that it was started with.",
        )
    differing = [name for name, value in plain(options).items() if old.options.get(name) != value]
    if differing and (folder / "catalog").exists():
        name = differing[0]
        raise UsageError(
            f"{folder} was built with other options",
            got=f"{option_flag(name)}: {old.options.get(name, 'not given')} -> {options[name]}",
            hint="Add --refit to build it again with this option, or choose another --to.",
        )
    changes = {"recipes": names, "inputs": dict(inputs), "options": {**old.options, **plain(options)}}
    return old.model_copy(update=changes)


def refit_request(
    folder: Path,
    old: BuildFile | None,
    sources: Sequence[str],
    inputs: Mapping[str, str],
    recipes: Sequence[str],
    options: Mapping[str, Any],
) -> BuildFile:
    """What a refit is to make. Raises UsageError if there is no finished build to refit."""
    if old is None or not old.finished:
        without = "no build" if old is None else "an unfinished build"
        raise UsageError(
            f"{folder} has {without} to refit",
            allowed="a folder that `pricesmith build` has finished",
            hint="Run the command without --refit first.",
        )
    return BuildFile(
        sources=tuple(sources),
        inputs=dict(inputs),
        options={**old.options, **plain(options)},
        recipes=recipe_names([*old.recipes, *recipes]),
    )


def plain(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options as build.toml gives them back: without those that were not given, tuples as lists."""
    return {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in options.items()
        if value is not None and value is not False and value not in ((), [], {})
    }


def option_flag(name: str) -> str:
    """The command line's name of an option of curate."""
    return "--" + {"mapping": "map"}.get(name, name).replace("_", "-")


def recipe_names(recipes: Sequence[str]) -> tuple[str, ...]:
    """The recipes without repetitions, a blend at the end. Raises UsageError for one that does not exist."""
    names = list(dict.fromkeys(recipes))
    for name in names:
        read_recipe(name, {"members": ["."]} if Path(name).stem == "blend" else {})
    folders = [Path(name).stem for name in names]
    if twice := next((name for name in folders if folders.count(name) > 1), ""):
        raise UsageError(f"Two recipes have the name {twice!r}", hint="Rename one of the files.")
    return tuple(sorted(names, key=lambda name: Path(name).stem == "blend"))


def is_done(folder: Path, old: BuildFile, request: BuildFile) -> bool:
    """Whether everything that is asked for has been made already."""
    asked = (request.inputs, request.options, set(request.recipes), content_of(request.answers))
    made = (old.inputs, old.options, set(old.recipes), content_of(old.answers))
    return old.finished and asked == made and all((folder / part).exists() for part in PARTS)


def format_plan(folder: Path, request: BuildFile, *, refit: bool) -> str:
    """The plan of a build, with an estimate."""
    what = "Refit" if refit else "Plan"
    names = ", ".join(Path(name).stem for name in request.recipes)
    if request.answers is not None:
        names += f", and a blend and a cascade with the answers in {Path(request.answers.file).name}"
    seconds, unknown = estimate_seconds(request)
    estimate = f"{format_estimate(seconds)} on two cores"
    if unknown:
        estimate += f", and an unknown time for {', '.join(unknown)}"
    return (
        f"{what}: curate {', '.join(map(mask_password, request.sources))}; fit {names}; evaluate them; write a report. "
        f"Everything goes to {folder}.\nEstimate: {estimate}. Ctrl-C interrupts it; the same command resumes."
    )


def estimate_seconds(request: BuildFile) -> tuple[float, list[str]]:
    """Seconds of a whole build on two cores, and the recipes of which no time is known."""
    size = sum(DEMO_MB if source.startswith(DEMO) else source_mb(source) for source in request.sources)
    rows = size * 1e6 / BYTES_A_ROW
    seconds, unknown = SECONDS_BESIDE_FITS + SECONDS_A_MB * size, []
    for recipe in request.recipes:
        name = Path(recipe).stem
        figures = measured_figures(name, rows)
        if figures is None and name != "median":
            unknown.append(name)
        seconds += figures[0] if figures else 0.0
    return seconds, unknown


def source_mb(source: str) -> float:
    """Megabytes of text in a source, guessed from the sizes of its files."""
    return sum(file.size * UNPACKED.get(file.path.suffix.lower(), 1) / 1e6 for file in resolve_sources([source]))


def format_estimate(seconds: float) -> str:
    """`a few seconds`, `about 40 seconds`, `about 3 minutes`."""
    if seconds < 10:
        return "a few seconds"
    return f"about {10 * math.ceil(seconds / 10)} seconds" if seconds < 95 else f"about {seconds / 60:.0f} minutes"


def run_stages(
    folder: Path, request: BuildFile, progress: Progress, *, previous: Catalog | None = None, old_model: str = ""
) -> list[str]:
    """All stages of a build in a folder; the conclusion of its report.

    `old_model` is the name of a model in `models` that was fitted on the catalog `previous`: it stays the chosen one if
    the best new model is significantly worse.
    """
    from pricesmith.candidates import run_candidates
    from pricesmith.pricers.hybrid.paid import check_saved_answers
    from pricesmith.reporting import write_report

    write_build(folder, request.model_copy(update={"finished": False}))
    extra = {} if previous is None else {"previous": previous}
    curate(request.sources, folder / "catalog", progress=progress, **request.options, **extra)
    catalog = open_catalog(folder / "catalog")
    progress.note(f"{sum(catalog.ledger['splits'].values()):,} listings in {catalog.path}")
    if request.answers is not None:
        check_saved_answers(Path(request.answers.file), request.answers.api_model, catalog.currency)
    names = fit_models(folder, request, catalog, progress)
    everyone = [*names, *([old_model] if old_model else [])]
    validation = evaluate_on_validation(folder, everyone, catalog, progress)
    chosen = choose_model({name: validation[name] for name in names}, validation.get(old_model))
    built = request.model_copy(
        update={
            "chosen": chosen,
            "currency": catalog.currency,
            "validation": {name: built_model(folder, name, evaluation) for name, evaluation in validation.items()},
        }
    )
    write_build(folder, built)
    progress.note(format_choice(built))
    paths = [str(folder / "models" / name) for name in everyone]
    run_candidates(paths, catalog, folder / "evals", other_catalog=bool(old_model), progress=progress)
    if request.answers is not None:  # overwritten: the answers may have changed
        hybrids = fit_hybrids(folder, chosen, request.answers, catalog, progress)
        run_candidates(hybrids, catalog, folder / "evals", overwrite=True, progress=progress)
    conclusion = write_report(folder / "evals", folder / "report.html")
    write_build(folder, built.model_copy(update={"finished": True}))
    return list(conclusion["conclusion"])


def fit_models(folder: Path, request: BuildFile, catalog: Catalog, progress: Progress) -> list[str]:
    """Fit each recipe into `models/NAME`; the names. A blend is made of all others but the median."""
    from pricesmith.base_models.memory import plan_for_hardware

    names: list[str] = []
    for recipe_name in request.recipes:
        name = Path(recipe_name).stem
        to = folder / "models" / name
        members = [str(folder / "models" / other) for other in names if other != "median"]
        recipe = read_recipe(recipe_name, {"members": members} if name == "blend" else {})
        fit_one(plan_for_hardware(recipe, progress, to=to), catalog, to, progress)
        names.append(name)
    return names


def fit_hybrids(folder: Path, own: str, answers: ApiAnswers, catalog: Catalog, progress: Progress) -> list[str]:
    """Fit a blend and a cascade of the model `own` and the API model; what to evaluate: both, and the answers alone."""
    from pricesmith.candidates import answers_spec

    fees = answers.fees()
    model, models = str(folder / "models" / own), folder / "models"
    wanted: dict[str, tuple[str, dict[str, Any]]] = {
        HYBRID_BLEND: ("blend", {"members": [model, answers.file]}),
        HYBRID_CASCADE: ("cascade", {"first": model, "second": answers.file, "share": ASKED_SHARE}),
    }
    for name, (kind, settings) in wanted.items():
        # Overwritten, because the chosen model may be another one than at the last build.
        fit_one(read_recipe(kind, {**settings, **fees}), catalog, models / name, progress, overwrite=True)
    return [*(str(models / name) for name in wanted), answers_spec(answers.file, fees)]


def fit_one(recipe: Recipe, catalog: Catalog, to: Path, progress: Progress, *, overwrite: bool = False) -> None:
    """Fit a recipe and note what was fitted."""
    from pricesmith.pricers.fitting import fit_model
    from pricesmith.pricers.model import format_model, load_model

    fit_model(recipe, catalog, to, overwrite=overwrite, progress=progress)
    progress.note(format_model(load_model(to)))


def evaluate_on_validation(
    folder: Path, names: Sequence[str], catalog: Catalog, progress: Progress
) -> dict[str, Evaluation]:
    """Each model's quotes of the validation split. Listings that an old model was trained on are left out."""
    from pricesmith.candidates import model_candidate
    from pricesmith.evaluation.run_eval import evaluate_one
    from pricesmith.pricers.model import load_model

    evaluations: dict[str, Evaluation] = {}
    for name in names:
        model = load_model(folder / "models" / name)
        # Without `refit` a small catalog is evaluated on its validation split, not in folds over all its rows.
        candidate = replace(model_candidate(model, name, catalog), refit=None)
        evaluations[name] = evaluate_one(candidate, catalog, split="validation", other_catalog=True, progress=progress)
    return evaluations


def validation_mae(evaluation: Evaluation) -> float:
    """The mean absolute error, unanswered items charged at the median."""
    from pricesmith.evaluation.evaluate import to_arrays

    return float(to_arrays(evaluation).error.mean())


def choose_model(candidates: Mapping[str, Evaluation], old: Evaluation | None = None) -> str:
    """The candidate with the lowest MAE; the old model if that candidate is significantly worse on common items."""
    from pricesmith.evaluation.compare import compare

    best = min(candidates, key=lambda name: (validation_mae(candidates[name]), name))
    if old is None:
        return best
    difference = compare(candidates[best], old)
    worse = difference.low is not None and difference.low > 0
    return old.pricer if worse else best


def built_model(folder: Path, name: str, evaluation: Evaluation) -> BuiltModel:
    """What build.toml says of a model."""
    from pricesmith.pricers.model import read_manifest

    manifest = read_manifest(folder / "models" / name)
    kind, identity = str(manifest["kind"]), str(manifest["identity"])
    return BuiltModel(kind=kind, identity=identity, validation_mae=round(validation_mae(evaluation), 6))


def format_choice(built: BuildFile) -> str:
    """The chosen model, with the validation MAE of each."""
    ordered = sorted(built.validation.items(), key=lambda entry: entry[1].validation_mae)
    maes = ", ".join(f"{name} {format_money(model.validation_mae, built.currency)}" for name, model in ordered)
    best = ordered[0][0]
    reason = (
        "" if built.chosen.endswith(PREVIOUS) or built.chosen == best else " (not significantly worse than the old)"
    )
    if built.chosen.endswith(PREVIOUS):
        reason = " (the refitted models are significantly worse)"
    return f"Chosen: {built.chosen}{reason}. MAE on validation: {maes}."


def build_refit(folder: Path, old: BuildFile, request: BuildFile, progress: Progress) -> list[str]:
    """Build a newer table beside the old build, then move it into place; the conclusion of its report."""
    beside = folder / REFIT
    pending = read_build(beside)
    if pending is not None and (pending.inputs, pending.options) != (request.inputs, request.options):
        raise UsageError(
            f"{folder} has an unfinished refit with other data or options",
            got=", ".join(map(mask_password, pending.sources)),
            hint=f"Finish it with the command that started it, or delete {beside} to give it up.",
        )
    name = old.chosen.removesuffix(PREVIOUS) + PREVIOUS
    copy_model(folder / "models" / old.chosen, beside / "models" / name)
    previous = open_catalog(folder / "catalog")
    conclusion = run_stages(beside, request, progress, previous=previous, old_model=name)
    place = promote_refit(folder)
    progress.note(f"The earlier build is in {place}. Delete it if you do not need it any more.")
    return conclusion


def copy_model(source: Path, to: Path) -> None:
    """Copy a model folder, whole or not at all."""
    if to.exists():
        return
    half = to.with_name(f".{to.name}.copy")
    shutil.rmtree(half, ignore_errors=True)
    to.parent.mkdir(parents=True, exist_ok=True)
    shutil.copytree(source, half)
    os.rename(half, to)


def promote_refit(folder: Path) -> Path | None:
    """Move a finished refit into place; where the earlier build went. An interrupted move goes on.

    The journal names the folder for the earlier build, so that a second try puts the rest there too.
    """
    beside = folder / REFIT
    new = read_build(beside)
    if new is None or not new.finished:
        return None
    journal = beside / JOURNAL
    if not journal.is_file():
        number = next(n for n in range(1, 1_000_000) if not (folder / f"previous-{n}").exists())
        write_atomic(journal, f"previous-{number}")
    place = folder / Path(journal.read_text(encoding="utf-8").strip()).name
    place.mkdir(exist_ok=True)
    for part in PARTS:
        if not (beside / part).exists():
            continue
        if (folder / part).exists() and not (place / part).exists():
            os.rename(folder / part, place / part)
        os.rename(beside / part, folder / part)
    if (folder / BUILD_FILE).is_file() and not (place / BUILD_FILE).is_file():
        write_atomic(place / BUILD_FILE, (folder / BUILD_FILE).read_bytes())
    os.replace(beside / BUILD_FILE, folder / BUILD_FILE)
    journal.unlink()
    with contextlib.suppress(OSError):
        beside.rmdir()
    return place


def describe(
    folder: Path,
    built: BuildFile,
    started: float,
    *,
    conclusion: Sequence[str] = (),
    already_done: bool = False,
) -> dict[str, Any]:
    """The result of a build for machines."""
    return {
        "folder": str(folder),
        "catalog": str(folder / "catalog"),
        "models": {name: str(folder / "models" / name) for name in built.validation},
        "evals": str(folder / "evals"),
        "report": str(folder / "report.html"),
        "chosen": built.chosen,
        "currency": built.currency,
        "validation_mae": {name: model.validation_mae for name, model in built.validation.items()},
        "already_done": already_done,
        "conclusion": list(conclusion),
        "seconds": round(time.perf_counter() - started, 1),
    }


def show_build(result: Mapping[str, Any], console: Console, command: str = "pricesmith", text: str = "a text") -> None:
    """Print the leaderboard, the conclusion, the chosen model and what to do next: price `text`, or serve."""
    from pricesmith.evaluation.leaderboard import build_leaderboard
    from pricesmith.evaluation.results import read_evals
    from pricesmith.reporting.tables import format_conclusion, leaderboard_table

    evals = read_evals(Path(result["evals"]))
    console.say(leaderboard_table(evals, build_leaderboard(evals)))
    if result["conclusion"]:
        console.say()
        console.say(format_conclusion(result["conclusion"]))
    mae = format_money(result["validation_mae"][result["chosen"]], result["currency"])
    console.say(f"\nChosen model: {result['chosen']}, MAE on validation {mae}. Currency: {result['currency']}.")
    console.say(f"The report: {result['report']}")
    console.say(f'Price something: {command} price {result["folder"]} "{text}"')
    console.say(f"Open it in a browser: {command} serve {result['folder']}")
