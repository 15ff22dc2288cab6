"""Models behind an API: `pricer` is the pricer, the other modules ask, budget and cache."""
