"""The example of docs/export.md, run in a process of its own where an export lies."""

import re
import subprocess
import sys
from pathlib import Path

NAMES = ("first", "classify", "transcribe", "answer")


def code(repository: Path) -> dict[str, str]:
    """What comes first, and what is for each task."""
    blocks = re.findall(r"```python\n(.*?)```", (repository / "docs/export.md").read_text(), re.DOTALL)
    return dict(zip(NAMES, blocks, strict=True))


def printed(folder: Path, *parts: str) -> str:
    """What the parts print, one after the other, in `folder`; without torch."""
    whole = "\n".join([*parts, "import sys", "assert 'torch' not in sys.modules"])
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", whole], cwd=folder, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
