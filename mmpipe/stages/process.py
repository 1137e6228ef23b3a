"""One process that runs one thing: signals, errors and bugs become one line on stderr and an exit status."""

import ctypes
import errno
import os
import shutil
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import FrameType, TracebackType
from typing import NoReturn

from mmpipe.errors import MmpipeError, TemporaryError
from mmpipe.terminal import printable

PR_SET_PDEATHSIG = 1


class Terminated(KeyboardInterrupt):
    """SIGTERM came. Code that saves its state on KeyboardInterrupt and raises it again serves both."""


def run(main: Callable[[], object]) -> NoReturn:
    """Run a stage and end the process: 0, an error's own status, 130 after SIGINT, 143 after SIGTERM.

    The process ends with its parent, so that nothing writes on after a killed `dvc`. `--debug` on the
    command line or MMPIPE_DEBUG=1 shows tracebacks.
    """
    if "--debug" in sys.argv:
        sys.argv.remove("--debug")
        os.environ["MMPIPE_DEBUG"] = "1"
    end_with_parent()
    sys.exit(status(main))


def status(main: Callable[[], object]) -> int:
    """Call `main` and return the exit status, with every foreseen error told in one line on stderr."""
    signal.signal(signal.SIGTERM, _terminate)
    sys.excepthook = _tell_bug
    try:
        main()
        sys.stdout.flush()
    except MmpipeError as error:
        return _tell(error)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the flush at exit fails again
        return 128 + signal.SIGPIPE
    except OSError as error:
        return _tell(of_os(error))
    except MemoryError as error:
        return _tell(TemporaryError("memory-full", str(error) or "no memory is left"))
    except Terminated:
        return _end("terminated; the same command goes on from here", signal.SIGTERM)
    except KeyboardInterrupt:
        return _end("interrupted; the same command goes on from here", signal.SIGINT)
    return 0


def of_os(error: OSError) -> MmpipeError:
    """An error of the operating system in our words: a full disk is temporary (75), others are not (1)."""
    where = os.fsdecode(error.filename) if isinstance(error.filename, (str, bytes)) else ""
    what = error.strerror or str(error)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        where = where or str(Path.cwd())
        return TemporaryError("disk-full", what + _free(Path(where)), where=where)
    return MmpipeError("system", what, where=where)


def end_with_parent() -> None:
    """Ask Linux for SIGTERM when the parent process ends; elsewhere do nothing."""
    if sys.platform != "linux":
        return
    parent = os.getppid()
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != parent:  # it ended before we asked
        os.kill(os.getpid(), signal.SIGTERM)


def debug() -> bool:
    """Whether tracebacks are wanted."""
    return os.environ.get("MMPIPE_DEBUG", "") not in ("", "0")


def _terminate(_number: int, _frame: FrameType | None) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # once: what is being saved may be finished
    raise Terminated


def _free(path: Path) -> str:
    """How much there is on the disk of `path`, in words; temporaries are gone when this is told."""
    there = next(p for p in (path.absolute(), *path.absolute().parents) if p.exists())
    usage = shutil.disk_usage(there)
    return f": {usage.free / 1e6:,.1f} of {usage.total / 1e6:,.1f} MB are free there"


def _tell(error: MmpipeError) -> int:
    if debug():
        traceback.print_exception(error, file=sys.stderr)
    print(printable(str(error), keep="\n"), file=sys.stderr)  # noqa: T201
    return error.exit_status


def _end(words: str, number: signal.Signals) -> int:
    if debug():
        traceback.print_exc()
    print(words, file=sys.stderr)  # noqa: T201
    return 128 + number


def _tell_bug(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """For `sys.excepthook`: a mistake of ours, in one line that says where it is."""
    if debug():
        traceback.print_exception(kind, error, trace, file=sys.stderr)
    last = traceback.extract_tb(trace)[-1:]
    place = f"{last[0].filename}:{last[0].lineno}" if last else ""
    words = str(MmpipeError("internal", f"{kind.__name__}: {error}", where=place))
    print(printable(words, keep="\n"), file=sys.stderr)  # noqa: T201
