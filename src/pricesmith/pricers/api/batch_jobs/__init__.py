"""Batch jobs: many questions to an API model at half price, answered within a day, kept track of on disk."""
