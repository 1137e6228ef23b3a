import json
import re
import subprocess
import sys

import command_line
import pytest
from typer.testing import CliRunner

from mmpipe import __version__, paths, schema, tables
from mmpipe.cli import app

COMMANDS = [info.callback.__name__ for info in app.registered_commands]
HEAVY = (
    "torch",
    "cv2",
    "pyarrow",
    "dvc",
    "gto",
    "numpy",
    "pydantic",
    "ruamel",
    "soundfile",
    "matplotlib",
    "rich",
)
HEAVY += ("fastapi", "starlette", "uvicorn", "prometheus_client", "python_multipart")


def call(*arguments):
    return CliRunner().invoke(app, arguments, catch_exceptions=False)


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    """A folder with the tables that the reading commands read."""
    monkeypatch.chdir(tmp_path)
    paths.PIPELINE.touch()
    bad = {"source": "raw/r.csv", "modality": "image", "sha256": None}
    tables.write_rows(
        paths.QUARANTINE,
        [
            {**bad, "id": "a\x1b[31m", "row": 3, "code": "image-damaged", "message": "ends early \u202e"},
            {**bad, "id": "b", "row": 7, "code": "file-empty", "message": "empty (0 bytes)"},
        ],
        schema.QUARANTINE,
    )
    return tmp_path


def test_there_are_commands():
    assert {"init", "params", "gate", "quarantine", "samples", "predict", "unlock", "version"} <= set(
        COMMANDS
    )
    assert {"publish", "promote", "rollback", "history", "models"} <= set(COMMANDS)


@pytest.mark.parametrize("command", [None, *COMMANDS])
def test_every_help_has_examples_that_parse(command):
    text = call(*([command] if command else []), "--help").stdout
    examples = re.findall(r"^ *(mmpipe .*)$", text.split("Examples:")[1], re.MULTILINE)
    assert examples
    for example in examples:
        assert command_line.parse(example) == command or command is None


@pytest.mark.parametrize("line", ["mmpipe samples --jsno", "mmpipe init", "mmpipe params a b", "mmpipe nope"])
def test_wrong_examples_do_not_parse(line):
    with pytest.raises(command_line.UsageError):
        command_line.parse(line)


def test_help_imports_nothing_heavy():
    source = f"""
import sys
from typer.testing import CliRunner
from mmpipe.cli import app
assert CliRunner().invoke(app, ["--help"]).exit_code == 0
print([name for name in {HEAVY} if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_listing_models_imports_nothing_heavy(tmp_path):
    source = f"""
