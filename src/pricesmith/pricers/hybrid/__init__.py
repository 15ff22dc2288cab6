"""Blends with paid members and cascades: our own model and an expensive one together."""
