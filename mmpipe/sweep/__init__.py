"""The best parameters, searched for: each trial is a DVC experiment, and the study may stop at any time."""
