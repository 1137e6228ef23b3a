"""Bytes of strangers → arrays or coded refusals, within budgets."""
