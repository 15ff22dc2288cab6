"""People: a quiz of listings from the catalog, a sheet of answers, and a person's place among the pricers.

asked = ask(catalog, Path("her.csv"), n=100, console=Console())
"""

from pricesmith.people.quiz import ask

__all__ = ["ask"]
