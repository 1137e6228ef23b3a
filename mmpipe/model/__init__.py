"""Encoders, fusion and the bundle."""
