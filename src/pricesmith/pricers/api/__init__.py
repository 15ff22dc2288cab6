"""Models behind an OpenAI-compatible endpoint: `frontier` is the pricer, the rest asks, pays and remembers."""
