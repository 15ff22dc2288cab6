"""Reports are views of an evals folder: one self-contained HTML page, and the league table for a terminal."""

from pricesmith.report.page import report

__all__ = ["report"]
