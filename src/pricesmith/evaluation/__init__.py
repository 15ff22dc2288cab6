"""One evaluator for every pricer: evaluate, store, compare on common items, rank."""
