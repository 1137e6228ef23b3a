"""What `dvc.yaml` runs: load params, call, write."""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
"""Before any stage loads OpenMP: threads that spin while they wait starve whoever shares the machine."""
