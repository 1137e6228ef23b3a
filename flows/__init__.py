"""Scheduled retraining: Prefect decides when, shows and alarms; the work itself is `mmpipe.retrain`."""
