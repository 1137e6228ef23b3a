"""The lines of a text file, decoded one at a time, each within its budget."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from mmpipe.records.record import MAX_LINE_BYTES, refuse

AS_UTF8 = "save the manifest as UTF-8"


class RecordTooLongError(ValueError):
    """The lines taken for one record are together longer than `MAX_LINE_BYTES`, counted in characters."""


@dataclass
class Lines:
    """Lines as an iterator that can be put back; `bad` says which of those at hand are no text.

    Iterating raises InvalidError `manifest-format` for UTF-16, RecordTooLongError as that says.
    """

    path: Path
    file: BinaryIO
    number: int = 0
    """Of the line taken last, counted from 1."""
    bad: dict[int, str] = field(default_factory=dict)
    taken: list[str] = field(default_factory=list)
    again: list[str] = field(default_factory=list)
    _chars: int = 0

    def __iter__(self) -> "Lines":
        return self

    def __next__(self) -> str:
        line = self.again.pop() if self.again else self._fresh()
        self.number += 1
        self.taken.append(line)
        self._chars += len(line)
        if self._chars > MAX_LINE_BYTES:
            raise RecordTooLongError(f"it is longer than {MAX_LINE_BYTES:,} characters")
        return line

    def begin(self) -> None:
        """A record starts with the next line: what was taken before is forgotten."""
        for number in range(self.number - len(self.taken) + 1, self.number + 1):
            self.bad.pop(number, None)
        self.taken.clear()
        self._chars = 0

    def put_back(self) -> None:
        """All lines taken since the record began, except the first, come again."""
        self.again.extend(reversed(self.taken[1:]))
        self.number -= len(self.taken) - 1
        del self.taken[1:]

    def _fresh(self) -> str:
        raw = self.file.readline(MAX_LINE_BYTES + 1)
        if not raw:
            raise StopIteration
        number = self.number + 1
        if number == 1 and raw[:2] in (b"\xff\xfe", b"\xfe\xff"):
            refuse(self.path, 1, "is UTF-16", AS_UTF8)
        if number == 1 and b"\0" in raw[:4]:
            refuse(self.path, 1, "holds NUL bytes (UTF-16 without a byte order mark?)", AS_UTF8)
        if len(raw) > MAX_LINE_BYTES:
            while not raw.endswith(b"\n") and (raw := self.file.readline(MAX_LINE_BYTES)):
                pass
            self.bad[number] = f"is longer than {MAX_LINE_BYTES:,} bytes"
            return "\n"
        try:
            return raw.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            self.bad[number] = f"is not UTF-8 at byte {error.start + 1}"
            return raw.decode("utf-8", "replace")
