"""Imports whose source moved on, with real git and DVC: found by names and hashes, nothing is brought."""

import contextlib
import http.server
import threading
from functools import partial

import pytest
from workspace import Workspace

from mmpipe.errors import TemporaryError
from mmpipe.retrain import imports
from mmpipe.retrain.watching import Import


def repository(root):
    root.mkdir()
    made = Workspace(root)
    made.run("git", "init", "--quiet", "-b", "main")
    made.run("git", "config", "user.name", "A Person")
    made.run("git", "config", "user.email", "person@localhost")
    made.run("dvc", "init", "--quiet")
    return made


def commit(made):
    made.run("git", "add", "--all")
    made.run("git", "commit", "--quiet", "-m", "Something")
    return made.run("git", "rev-parse", "HEAD").stdout.strip()


@pytest.fixture(scope="module")
def there(tmp_path_factory):
    """A workspace that imports a folder of DVC's and a file of git's, and a folder by its path."""
    base = tmp_path_factory.mktemp("imports")
    source = repository(base / "source")
    for name in ("data/1.txt", "data/2.txt", "plain.txt"):
        (source.root / name).parent.mkdir(exist_ok=True)
        (source.root / name).write_text(name)
    source.run("dvc", "add", "--quiet", "data")
    commit(source)
    (base / "folder").mkdir()
    (base / "folder/one.txt").write_text("one")
    made = repository(base / "w")
    (made.root / "data/raw").mkdir(parents=True)
    for path in ("data", "plain.txt"):
        made.run("dvc", "import", "--quiet", str(source.root), path, "-o", f"data/raw/{path}")
    made.run("dvc", "import-url", "--quiet", str(base / "folder"), "data/raw/folder")
    return made, source, base / "folder"


def changed(known=()):
    return [Import(**one) for one in imports.changed(known=known)]


def test_only_what_moved_on_is_told(there, monkeypatch):
    made, source, folder = there
    monkeypatch.chdir(made.root)
    assert changed() == []

    (source.root / "unrelated.txt").write_text("of no import")
    commit(source)
    assert changed() == []

    (source.root / "data/2.txt").write_text("other")
    (source.root / "data/3.txt").write_text("new")
    source.run("dvc", "add", "--quiet", "data")
    second = commit(source)
    (folder / "two.txt").write_text("two")
    (folder / "three.txt").write_text("three")
    found = changed()
    assert [(one.name, one.files) for one in found] == [("data/raw/data.dvc", 2), ("data/raw/folder.dvc", 2)]
    assert found[0].state == second
    assert not (made.root / "data/raw/data/3.txt").exists()
    assert "3.txt" not in "".join(path.name for path in (made.root / ".dvc").rglob("*"))

    known = [one.key for one in found]
    assert [(one.key, one.files) for one in changed(known)] == [(key, 0) for key in known]

    (source.root / "plain.txt").write_text("of git")
    commit(source)
    assert [(one.name, one.files) for one in changed(known)] == [
        ("data/raw/data.dvc", 2),
        ("data/raw/folder.dvc", 0),
        ("data/raw/plain.txt.dvc", 1),
    ]
    made.run("dvc", "update", "--quiet", "data/raw/data.dvc", "data/raw/folder.dvc", "data/raw/plain.txt.dvc")
    assert changed() == []


@contextlib.contextmanager
def served(folder):
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def test_a_source_that_does_not_answer_is_told(tmp_path, monkeypatch):
    made = repository(tmp_path / "w")
    monkeypatch.chdir(made.root)
    (made.root / "data/raw").mkdir(parents=True)
    (tmp_path / "web").mkdir()
    (tmp_path / "web/rows.csv").write_text("id\n")
    with served(tmp_path / "web") as address:
        made.run("dvc", "import-url", "--quiet", f"{address}/rows.csv", "data/raw/rows.csv")
        assert changed() == []
        (tmp_path / "web/rows.csv").write_text("id\nnew\n")
        assert [(one.name, one.files) for one in changed()] == [("data/raw/rows.csv.dvc", 1)]
    with pytest.raises(TemporaryError, match=r"import-unreachable data/raw/rows.csv.dvc"):
        changed()
    (made.root / "data/raw/rows.csv.dvc").unlink()
    source = repository(tmp_path / "source")
    (source.root / "a.txt").write_text("a")
    commit(source)
    made.run("dvc", "import", "--quiet", str(source.root), "a.txt", "-o", "data/raw/a.txt")
    assert changed() == []
    source.root.rename(tmp_path / "gone")
    with pytest.raises(TemporaryError, match=r"import-unreachable data/raw/a.txt.dvc .*not"):
        changed()
