import csv
import json
import os
import subprocess
import sys

import pytest
from media import png, wav
from ruamel.yaml import YAML
from typer.testing import CliRunner

from mmpipe import guess_task, init, params, trees
from mmpipe.cli import app
from mmpipe.errors import InvalidError, UsageError


@pytest.fixture
def source(tmp_path):
    """A table with names of its own: pictures, notes, kinds; a picture missing in every fourth row."""
    folder = tmp_path / "source"
    (folder / "photos").mkdir(parents=True)
    rows = []
    for i in range(12):
        photo = f"photos/{i}.png" if i % 4 else ""
        if photo:
            (folder / photo).write_bytes(png(40, 30, seed=i))
        kind = ("pear", "apple")[i % 2]
        rows.append(
            {"nr": i, "photo": photo, "note": f"a ripe {kind} number {i}", "sort": kind, "grams": 100.5 + i}
        )
    rows.append(rows[-1] | {"nr": 12, "photo": "../secret.png", "note": "leaves the folder"})
    (tmp_path / "secret.png").write_bytes(png(5, 5, seed=0))
    with (folder / "rows.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return folder


@pytest.fixture
def no_programs(monkeypatch):
    """Without git and dvc, where a test is about something else."""
    monkeypatch.setattr(init, "_version_control", lambda root: None)


def test_table_makes_a_workspace_that_fits_it(tmp_path, source):
    root = tmp_path / "w"
    made = init.init(root, source=source / "rows.csv")
    loaded = params.load(root / "params.yaml")
    assert loaded.data.manifests == ["data/raw/rows.csv"]
    assert loaded.data.columns.model_dump() == {
        "id": None,
        "image": "photo",
        "text": "note",
        "text_path": None,
        "history": None,
        "audio": None,
        "target": "sort",
        "group": None,
        "split": None,
    }
    assert (loaded.corpus, loaded.image.size, loaded.text.max_tokens) == ("none", 32, 16)
    copied = sorted(p.relative_to(root / "data/raw").as_posix() for p in (root / "data/raw").rglob("*.*g"))
    assert copied == sorted(f"photos/{i}.png" for i in range(12) if i % 4)
    assert (made.rows, made.copied) == (13, 10)
    assert made.notes == ["13 rows: 10 with image, 13 with text; 2 different labels"]
    config = (root / ".dvc/config").read_text()
    assert "analytics = false" in config
    assert made_by(root, "git", "check-ignore", "data/raw/rows.csv") == "data/raw/rows.csv\n"
    made_by(root, "git", "add", "-A")
    made_by(root, sys.executable, "-m", "dvc", "add", "-q", "data/raw")  # nothing of it is in git
    assert "?? data/raw.dvc" in made_by(root, "git", "status", "--short", "-uall")


def test_a_target_of_numbers_with_fractions_is_a_regression(tmp_path, source, no_programs):
    made = init.init(tmp_path / "w", source=source / "rows.csv", target="grams")
    found = params.load(tmp_path / "w" / "params.yaml")
    assert (found.model.task, found.data.target, found.data.columns.target) == ("regress", "number", "grams")
    assert found.train.label_smoothing == 0 and "the target is a number" in made.notes[0]


@pytest.mark.parametrize(
    "cells", [["1", "2"] * 20, ["0.5", "1.5"] * 20, [f"{n}" for n in range(40)], ["a", "0.5"]]
)
def test_few_or_whole_numbers_are_names_of_classes(cells):
    assert guess_task.sections({}, cells) == {}
    assert guess_task.sections({}, [f"{n}.5" for n in range(11)])["model"] == {"task": "regress"}


def made_by(folder, *command):
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout


def test_folder_of_classes_is_copied_whole(tmp_path, no_programs):
    for label in ("cat", "dog"):
        (tmp_path / "pets" / label).mkdir(parents=True)
        for i in range(3):
            (tmp_path / f"pets/{label}/{i}.wav").write_bytes(wav(seconds=0.5, seed=i))
            (tmp_path / f"pets/{label}/{i}.txt").write_text("it says something")
    (tmp_path / "pets" / "bird").symlink_to("cat")
    made = init.init(tmp_path / "w", source=tmp_path / "pets")
    loaded = params.load(tmp_path / "w/params.yaml")
    assert loaded.data.manifests == ["data/raw/pets"]
    assert loaded.audio.max_duration_s == 1.0
    assert (made.rows, made.copied) == (6, 12)
    assert made.notes == [
        "6 rows: 6 with text, 6 with audio; 2 different labels",
        "1 more are no samples, such as bird: 'bird' is a link to a folder, and none is followed",
    ]


def test_table_within_the_workspace_stays_where_it_is(tmp_path, source, no_programs):
    root = tmp_path / "w"
    (root / "data").mkdir(parents=True)
    source.rename(root / "data/raw")
    made = init.init(root, source=root / "data/raw")
    assert made.copied == 0
    assert params.load(root / "params.yaml").data.manifests == ["data/raw/rows.csv"]


def test_nothing_is_written_outside_the_folder_for_raw_data(tmp_path, no_programs):
    """Names that stay below their own folder by its links, and links that lie in the workspace already."""
    source, raw = tmp_path / "source", tmp_path / "w/data/raw"
    (source / "a/b/c").mkdir(parents=True)
    (source / "deep").symlink_to("a/b/c")
    (tmp_path / "elsewhere").mkdir()
    raw.mkdir(parents=True)
    (raw / "out").symlink_to(tmp_path / "elsewhere")
    (raw / "2.txt").symlink_to(tmp_path / "victim")
    names = ["deep/../../../up.txt", "out/1.txt", "2.txt", "3.txt"]
    (source / "out").mkdir()
    for name in names:
        (source / name).write_text("words")
    lines = [f"{name},{'ab'[n % 2]}" for n, name in enumerate(names)]
    (source / "rows.csv").write_text("text_path,label\n" + "\n".join(lines) + "\n")
    made = init.init(tmp_path / "w", source=source)
    assert (made.rows, made.copied) == (4, 2)
    assert sorted(path.name for path in raw.iterdir()) == ["2.txt", "3.txt", "out", "rows.csv"]
    assert not any((tmp_path / "elsewhere").iterdir()) and not (tmp_path / "victim").exists()
    assert list(tmp_path.rglob("up.txt")) == [source / "up.txt"]


@pytest.mark.parametrize("name", ["rows.csv", "."])
def test_a_link_in_the_manifests_place_is_refused(tmp_path, no_programs, name):
    source, raw = tmp_path / "source", tmp_path / "w/data/raw"
    for n in range(4):
        (source / "ab"[n % 2]).mkdir(parents=True, exist_ok=True)
        (source / "ab"[n % 2] / f"{n}.txt").write_text("words")
    (source / "rows.csv").write_text("text_path,label\na/0.txt,x\nb/1.txt,y\n")
    raw.mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    (raw / ("source" if name == "." else name)).symlink_to(tmp_path / "elsewhere")
    if name == ".":
        (source / "rows.csv").unlink()
    with pytest.raises(InvalidError, match="a link out of the workspace"):
        init.init(tmp_path / "w", source=source / name)
    assert not any((tmp_path / "elsewhere").iterdir())


def test_workspace_is_never_overwritten(tmp_path, no_programs):
    init.init(tmp_path / "w", corpus="shapes")
    with pytest.raises(InvalidError, match="is a workspace already"):
        init.init(tmp_path / "w", corpus="shapes")


def test_foreign_files_are_kept(tmp_path, no_programs):
    root = tmp_path / "w"
    root.mkdir()
    (root / ".gitignore").write_text("mine")
    init.init(root)
    assert (root / "data/raw/.gitkeep").exists()
    assert (root / ".gitignore").read_text().splitlines()[0] == "mine"
    other = tmp_path / "other"
    other.mkdir()
    (other / "params.yaml").write_text("lr: 1\n")
    with pytest.raises(InvalidError, match="is there already"):
        init.init(other)
    assert [p.name for p in other.iterdir()] == ["params.yaml"]


def test_interrupted_init_goes_on(tmp_path, source, monkeypatch):
    root = tmp_path / "w"

    def stop(path, data):
        if path.name == "dvc.yaml":
            raise KeyboardInterrupt
        write(path, data)

    write = init.write_bytes
    monkeypatch.setattr(init, "write_bytes", stop)
    with pytest.raises(KeyboardInterrupt):
        init.init(root, source=source)
    assert not (root / "dvc.yaml").exists()
    monkeypatch.setattr(init, "write_bytes", write)
    init.init(root, source=source)
    assert (root / "dvc.yaml").exists()


def test_workspace_within_a_repository_is_a_subfolder_of_it(tmp_path):
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    done = CliRunner().invoke(app, ["init", str(tmp_path / "w"), "--corpus", "shapes", "--json"])
    assert json.loads(done.stdout)["root"] == str(tmp_path / "w")
    assert not (tmp_path / "w/.git").exists()
    shown = subprocess.run(
        [sys.executable, "-m", "dvc", "stage", "list", "--name-only"],
        cwd=tmp_path / "w",
        capture_output=True,
        text=True,
        check=True,
    )
    assert {"fetch", "extract@audio", "report"} <= set(shown.stdout.split())


@pytest.mark.parametrize(
    ("text", "target", "words"),
    [
        ("a,b\n1,2\n3,4\n", None, "no column that looks like a label"),
        ("a,label\n1,x\n3,y\n", None, "no column with texts"),
        ("text,kind\nu v,x\n", "sort", "no column 'sort'"),
        ("text,label\n", None, "has no rows"),
    ],
)
def test_table_that_is_not_understood_is_refused(tmp_path, no_programs, text, target, words):
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(InvalidError, match=words):
        init.init(tmp_path / "w", source=tmp_path / "t.csv", target=target)
    assert not (tmp_path / "w").exists()


def test_several_tables_are_told_apart_by_the_person(tmp_path, no_programs):
    for name in ("a.csv", "b.jsonl"):
        (tmp_path / name).write_text("")
    with pytest.raises(UsageError, match=r"a\.csv, b\.jsonl"):
        init.init(tmp_path / "w", source=tmp_path)


@pytest.mark.parametrize("name", [b"caf\xe9.csv", b"caf\xe9"])
def test_a_table_whose_name_is_no_text_is_refused(tmp_path, no_programs, name):
    source = tmp_path / os.fsdecode(name)
    if source.suffix:
        source.write_text("text,label\na b,x\nc d,y\n")
    else:
        (source / "cat").mkdir(parents=True)
    with pytest.raises(UsageError, match="its name is not UTF-8"):
        init.init(tmp_path / "w", source=source)
    assert not (tmp_path / "w").exists()


@pytest.mark.parametrize(
    ("name", "file"),
    [("pipeline.yaml", "dvc.yaml"), ("dvcignore", ".dvcignore"), ("prefect.yaml", "prefect.yaml")],
)
def test_templates_are_the_repositorys_own_files(repository, name, file):
    assert init.template(name) == (repository / file).read_text(), f"cp {file} mmpipe/templates/{name}"


def test_template_ignores_are_the_repositorys_too(repository):
    ours = (repository / ".gitignore").read_text().splitlines()
    lines = init.template("gitignore").splitlines()
    assert lines and [line for line in lines if line not in ours] == []


@pytest.mark.parametrize("name", init.recipes())
def test_a_recipe_is_a_workspace_that_says_no_default_again(tmp_path, no_programs, repository, name):
    init.init(tmp_path / "w", recipe=name)
    chosen = params.load(tmp_path / "w/params.yaml")
    written = YAML(typ="safe").load(init.template(f"recipes/{name}.yaml"))
    assert chosen == params.Params.model_validate(written)
    assert chosen.corpus == written["corpus"] != "none"
    said, usual = trees.flat(written), trees.flat(params.Params().model_dump())
    assert said and [key for key, value in said.items() if usual[key] == value] == []
    assert (repository / "recipes" / name / "RESULTS.md").is_file()


def test_the_repositorys_own_parameters_are_the_recipe_for_stamps(tmp_path, no_programs, repository):
    init.init(tmp_path / "w", corpus="stamps")
    assert (tmp_path / "w/params.yaml").read_text() == (repository / "params.yaml").read_text()


def test_recipes_with_results_are_those_that_there_are(repository):
    assert sorted(path.name for path in (repository / "recipes").iterdir()) == init.recipes() != []


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            {"recipe": "emojis"},
            f"--recipe is {', '.join(init.recipes())}, not 'emojis', did you mean 'emoji'?",
        ),
        ({"recipe": "emoji", "corpus": "shapes"}, "--corpus and --recipe exclude one another"),
        ({"recipe": "../gitignore"}, "not '../gitignore'"),
    ],
)
def test_a_recipe_that_there_is_not_is_refused(tmp_path, no_programs, options, words):
    with pytest.raises(UsageError) as raised:
        init.init(tmp_path / "w", **options)
    assert words in str(raised.value) and not (tmp_path / "w").exists()
