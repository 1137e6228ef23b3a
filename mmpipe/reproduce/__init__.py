"""A published version made again from its commit alone, and held against what was recorded of it."""
