"""Scheduled retraining for Prefect: it decides when, shows and alarms; the work itself is `mmpipe.retrain`."""
