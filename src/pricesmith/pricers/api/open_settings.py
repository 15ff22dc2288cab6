"""The API settings of a command, opened only for a recipe or model that asks an API model.

with open_settings(recipe, "the recipe cascade", budget=5.0):
    fit_model(recipe, catalog, folder)
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

from pricesmith.core.errors import UsageError


def open_settings(
    asker: object,
    name: str,
    *,
    budget: float | None = None,
    concurrency: int = 8,
    timeout: float | None = None,
    fallback: bool = False,
) -> AbstractContextManager[object]:
    """Return the `ApiSettings` in which `asker`, a recipe or a model, is used; an empty context if it asks no API
    model, that is, if it has no attribute `asks_api` that is true. `name` is what an error calls it.

    Raises UsageError if a value is out of range, or if there is a budget and nothing to spend it on.
    """
    if getattr(asker, "asks_api", False):
        from pricesmith.pricers.api.model_spec import ApiSettings  # 0.2 seconds that other models do not pay

        return ApiSettings(budget, concurrency, timeout, fallback=fallback)
    if budget is not None:
        raise UsageError(
            "There is nothing to spend --budget on",
            got=f"{name} asks no API model",
            allowed="a blend or cascade with a member api:MODEL, or a model whose listings one rewrites",
            hint="Leave out --budget.",
        )
    return nullcontext()
