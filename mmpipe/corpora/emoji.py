"""Emoji (MIT, Apache-2.0, CC-BY-4.0) in two art styles, with their names in English and nine categories.

From npm packages, brought by npm: pictures of 64 px in Google's and in Twitter's style, and Unicode's names
(CLDR). A sample is one emoji in one style; its label is its category. An emoji without a name in CLDR's main
list, as flags are, has the name of Unicode's data files.
"""

import csv
import json
import tarfile
from pathlib import Path
from typing import Any

from mmpipe.corpora import npm, package
from mmpipe.errors import VerificationError

STYLES = {
    "google": package.Package(
        name="emoji-datasource-google",
        version="16.0.0",
        file="emoji-datasource-google-16.0.0.tgz",
        size=74_344_091,
        sha256="fb5fd131b362aab7a55542d2a147a79708cce0a8b1c1bbacd470172708b5c438",
    ),
    "twitter": package.Package(
        name="emoji-datasource-twitter",
        version="16.0.0",
        file="emoji-datasource-twitter-16.0.0.tgz",
        size=61_683_754,
        sha256="f64a530c63bca463bd8317fdc4615ce63a53a0c65018e4ce2d848aaba7a28877",
    ),
}
NAMES = package.Package(
    name="cldr-annotations-full",
    version="48.2.0",
    file="cldr-annotations-full-48.2.0.tgz",
    size=6_537_823,
    sha256="28576e51225deb51e3ddd734b0f824a0079682cb5d8c27faa9f68149317a14d1",
)
COLUMNS = ("id", "image", "text", "label", "group")
LEFT_OUT = "Component"
"""Skin tones: no emoji by themselves."""

_LIST = "package/emoji.json"
_ANNOTATIONS = "package/annotations/en/annotations.json"
_LICENSE = "package/LICENSE"


def write(folder: Path, *, downloads: Path) -> int:
    """Write a manifest a style (google.csv, …), its pictures and licences below an existing folder.

    Returns how many samples. One emoji has the same group in both styles. Raises MmpipeError `corpus-client`
    or `corpus-hash`.
    """
    names = _read(package.fetch(NAMES, downloads, npm.bring), ("package/annotations/en/", _LICENSE))
    told = json.loads(names[_ANNOTATIONS])["annotations"]["annotations"]
    (folder / "LICENSE.names").write_bytes(names[_LICENSE])
    count = 0
    for style, wanted in STYLES.items():
        pictures = f"package/img/{style}/64/"
        members = _read(package.fetch(wanted, downloads, npm.bring), (pictures, _LIST, _LICENSE))
        (folder / f"LICENSE.{style}").write_bytes(members[_LICENSE])
        (folder / style).mkdir()
        with (folder / f"{style}.csv").open("w", encoding="utf-8", newline="") as file:
            table = csv.writer(file, lineterminator="\n")
            table.writerow(COLUMNS)
            for emoji in _listed(members[_LIST], pictures, members):
                path, code = f"{style}/{emoji['image']}", Path(emoji["image"]).stem
                (folder / path).write_bytes(members[pictures + emoji["image"]])
                table.writerow([f"{style}/{code}", path, _name(emoji, told), emoji["category"], code])
                count += 1
    return count


def _listed(data: bytes, pictures: str, members: dict[str, bytes]) -> list[dict[str, Any]]:
    """The emoji that have a picture, in the order of their code points; skin tones make no others."""
    found = [
        emoji
        for emoji in json.loads(data)
        if emoji["category"] != LEFT_OUT and pictures + emoji["image"] in members
    ]
    return sorted(found, key=lambda emoji: str(emoji["image"]))


def _name(emoji: dict[str, Any], told: dict[str, dict[str, list[str]]]) -> str:
    """CLDR's short name, which leaves out the selector of the coloured form (FE0F)."""
    letters = "".join(chr(int(code, 16)) for code in emoji["unified"].split("-"))
    for key in (letters, letters.replace("\ufe0f", "")):
        if key in told:
            return told[key]["tts"][0]
    return str(emoji["name"]).lower()


def _read(path: Path, starts: tuple[str, ...]) -> dict[str, bytes]:
    """Name → bytes of the regular files whose name starts so; nothing is extracted to disk."""
    members: dict[str, bytes] = {}
    with tarfile.open(path, "r:gz") as archive:
        for member in archive:
            if member.isfile() and member.name.startswith(starts) and (file := archive.extractfile(member)):
                members[member.name] = file.read()
    if not members:
        raise VerificationError("corpus-hash", "holds none of the files wanted", where=str(path))
    return members
