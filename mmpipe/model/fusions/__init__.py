"""The fusions: feature level, cross-modal attention, and pools of opinions."""
