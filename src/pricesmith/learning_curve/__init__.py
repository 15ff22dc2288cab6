"""What more rows would gain, where the error is, and which categories need rows, from the learning curve of a recipe.

    measure_learning_curve(catalog, Path("out/shop-learning-curve"), recipe).doubling.gain

`pricesmith learning-curve CATALOG` calls this. Nothing here reads the test split: the measurement is repeated after
every change of the data, and a split that is looked at each time is no longer a test.
"""

from pricesmith.learning_curve.measure import measure_learning_curve

__all__ = ["measure_learning_curve"]
