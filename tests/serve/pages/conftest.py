"""Evaluations and a log for the tabs that show them, made once."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

import pricesmith as ps
from pricesmith.serve.log import FeedbackRecord, RequestLog, new_quote_id


@pytest.fixture(scope="session")
def served_evals(served_catalog: Path, served_models: dict[str, Path]) -> Path:
    """The evaluations of the served models."""
    folder = served_catalog.with_name("evals")
    ps.evaluate([ps.load(path) for path in served_models.values()], served_catalog, to=folder)
    return folder


@pytest.fixture(scope="session")
def drift_log(served_models: dict[str, Path], served_catalog: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log with quotes of two days, and sold prices that are half of them."""
    model, path = ps.load(served_models["ridge"]), tmp_path_factory.mktemp("drift") / "shop.requests.db"
    items = ps.catalog.open(served_catalog).items("validation")
    with RequestLog(path) as log:
        for day in (2, 1):
            log.now = lambda day=day: datetime.now(UTC) - timedelta(days=day)
            part = [item.listing for item in items[(day - 1) * 30 : day * 30]]
            quotes = model.price(part, check_similarity=True)
            records = [
                log.build_quote(listing, quote, model="ridge", identity=model.identity, currency="USD")
                for listing, quote in zip(part, quotes, strict=True)
            ]
            log.record_quotes_sync(records)
            for listing, record in zip(part, records, strict=True):
                sold = FeedbackRecord(
                    new_quote_id(), record.price / 2, "USD", title=listing.title, quote_id=record.quote_id
                )
                log.record_feedback_sync(sold)
    return path
