"""Open language models as pricers: `pricer` prices, `lora` tunes an adapter, `readout` reads a price distribution."""
