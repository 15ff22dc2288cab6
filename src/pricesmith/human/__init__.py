"""A person as a pricer: a quiz of the catalog's listings, a file of answers, and a result among the pricers.

result = run_quiz(catalog, Path("answers.csv"), n=100)
"""

from pricesmith.human.quiz import run_quiz

__all__ = ["run_quiz"]
