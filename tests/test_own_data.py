"""The acceptance test: somebody's own table, from `mmpipe init --from` to predictions of the bundle alone."""

import csv
import json
import shutil

import cv2
import numpy as np
import pyarrow.parquet as pq
from workspace import Workspace, set_params

LABELS = ["Ä", "b c", "=x"]
SMALL = {
    "image.size": 32,
    "text.vocab_size": 300,
    "train.epochs": 2,
    "train.threads": 1,
    "evaluate.threads": 1,
    "evaluate.bootstrap": 20,
}


def picture(kind: int, seed: int) -> bytes:
    """Noise with a disc, a square or a bar somewhere in it."""
    chance = np.random.default_rng(seed)
    pixels = chance.integers(0, 256, (48, 48, 3), dtype=np.uint8)
    x, y = (int(value) for value in chance.integers(10, 38, 2))
    half = ((9, 9), (8, 8), (20, 3))[kind]
    if kind == 0:
        cv2.circle(pixels, (x, y), half[0], (20, 30, 220), -1)
    else:
        cv2.rectangle(pixels, (x - half[0], y - half[1]), (x + half[0], y + half[1]), (200, 60, 20), -1)
    return cv2.imencode(".png", pixels)[1].tobytes()


def write_table(folder):
    """48 rows; every sixth without a picture, every seventh without a text."""
    (folder / "my photos").mkdir(parents=True)
    rows = []
    for i in range(48):
        photo = f"my photos/{i}.png" if i % 6 else ""
        if photo:
            (folder / photo).write_bytes(picture(i % 3, i))
        words = ("round", "a corner", 'long; "thin"')[i % 3]
        note = f"{words}, number {i}" if i % 7 or not photo else ""
        rows.append({"photo": photo, "note": note, "sort": LABELS[i % 3], "grams": 100.5 + i})
    with (folder / "rows.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def test_own_table_becomes_a_model_that_predicts_anywhere(tmp_path):
    write_table(tmp_path / "theirs")
    here = Workspace(tmp_path)
    here.run("mmpipe", "init", "my", "--from", "theirs/rows.csv")
    workspace = Workspace(tmp_path / "my")
    set_params(workspace, SMALL)
    ran, output = workspace.repro()
    assert {"ingest", "extract@image", "extract@text", "train", "evaluate", "report"} <= set(ran), output
    config = json.loads((workspace.root / "models/fusion/config.json").read_text())
    assert config["labels"] == sorted(LABELS)
    assert sorted(config["features"]) == ["image", "text"]
    counts = json.loads((workspace.root / "metrics/ingest.json").read_text())
    assert (counts["rows_in"], counts["rows_quarantined"]) == (48, 0)
    held = {row["id"]: row for row in pq.read_table(workspace.root / "data/predictions.parquet").to_pylist()}
    assert held and {row["split"] for row in held.values()} == {"val", "test"}
    assert "Ä" in (workspace.root / "reports/index.html").read_text("utf-8")
    assert workspace.repro()[0] == []
    predict_elsewhere(workspace, tmp_path)


def predict_elsewhere(workspace: Workspace, folder) -> None:
    """Only the bundle is left of the workspace."""
    away = Workspace(folder / "away")
    shutil.copytree(workspace.root / "models/fusion", away.root / "model")
    shutil.rmtree(workspace.root)
    (away.root / "new.png").write_bytes(picture(1, 1000))
    one = away.run(
        "mmpipe", "predict", "--model", "model", "--image", "new.png", "--text", "a corner", "--json"
    )
    found = json.loads(one.stdout)
    assert found["label"] in LABELS and set(found["probabilities"]) == set(LABELS)
    assert abs(sum(found["probabilities"].values()) - 1) < 1e-5
    columns = ("--column", "id=", "--column", "image=photo", "--column", "text=note")
    table = folder / "theirs/rows.csv"
    told = away.run("mmpipe", "predict", str(table), "-o", "out.csv", "--model", "model", *columns)
    assert told.stdout.startswith("48 rows = 48 predicted")
    with (away.root / "out.csv").open(newline="", encoding="utf-8") as file:
        assert len(list(csv.DictReader(file))) == 48
