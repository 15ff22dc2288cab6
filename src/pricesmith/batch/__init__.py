"""Pricing for others: files of any length."""
