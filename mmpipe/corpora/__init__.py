"""Corpora that are fetched when first needed."""
