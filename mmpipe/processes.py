"""Whether another process lives, and since when: what a file that names a process number is still worth."""

import os
from pathlib import Path


def alive(pid: int) -> bool:
    """Whether a process has this number; one that has ended and only waits to be reaped does not live."""
    if pid < 1:  # for the kernel these are groups
        return False
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return _fields(pid)[:1] not in (["Z"], ["X"])


def began(pid: int) -> float | None:
    """When it started, in seconds of the wall clock, true to about a second; None where nothing tells.

    The kernel counts from the boot, whose time it gives in whole seconds (proc(5), `starttime`, `btime`).
    """
    fields, boot = _fields(pid), _boot()
    if len(fields) < 20 or boot is None:
        return None
    return boot + int(fields[19]) / os.sysconf("SC_CLK_TCK")


def _fields(pid: int) -> list[str]:
    """Those of /proc/PID/stat from the third on: the second is a name that may hold anything."""
    try:
        words = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace")
    except OSError:  # it has ended, or there is no /proc
        return []
    return words.rpartition(")")[2].split()


def _boot() -> float | None:
    try:
        lines = Path("/proc/stat").read_text("ascii", "replace").splitlines()
    except OSError:
        return None
    found = [line.split()[1] for line in lines if line.startswith("btime ")]
    return float(found[0]) if found else None
