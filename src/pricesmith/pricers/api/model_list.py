"""Reads from a provider's own list of models when it will shut a model down.

OpenAI's `GET /v1/models` gives a `shutdown_date`. It is read before requests are sent; an error is ignored, because the
first request reports what is wrong, and without a date the one of the table of providers holds.
"""

from __future__ import annotations

import datetime
import json
from dataclasses import replace
from typing import Any

from pricesmith.pricers.api.client import DEADLINE_MARGIN, ApiClient
from pricesmith.pricers.api.providers import Endpoint

MAX_SECONDS = 10.0  # for the list; it is a courtesy


def read_endpoint(client: ApiClient, today: datetime.date) -> Endpoint:
    """Return the client's endpoint, with the day of shutdown that the provider itself names."""
    day = find_shutdown(client, today)
    return client.endpoint if day is None else replace(client.endpoint, shutdown=day)


def find_shutdown(client: ApiClient, today: datetime.date) -> datetime.date | None:
    """Return the day after `today` on which the provider will shut the model down; None if it names none.

    Only a provider whose table entry has `lists_shutdowns` is asked.
    """
    from pricesmith.pricers.api.limits import Exchange

    endpoint = client.endpoint
    if not endpoint.lists_shutdowns or (endpoint.key_name and not endpoint.key):
        return None
    http, seconds = client.open_http(), min(client.timeout, MAX_SECONDS)
    try:
        url = f"{endpoint.url}/models"
        response = Exchange().run(lambda: http.get(url, timeout=seconds), seconds + DEADLINE_MARGIN)
        day = read_shutdown(json.loads(response.content), endpoint.model)
    except Exception:
        return None
    return day if day is not None and day > today else None


def read_shutdown(value: Any, model: str) -> datetime.date | None:
    """Return the `shutdown_date` of a model in a list of models; None if there is no such date."""
    entries = value.get("data") if isinstance(value, dict) else None
    for entry in entries if isinstance(entries, list) else []:
        if isinstance(entry, dict) and entry.get("id") == model:
            try:
                return datetime.date.fromisoformat(str(entry.get("shutdown_date"))[:10])
            except ValueError:
                return None
    return None
