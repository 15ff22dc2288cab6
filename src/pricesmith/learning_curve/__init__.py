"""Advice: what more rows would buy, where the error sits, and which categories need rows.

    advise(catalog, Path("out/goods-advice")).doubling.gain

`pricesmith learning-curve CATALOG` is this. Nothing here reads the test split: advice is asked for again and again, and a split
that is looked at after every change stops being a test.
"""

from pricesmith.learning_curve.measure import measure_learning_curve

__all__ = ["measure_learning_curve"]
