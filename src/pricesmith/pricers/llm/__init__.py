"""Language models of one's own: `llm` prices, untuned or tuned, `tune` trains an adapter, `readout` reads a price."""
