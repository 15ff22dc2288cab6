"""Advice: what more rows would buy, where the error sits, and which categories need rows.

    advise(catalog, Path("out/goods-advice")).doubling.gain

`pricesmith advise CATALOG` is this. Nothing here reads the test split: advice is asked for again and again, and a split
that is looked at after every change stops being a test.
"""

from pricesmith.advice.advise import advise

__all__ = ["advise"]
