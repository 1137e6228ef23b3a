"""The records of a JSONL file, one object a line: a line that is no object is one bad record."""

import json
import math
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any, NoReturn

from mmpipe.records.lines import Lines
from mmpipe.records.record import MAX_LINE_BYTES, Record, refuse


def records(path: Path, wanted: Collection[str], columns: list[str]) -> Iterator[Record]:
    """All records with all their cells; each key that was not seen before is added to `columns`.

    Of millions of different keys only the `wanted` ones are sure to be added. Raises InvalidError
    `manifest-format`, also where no line is good: then after the last.
    """
    first_bad: Record | None = None
    any_good, names = False, _Names(columns, wanted)
    with path.open("rb") as file:
        for record in _records(path, Lines(path, file)):
            any_good = any_good or record.cells is not None
            first_bad = first_bad or (record if record.cells is None else None)
            names.add(record.cells or ())
            yield record
    if first_bad and not any_good:
        fix = "correct it: each line is one JSON object, without a comma after it or after its last value"
        refuse(path, first_bad.line, first_bad.fault, fix, column=first_bad.column)


class _Names:
    """Keys in the order in which they came; other than wanted ones, as many as one line could have."""

    def __init__(self, columns: list[str], wanted: Collection[str]) -> None:
        self._columns, self._wanted = columns, wanted
        self._known = set(columns)
        self._room = MAX_LINE_BYTES

    def add(self, keys: Iterable[str]) -> None:
        for key in keys:
            if key not in self._known and (key in self._wanted or len(key) < self._room):
                self._room -= len(key) + 1
                self._known.add(key)
                self._columns.append(key)


def _records(path: Path, lines: Lines) -> Iterator[Record]:
    first = True
    for line in lines:
        text, fault = line.strip(), lines.bad.get(lines.number, "")
        lines.begin()
        if not text and not fault:
            continue
        record = _record(lines.number, text, fault)
        if first and record.cells is None and not fault and not text.startswith("{"):
            fix = "give one JSON object a line, or rename a table to .csv"
            refuse(path, lines.number, "holds no JSON object", fix)
        first = False
        yield record


def _record(number: int, text: str, fault: str) -> Record:
    if fault:
        return Record(number, None, fault)
    try:
        value = json.loads(
            text, object_pairs_hook=_object, parse_constant=_no_number, parse_float=_number, parse_int=str
        )
    except json.JSONDecodeError as error:
        comma = text[error.pos :].strip() == "," and error.msg == "Extra data"
        words = "a comma after the object" if comma else error.msg
        return Record(number, None, f"is no JSON at column {error.colno}: {words}", error.colno)
    except ValueError as error:
        return Record(number, None, str(error))
    except RecursionError:
        return Record(number, None, "is nested too deep")
    if not isinstance(value, dict):
        return Record(number, None, "is no JSON object")
    return Record(number, value)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"has the key {next(key for key in keys if keys.count(key) > 1)!r} twice")
    return found


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"holds {text}, which is no JSON number")


def _number(text: str) -> str:
    if math.isinf(float(text)):
        raise ValueError(f"holds {text}, which is too large a number")
    return text
