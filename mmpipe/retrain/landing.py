"""New samples of a landing folder → an immutable folder named by its content; no sample is taken twice."""

import json
import re
import shutil
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mmpipe import files, manifest, paths
from mmpipe.errors import NotFoundError, SampleError
from mmpipe.row import BadRow, Row

LANDED = paths.RAW / "landed"
TABLE = "rows.jsonl"
FILES = "files"
SETTLED_S = 1.0
"""A file that is younger may still be written to: it is waited for."""
_SUFFIX = re.compile(r"\.[a-z0-9]{1,10}")
Columns = Mapping[str, str | None]
Line = dict[str, str | None]
"""One sample: column → cell, where files are named by their content. Equal samples are equal lines."""


@dataclass
class Landed:
    """Rows found = rows new + known + left. `manifest`: of the new ones, None without any.

    `left`: why rows stay in the landing folder, one text each; the next run looks again.
    """

    rows: int = 0
    known: int = 0
    left: list[str] = field(default_factory=list)
    files: int = 0
    size: int = 0
    labels: dict[str, int] = field(default_factory=dict)
    manifest: str | None = None

    def as_json(self) -> dict[str, Any]:
        """Names and numbers that JSON can hold."""
        return asdict(self)


def land(folder: Path, columns: Columns, *, max_bytes: int) -> Landed:
    """Copy what is new in a landing folder to `data/raw/landed/<hash>/`, in the workspace that is the
    current folder.

    The folder holds tables like the workspace's own manifest, with their files, or one folder a class. Raises
    NotFoundError `landing-missing`, InvalidError as `manifest.read` does.
    """
    if not folder.is_dir():
        raise NotFoundError("landing-missing", "is no folder", where=str(folder))
    known = set(_known())
    fresh: dict[str, Line] = {}
    found = Landed()
    partial = LANDED / ".partial"
    shutil.rmtree(partial, ignore_errors=True)
    (partial / FILES).mkdir(parents=True)
    try:
        for row in manifest.read_all(folder, columns):
            try:
                line, contents = _read_row(row, columns, max_bytes)
            except SampleError as error:
                found.left.append(_told(row, folder, error))
                continue
            text = json.dumps(line, sort_keys=True)
            if text in known or text in fresh:
                found.known += 1
                continue
            fresh[text] = line
            _copy(contents, partial, found)
        if fresh:
            found.rows = len(fresh)
            found.labels = _labels(list(fresh.values()), columns)
            found.manifest = _keep(partial, sorted(fresh)).as_posix()
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return found


def _known() -> Iterator[str]:
    """Every line that is in the workspace already."""
    for table in sorted(LANDED.glob(f"*/{TABLE}")):
        yield from table.read_text("ascii").splitlines()


def _read_row(row: Row | BadRow, columns: Columns, max_bytes: int) -> tuple[Line, dict[str, bytes]]:
    """The sample as it will be written, and its files by the names they will have. Raises SampleError."""
    if isinstance(row, BadRow):
        raise SampleError(row.code, row.what)
    cells = {key: getattr(row, key) for key in ("text", "history", "target", "group", "split")}
    cells["id"] = None if row.id == f"{row.source}:{row.row}" else row.id
    contents: dict[str, bytes] = {}
    for key, name in (("image", row.image), ("audio", row.audio), ("text_path", row.text_path)):
        inline = key == "text_path" and columns.get(key) is None
        if name is None or (columns.get(key) is None and not inline):
            continue
        data = _read(row.path_of(name), max_bytes)
        if inline:
            cells["text"] = _decoded(data)
        else:
            cells[key] = _named(data, Path(name).suffix.lower())
            contents[cells[key]] = data
    line = {column: cells.get(key) for key, column in columns.items() if column is not None}
    if not contents and not line.get(columns.get("text") or ""):
        raise SampleError("row-empty", "has no modality that params.yaml has a column for")
    return line, contents


def _read(path: Path, max_bytes: int) -> bytes:
    """The bytes of a file that nobody writes to any more. Raises SampleError."""
    before = _stamp(path)
    age_s = time.time() - before[1] / 1e9
    if 0 <= age_s < SETTLED_S:
        time.sleep(SETTLED_S - age_s)
    data = files.read_guarded(path, max_bytes=max_bytes)
    if _stamp(path) != before or len(data) != before[0]:
        raise SampleError("file-changed", f"{path.name!r} is being written to")
    return data


def _stamp(path: Path) -> tuple[int, int]:
    """Size in bytes and time of the last change in ns."""
    try:
        status = path.stat()
    except OSError:
        raise SampleError("file-missing", f"{path.name!r} does not exist") from None
    return status.st_size, status.st_mtime_ns


def _decoded(data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise SampleError("text-encoding", f"is not UTF-8 at byte {error.start}") from None


def _named(data: bytes, suffix: str) -> str:
    """A name that says the content; the extension stays for people."""
    return f"{FILES}/{files.sha256(data)}{suffix if _SUFFIX.fullmatch(suffix) else ''}"


def _copy(contents: Mapping[str, bytes], partial: Path, found: Landed) -> None:
    for name, data in contents.items():
        path = partial / name
        if not path.exists():
            path.write_bytes(data)
            path.chmod(0o444)
            found.files += 1
            found.size += len(data)


def _keep(partial: Path, lines: Sequence[str]) -> Path:
    """The folder gets its table and then its name, which is the table's hash. Returns the table."""
    data = "".join(f"{line}\n" for line in lines).encode("ascii")
    (partial / TABLE).write_bytes(data)
    (partial / TABLE).chmod(0o444)
    goal = LANDED / files.sha256(data)[:16]
    partial.replace(goal)
    return goal / TABLE


def _told(row: Row | BadRow, folder: Path, error: SampleError) -> str:
    source, name = (text.removeprefix(f"{folder.as_posix()}/") for text in (row.source, row.id))
    return f"{source}:{row.row} ({name}) {error.code} {error.what}"


def _labels(lines: Sequence[Line], columns: Columns) -> dict[str, int]:
    target = columns.get("target") or ""
    return dict(sorted(Counter(line.get(target) or "" for line in lines).items()))
