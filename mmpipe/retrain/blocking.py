"""A run from a program that has no event loop: SIGTERM and SIGINT cancel it, and it cleans up."""

import asyncio
import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmpipe.retrain.options import parsed
from mmpipe.retrain.outcome import Outcome
from mmpipe.retrain.run import Steps, Tell, retrain
from mmpipe.stages.process import Terminated


def to_end(wishes: Mapping[str, Any], *, root: Path, tell: Tell, steps: Steps | None = None) -> Outcome:
    """`retrain` from the values of `Options`.

    Raises UsageError for values that are not allowed, `Terminated` after a SIGTERM, KeyboardInterrupt after a
    SIGINT, and what `retrain` raises.
    """
    options = parsed(wishes)
    terminated = False

    async def main() -> Outcome:
        task = asyncio.current_task()
        assert task is not None

        def stop() -> None:
            nonlocal terminated
            terminated = True
            task.cancel()

        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop)
        return await retrain(options, root=root, name=f"of process {os.getpid()}", steps=steps, tell=tell)

    try:
        return asyncio.run(main())
    except asyncio.CancelledError:
        if not terminated:
            raise
        raise Terminated from None
