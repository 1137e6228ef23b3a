"""The corpora: the generated one is always the same; what others hold of a package, and in what order."""

import csv
import dataclasses
import hashlib
import io
import tarfile

import numpy as np
import pytest

from mmpipe import ingest, manifest
from mmpipe.corpora import shapes, speech, stamps
from mmpipe.inspection import Limits
from mmpipe.media import image


def contents(folder):
    found = {
        p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()
    }
    assert found
    return found


def table(folder, name="manifest.csv"):
    with (folder / name).open(encoding="utf-8", newline="") as file:
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


def placed(folder, members, corpus, monkeypatch):
    """A small Debian package in the place of the real one; nothing can be run to fetch it."""
    data = deb(members)
    digest = hashlib.sha256(data).hexdigest()
    small = dataclasses.replace(stamps.PACKAGE, size=len(data), sha256=digest)
    monkeypatch.setattr(corpus, "PACKAGE", small)
    monkeypatch.setenv("PATH", "")
    (folder / small.file).write_bytes(data)


def test_stamps_from_a_package_that_is_there(tmp_path, monkeypatch):
    pytest.importorskip("resvg_py")
    placed(tmp_path, FILES, stamps, monkeypatch)
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


def spoken(stem, texts, **recordings):
    """The files of one stamp: its texts by language, its recordings by language."""
    lines = ["In English.", *(f"{language}.utf8={text}" for language, text in texts.items())]
    return {
        f"{STAMPS}{stem}.png": PICTURE,
        f"{STAMPS}{stem}.txt": "\n".join(lines).encode(),
        **{f"{STAMPS}{stem}_desc_{language}.ogg": data for language, data in recordings.items()},
    }


SPOKEN = {
    "usr/share/doc/tuxpaint-stamps-default/copyright": b"GPL-2",
    **spoken("a/cat", {"fr": "Un chat.", "ru": "Кот"}, fr=b"chat", ru=b"kot"),
    **spoken("a/tom", {"fr": "Un chat."}, fr=b"another chat"),  # a text that is there already
    **spoken("letters/A", {"fr": "La lettre A."}, fr=b"a"),
    **spoken("letters/a", {"fr": "La lettre a."}, fr=b"a"),  # the same but for case: one of them
    **spoken("odd/one", {"es": "Uno"}, es=b"u"),
    **spoken("odd/two", {"es": "Dos"}, es=b"u"),  # nobody knows which is said
    **spoken(
        "odd/minou", {"ru": "кот!", "fr": "Minou"}, ru=b"k", fr=b"minou"
    ),  # says what a/cat says in Russian
    **spoken("odd/mute", {"fr": "Rien"}),
    **spoken("odd/wordless", {"ru": "Да"}, fr=b"no text in French"),
    **spoken("odd/foreign", {"de": "Nein"}, de=b"no language of ours"),
    f"{STAMPS}odd/blind.txt": b"Blind.\nfr.utf8=Rien\n",
    f"{STAMPS}odd/blind_desc_fr.ogg": b"no picture",
}


def test_speech_has_each_recording_and_each_text_of_a_language_once(tmp_path, monkeypatch):
    placed(tmp_path, SPOKEN, speech, monkeypatch)
    folder = tmp_path / "corpus"
    folder.mkdir()
    assert speech.write(folder, downloads=tmp_path) == 5
    french = table(folder, "fr.csv")
    assert list(french[0]) == list(speech.COLUMNS)
    assert [row["id"] for row in french] == ["fr/a/cat", "fr/letters/A", "fr/odd/minou"]
    assert french[0] == {
        "id": "fr/a/cat",
        "audio": "audio/fr/a/cat.ogg",
        "transcript": "Un chat.",
        "text": "In English.",
        "topic": "a",
        "group": "fr/a/cat",
        "words": "chat un",
    }
    assert [row["words"] for row in french[1:]] == ["a la lettre", "minou"]
    assert [row["transcript"] for row in table(folder, "ru.csv")] == ["Кот", "кот!"]
    assert table(folder, "es.csv") == []
    assert {path.name for path in folder.glob("*.csv")} == {f"{name}.csv" for name in speech.LANGUAGES}
    found = contents(folder)
    assert found["audio/fr/a/cat.ogg"] == b"chat" and found["LICENSE"] == b"GPL-2"
    assert sum(name.endswith(".ogg") for name in found) == 5


def test_what_says_the_same_in_any_language_is_one_group(tmp_path, monkeypatch):
    placed(tmp_path, SPOKEN, speech, monkeypatch)
    (tmp_path / "corpus").mkdir()
    speech.write(tmp_path / "corpus", downloads=tmp_path)
    rows = [row for name in ("fr.csv", "ru.csv") for row in table(tmp_path / "corpus", name)]
    groups = {row["id"]: row["group"] for row in rows}
    cats = {groups[name] for name in ("fr/a/cat", "ru/a/cat", "ru/odd/minou", "fr/odd/minou")}
    assert cats == {"fr/a/cat"} and groups["fr/letters/A"] == "fr/letters/A"
