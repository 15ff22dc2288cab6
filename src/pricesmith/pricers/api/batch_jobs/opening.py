"""Opens the batch jobs of an API model.

pricer.batch = open_batch_run(pricer)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pricesmith.core.errors import UsageError
from pricesmith.pricers.api.batch_jobs.anthropic_batches import AnthropicBatches
from pricesmith.pricers.api.batch_jobs.gemini_batches import GeminiBatches
from pricesmith.pricers.api.batch_jobs.http import BatchHttp, Clock
from pricesmith.pricers.api.batch_jobs.openai_batches import OpenAIBatches
from pricesmith.pricers.api.batch_jobs.protocol import BatchProvider
from pricesmith.pricers.api.batch_jobs.questions import BatchQuestions
from pricesmith.pricers.api.batch_jobs.runner import BatchRun

if TYPE_CHECKING:
    from pricesmith.pricers.api.pricer import ApiPricer


def open_batch_run(pricer: ApiPricer, *, waits: bool = True, clock: Clock | None = None) -> BatchRun:
    """Return the batch jobs of a pricer. Raises UsageError if its provider has none that Pricesmith knows."""
    endpoint, clock = pricer.endpoint, clock or Clock()
    if not endpoint.batch:
        raise UsageError(
            f"{endpoint.host} has no batch jobs that Pricesmith knows",
            got=f"{pricer.label} with --batch",
            allowed="models of OpenAI, Anthropic and Google, or of a provider with batch = ... in providers.toml",
            hint="Leave out --batch.",
        )
    if pricer.tier:
        raise UsageError(
            "A batch job has a tier of its own",
            got=f"tier={pricer.tier} with --batch",
            allowed=f"--batch, or tier={pricer.tier}",
            hint="Leave out one of them; both cost about half of the standard price.",
        )
    questions = BatchQuestions(pricer, clock)
    if questions.endpoint.format != endpoint.batch:
        raise UsageError(
            f"Batch jobs of {endpoint.host} have the format {endpoint.batch}",
            got=f"format={endpoint.format} with --batch",
            allowed=f"format={endpoint.batch}",
            hint="Leave out format= after the @, or --batch.",
        )
    http = BatchHttp(questions.endpoint, timeout=pricer.timeout, clock=clock)
    providers: dict[str, type[OpenAIBatches | AnthropicBatches | GeminiBatches]] = {
        "openai": OpenAIBatches,
        "anthropic": AnthropicBatches,
        "gemini": GeminiBatches,
    }
    provider: BatchProvider = providers[endpoint.batch](http)
    return BatchRun(pricer, provider, questions, waits=waits, clock=clock)
