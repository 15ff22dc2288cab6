"""One judge for everything that prices: evaluate, compare on common items, keep, summarize."""
