"""The corpora: the generated one is always the same; the fetched one is checked and fetched only once."""

import csv
import dataclasses
import hashlib
import io
import tarfile

import numpy as np
import pytest

from mmpipe import ingest, manifest
from mmpipe.corpora import apt, shapes, stamps
from mmpipe.errors import NotFoundError, VerificationError
from mmpipe.inspection import Limits
from mmpipe.media import image


def contents(folder):
    found = {
        p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()
    }
    assert found
    return found


def table(folder):
    with (folder / "manifest.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_shapes_are_the_same_every_time_and_pass_ingest(tmp_path):
    for name, n in (("a", 36), ("b", 36), ("c", 12)):
        (tmp_path / name).mkdir()
        assert shapes.write(tmp_path / name, n=n) == n
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert set(contents(tmp_path / "c")) < set(contents(tmp_path / "a"))
    rows = table(tmp_path / "a")
    assert {row["label"] for row in rows} == set(shapes.LABELS)
    lacking = [sum(not row[key] for key in ("image", "text", "audio")) for row in rows]
    assert max(lacking) in (1, 2) and min(lacking) == 0
    found = ingest.ingest(
        manifest.read(tmp_path / "a" / "manifest.csv"), limits=Limits(), timeout_s=30, workers=1
    )
    assert len(found.samples) == 36 and found.quarantine == []


def deb(members):
    """A Debian package with these files in its data.tar.xz."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:xz") as archive:
        for name, content in members.items():
            entry = tarfile.TarInfo(f"./{name}")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    found = b"!<arch>\n"
    for name, content in (
        ("debian-binary", b"2.0\n"),
        ("control.tar.xz", b"odd"),
        ("data.tar.xz", data.getvalue()),
    ):
        found += f"{name:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(content):<10}`\n".encode() + content
        found += b"\n" * (len(content) % 2)
    return found


PICTURE = image.encode(np.full((4, 5, 3), 200, np.uint8), ".png")
SVG = '<svg xmlns="http://www.w3.org/2000/svg" width="10pt" height="30pt"><rect width="9" height="9"/></svg>'
STAMPS = "usr/share/tuxpaint/stamps/"
FILES = {
    "usr/share/doc/tuxpaint-stamps-default/copyright": b"GPL-2",
    f"{STAMPS}sports/ball.png": PICTURE,
    f"{STAMPS}sports/ball.txt": "Un ballon — “A ball.”\nfr.utf8=Un ballon\n".encode(),
    f"{STAMPS}sports/ball_desc_fr.ogg": b"OggS ball",
    f"{STAMPS}animals/b/ant.svg": SVG.encode(),
    f"{STAMPS}animals/b/ant.txt": b"An ant.\n",
    f"{STAMPS}animals/b/ant_desc_fr.ogg": b"OggS ant",
    f"{STAMPS}animals/mute.png": PICTURE,
    f"{STAMPS}animals/mute.txt": b"No sound.\n",
    f"{STAMPS}animals/blind.txt": b"No picture.\n",
    f"{STAMPS}animals/blind_desc_fr.ogg": b"OggS",
    f"{STAMPS}symbols/star.png": PICTURE,
    f"{STAMPS}symbols/star.txt": b"Left out.\n",
    f"{STAMPS}symbols/star_desc_fr.ogg": b"OggS",
    "../../escape_desc_fr.ogg": b"OggS",
}


@pytest.fixture
def package(monkeypatch):
    """A small package in the place of the real one."""
    data = deb(FILES)
    small = dataclasses.replace(stamps.PACKAGE, size=len(data), sha256=hashlib.sha256(data).hexdigest())
    monkeypatch.setattr(stamps, "PACKAGE", small)
    return small, data


def test_stamps_from_a_package_that_is_there(tmp_path, package, monkeypatch):
    pytest.importorskip("resvg_py")
    monkeypatch.setenv("PATH", "")  # nothing is run
    (tmp_path / package[0].file).write_bytes(package[1])
    folder = tmp_path / "corpus"
    folder.mkdir()
    assert stamps.write(folder, downloads=tmp_path) == 2
    assert table(folder) == [
        {
            "id": "animals/b/ant",
            "image": "images/animals/b/ant.png",
            "text": "An ant.",
            "audio": "audio/animals/b/ant.ogg",
            "label": "animals",
        },
        {
            "id": "sports/ball",
            "image": "images/sports/ball.png",
            "text": "Un ballon — “A ball.”",
            "audio": "audio/sports/ball.ogg",
            "label": "leisure",
        },
    ]
    found = contents(folder)
    assert found["LICENSE"] == b"GPL-2" and found["images/sports/ball.png"] == PICTURE and len(found) == 6
    assert image.decode(found["images/animals/b/ant.png"]).shape == (256, 84, 3)


def test_without_apt_the_error_says_where_to_put_the_file(tmp_path, package, monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(NotFoundError) as raised:
        apt.fetch(package[0], tmp_path / "downloads")
    assert raised.value.code == "corpus-client" and "corpus: shapes" in raised.value.fix
    assert str(tmp_path / "downloads" / package[0].file) in raised.value.fix
    assert list((tmp_path / "downloads").iterdir()) == []


def test_a_package_with_another_hash_is_refused(tmp_path, package):
    (tmp_path / package[0].file).write_bytes(package[1] + b"x")
    with pytest.raises(VerificationError, match="corpus-hash"):
        apt.fetch(package[0], tmp_path)
