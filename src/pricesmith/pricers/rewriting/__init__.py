"""Listings rewritten into one clean form by a language model, before they are priced."""
