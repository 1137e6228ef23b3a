"""SIGTERM and SIGINT, held back until there is a good moment."""

import signal
import threading
from types import FrameType
from typing import Self


class Interrupt:
    """Inside this context the first signal only sets `pending`; `deliver` lets it act; a second acts at once.

    Only the main thread can hold signals: elsewhere this does nothing.
    """

    SIGNALS = (signal.SIGTERM, signal.SIGINT)

    def __init__(self) -> None:
        self.pending: int | None = None
        self._before: dict[int, signal.Handlers | object] = {}

    def deliver(self) -> None:
        """Hand a pending signal to whoever handled it before."""
        if self.pending is not None:
            number, self.pending = self.pending, None
            self._restore()
            signal.raise_signal(number)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        self._restore()
        self.pending = number

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
        self._before = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in self.SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        self._restore()
