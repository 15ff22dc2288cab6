"""Models behind an OpenAI-compatible endpoint: `pricer` is the pricer, the other modules ask, budget and cache."""
