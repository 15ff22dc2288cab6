"""People: a quiz of listings from the catalog, a sheet of answers, and a person's place among the pricers.

asked = ask(catalog, Path("her.csv"), n=100, console=Console())
"""

from pricesmith.human.quiz import run_quiz

__all__ = ["run_quiz"]
