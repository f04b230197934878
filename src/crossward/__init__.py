"""Crossward: one English-aligned model in, a model aligned in many languages out."""

__version__ = "0.1.0"
