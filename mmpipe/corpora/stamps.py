"""Tux Paint's stamps (GPL-2): pictures with an English text and a French spoken description.

From Debian's package, brought by apt without root, checked by sha256. A sample is a stamp that has all three;
its label is its top folder. Some folders are left out because they hold hardly anything.
"""

import csv
import functools
import struct
from collections.abc import Iterator
from pathlib import Path

from mmpipe import progress
from mmpipe.corpora import apt, deb, package
from mmpipe.errors import MmpipeError

PACKAGE = package.Package(
    name="tuxpaint-stamps-default",
    version="2022.06.04-1",
    file="tuxpaint-stamps-default_2022.06.04-1_all.deb",
    size=160_880_444,
    sha256="6db6c1bfc870a47f1499d6203b083522eacb57c5f9c87d468f2e92eb6d9d5f34",
)
LEFT_OUT = frozenset({"symbols", "medical", "military", "naturalforces"})
MERGED = {"hobbies": "leisure", "sports": "leisure"}
RENDERED_SIDE = 256
"""Longest side of a rendered SVG, px."""

STAMPS = "usr/share/tuxpaint/stamps/"
COPYRIGHT = "usr/share/doc/tuxpaint-stamps-default/copyright"
_SPEECH = "_desc_fr.ogg"


def write(folder: Path, *, downloads: Path) -> int:
    """Write manifest.csv, images/, audio/ and LICENSE below an existing folder; returns how many samples.

    The package stays in `downloads`, where a copy of it is used and nothing fetched. Raises MmpipeError
    `corpus-client`, `corpus-hash` or `corpus-extra`.
    """
    _check_renderer()
    members = deb.read(package.fetch(PACKAGE, downloads, apt.bring), _is_wanted)
    (folder / "LICENSE").write_bytes(members[COPYRIGHT])
    stems = sorted(stem for stem in _stems(members) if _is_sample(members, stem))
    with (
        (folder / "manifest.csv").open("w", encoding="utf-8", newline="") as file,
        progress.bar("render", len(stems)) as advance,
    ):
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["id", "image", "text", "audio", "label"])
        for stem in stems:
            table.writerow(_write_sample(folder, members, stem))
            advance(1)
    return len(stems)


def _stems(members: dict[str, bytes]) -> Iterator[str]:
    for name in members:
        stem = name.removeprefix(STAMPS).removesuffix(_SPEECH)
        if name.endswith(_SPEECH) and stem.split("/")[0] not in LEFT_OUT:
            yield stem


def _is_sample(members: dict[str, bytes], stem: str) -> bool:
    base = STAMPS + stem
    return f"{base}.txt" in members and (f"{base}.png" in members or f"{base}.svg" in members)


def _write_sample(folder: Path, members: dict[str, bytes], stem: str) -> list[str]:
    base = STAMPS + stem
    picture, speech = f"images/{stem}.png", f"audio/{stem}.ogg"
    data = members.get(f"{base}.png") or _rendered(members[f"{base}.svg"].decode("utf-8"))
    for name, content in ((picture, data), (speech, members[base + _SPEECH])):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    top = stem.split("/")[0]
    english = members[f"{base}.txt"].decode("utf-8").splitlines()[0].strip()
    return [stem, picture, english, speech, MERGED.get(top, top)]


def _rendered(svg: str) -> bytes:
    """PNG of an SVG, its longest side `RENDERED_SIDE`; without the machine's fonts: the same everywhere."""
    import resvg_py

    drawn = functools.partial(resvg_py.svg_to_bytes, svg_string=svg, dpi=96, skip_system_fonts=True)
    png = bytes(drawn(width=RENDERED_SIDE))
    _, height = struct.unpack_from(">II", png, 16)
    return png if height <= RENDERED_SIDE else bytes(drawn(height=RENDERED_SIDE))


def _check_renderer() -> None:
    try:
        import resvg_py  # noqa: F401
    except ImportError:
        raise MmpipeError("corpus-extra", "the stamps need resvg_py to render their SVG pictures") from None


def _is_wanted(name: str) -> bool:
    part = name.endswith((_SPEECH, ".txt", ".png", ".svg")) and name.startswith(STAMPS)
    return part or name == COPYRIGHT
