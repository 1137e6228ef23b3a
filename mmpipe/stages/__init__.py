"""What `dvc.yaml` runs: load params, call, write."""
