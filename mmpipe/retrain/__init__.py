"""Retraining as steps that need no server: DVC decides what runs, git keeps what came of it."""
