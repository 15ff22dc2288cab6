"""Reports are views of an evals folder: one self-contained HTML page, and the leaderboard for a terminal."""

from pricesmith.reporting.page import write_report

__all__ = ["write_report"]
