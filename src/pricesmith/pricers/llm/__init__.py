"""Open language models as pricers: `pricer` prices, `lora` tunes an adapter, `readout` reads a price distribution."""

import logging

# peft imports bitsandbytes, which on some processors warns there that a package for faster kernels is not installed.
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
