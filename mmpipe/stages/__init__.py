"""What `dvc.yaml` runs: load params, call, write."""

import os

# Before any stage loads OpenMP. Threads that spin while they wait starve whoever shares the machine; threads
# that never spin are slower than one thread on small tensors. A short spin is neither (docs/experiments.md).
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("GOMP_SPINCOUNT", "20000")