import sys
from typer.testing import CliRunner
from mmpipe.cli import app
assert CliRunner().invoke(app, ["models"]).exit_code == 0
print([name for name in {HEAVY} if name in sys.modules])
"""
    subprocess.run(["git", "init", "--quiet"], cwd=tmp_path, check=True)
    done = subprocess.run(
        [sys.executable, "-c", source], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert done.stdout in ("[]\n", "['pydantic']\n")  # typer itself takes it to read options


def test_version_is_the_packages():
    assert call("version").stdout.splitlines()[0] == f"mmpipe {__version__}"
    assert json.loads(call("version", "--json").stdout)["mmpipe"] == __version__


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["nope"], 2, "No such command"),
        (["init"], 2, "folder"),
        (["init", "x", "--corpus", "stampz"], 2, "not 'stampz'"),
        (["init", "x", "--corpus", "shapes", "--from", "y"], 2, "exclude one another"),
        (["init", "x", "--from", "nowhere.csv"], 3, "manifest-missing nowhere.csv does not exist"),
        (["params"], 3, "mmpipe init DIR"),
        (["quarantine"], 3, "mmpipe init DIR"),
        (["samples"], 3, "mmpipe init DIR"),
        (["gate"], 3, "mmpipe init DIR"),
        (["unlock"], 3, "there is no .dvc here or above"),
        (["publish"], 5, "git-state"),
        (["publish", "--bump", "most"], 2, "not one of"),
        (["promote"], 5, "git-state"),
        (["promote", "v1"], 2, "write fusion@v1.0.0"),
        (["rollback", "--stage", "a b"], 2, "cannot be a stage"),
        (["models"], 3, "is no git repository"),
        (["history", "--from", "nowhere"], 3, "remote-missing nowhere is not there"),
        (["predict"], 2, "give either"),
        (["predict", "rows.csv"], 2, "give either"),
        (["predict", "--text", "x", "-o", "y.parquet"], 2, "give either"),
        (["predict", "rows.csv", "--text", "x", "-o", "y.parquet"], 2, "give either"),
        (["predict", "rows.csv", "-o", "y.csv", "--column", "photo"], 2, "--column is"),
        (["predict", "rows.csv", "-o", "y.csv", "--explain"], 2, "--explain is for one sample"),
        (["predict", "--text", "x"], 3, "bundle-missing models/fusion"),
    ],
)
def test_errors_have_their_status_and_no_traceback(tmp_path, monkeypatch, arguments, status, words):
    monkeypatch.chdir(tmp_path)
    done = call(*arguments)
    assert done.exit_code == status
    assert words in done.stderr and "Traceback" not in done.output
    assert not list(tmp_path.iterdir())


def test_quarantine_tells_place_code_and_fix_and_escapes(workspace):
    lines = call("quarantine").stdout.splitlines()
    said, _, fix = lines[0].partition(" — put aside — Fix: ")
    assert said == r"image-damaged raw/r.csv:3 (a\x1b[31m) ends early \u202e"
    assert fix == "restore the file from its source"
    assert lines[-1] == "2 rows put aside (1 file-empty, 1 image-damaged)"
    assert call("quarantine", "--code", "file-empty").stdout.count("Fix:") == 1
    assert call("quarantine", "--code", "nope").exit_code == 2


def test_quarantine_lists_what_extract_could_not_compute(workspace):
    features = schema.feature(__import__("pyarrow").large_binary())
    rows = [{"id": "c", "value": None, "error": "worker-died ended by signal 11"}, {"id": "d", "value": b"x"}]
    tables.write_rows(paths.features("audio") / "part-00000.parquet", rows, features)
    found = json.loads(call("quarantine", "--json").stdout)
    assert [(row["id"], row["code"], row["where"]) for row in found] == [
        ("a\x1b[31m", "image-damaged", "raw/r.csv:3"),
        ("b", "file-empty", "raw/r.csv:7"),
        ("c", "worker-died", "extract@audio"),
    ]


def test_samples_are_counted(workspace):
    row = dict.fromkeys(schema.SAMPLES.names) | {"source": "s", "warnings": []}
    rows = [
        row | {"id": "1", "target": "cat", "text_sha256": "x"},
        row | {"id": "2", "target": "dog", "text_sha256": "y", "image_sha256": "z"},
        row | {"id": "3", "target": "dog", "image_sha256": "w"},
    ]
    tables.write_rows(paths.SAMPLES, rows, schema.SAMPLES)
    found = json.loads(call("samples", "--json").stdout)
    assert found == {
        "rows": 3,
        "splits": {},
        "modalities": {"audio": 0, "image": 2, "text": 2},
        "targets": {"dog": 2, "cat": 1},
    }
    assert "3 samples" in call("samples").stdout


def test_params_prints_every_key_and_its_schema(repository, monkeypatch):
    monkeypatch.chdir(repository)
    assert "max_bad_fraction: 0.05" in call("params").stdout
    assert json.loads(call("params", "--json").stdout)["corpus"] == "stamps"
    assert call("params", "--schema").stdout == (repository / "params.schema.json").read_text()


def test_debug_shows_the_traceback(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MMPIPE_DEBUG", "")
    assert "Traceback" in call("--debug", "params").stderr
