"""Trees of processes: who is in one, and what they cost together in CPU time and memory."""

import ctypes
import os
import subprocess
import time
from pathlib import Path
from resource import RUSAGE_CHILDREN, getrusage

PR_SET_CHILD_SUBREAPER = 36


def family(root):
    """Process ids: `root` first, then all below it."""
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        parents[int(path.parent.name)] = int(fields[1])
    found = [root]
    for pid in found:
        found += [child for child, parent in parents.items() if parent == pid]
    return found


def cpu_s(pids):
    """CPU seconds of processes that are there."""
    stats = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in pids]
    return sum(int(words[11]) + int(words[12]) for words in stats) / os.sysconf("SC_CLK_TCK")


def resident_mb(pids):
    """Resident memory of processes that are there; what they share counts several times."""
    pages = [int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in pids]
    return sum(pages) * os.sysconf("SC_PAGE_SIZE") / 1e6


def proportional_kb(pid):
    """Memory of a process, shared pages divided among those who share them."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))


def most_resident_mb(pid):
    """The most resident memory that a process ever had, by the kernel's count."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    return sum(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 1024


def measure(command, cwd, environment):
    """A command in a process tree of its own → its CPU s, wall s and peak MB, and what it printed.

    `peak_mb`: of all processes, shared pages counted once; `first_mb`: resident, of the first process.
    """
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)
    before, start = getrusage(RUSAGE_CHILDREN), time.monotonic()
    child = subprocess.Popen(command, cwd=cwd, env={**os.environ, **environment}, stdout=subprocess.PIPE)
    peak, first = 0, 0.0
    while child.poll() is None:
        first = max(first, most_resident_mb(child.pid))
        peak = max(peak, sum(map(proportional_kb, family(os.getpid())[1:])))
        time.sleep(0.05)
    wall = time.monotonic() - start
    printed = child.stdout.read().decode()
    child.stdout.close()
    if child.returncode:
        raise SystemExit(f"{command} ended with {child.returncode}")
    while True:
        try:
            os.wait()
        except ChildProcessError:
            break
    after = getrusage(RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"cpu_s": cpu, "wall_s": wall, "peak_mb": peak / 1024, "first_mb": first}, printed
