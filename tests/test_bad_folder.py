"""Bad files among good ones, by the commands that people type: the quarantine, and where the run stops."""

import json

import bad_folder
import tiny_bundle
from workspace import Workspace, set_params

from mmpipe import ingest, manifest, paths, tables
from mmpipe.inspection import Limits
from mmpipe.predict import load
from mmpipe.predict_table import predict_table

INGEST = ("python", "-m", "mmpipe.stages.ingest")


def test_each_bad_file_is_a_row_and_too_many_stop_the_run(tmp_path):
    workspace = Workspace(tmp_path / "my")
    source = workspace.root / "data/raw/theirs"
    bad_folder.write(source)
    Workspace(tmp_path).run("mmpipe", "init", "my", "--from", str(source / "rows.csv"))

    set_params(workspace, {"ingest.max_bad_fraction": 0.3})
    told = workspace.run(*INGEST)
    rows, bad = bad_folder.GOOD + len(bad_folder.BAD), len(bad_folder.BAD)
    assert f"{rows} rows in = {bad_folder.GOOD} ok + {bad} quarantined + 0 duplicates" in told.stdout
    found = json.loads(workspace.run("mmpipe", "quarantine", "--json").stdout)
    codes = {row["id"]: row["code"] for row in found}
    assert len(codes) >= 12
    assert codes == {kind: code for kind, (_, _, code) in bad_folder.BAD.items()}
    assert all(row["message"] and row["fix"] and "rows.csv:" in row["where"] for row in found)

    set_params(workspace, {"ingest.max_bad_fraction": 0.2})
    stopped = workspace.run(*INGEST, check=False)
    assert stopped.returncode == 4
    assert stopped.stderr.startswith("too-many-bad-rows 15 of 55 rows are bad (27.3%), 20.0% are allowed: ")
    assert "Traceback" not in stopped.stderr
    assert len(json.loads(workspace.run("mmpipe", "quarantine", "--json").stdout)) == bad


def test_predict_refuses_each_row_that_ingest_puts_aside_and_says_the_same(tmp_path):
    bad_folder.write(tmp_path / "theirs")
    tiny_bundle.write(tmp_path)
    source, out = tmp_path / "theirs/rows.csv", tmp_path / "out.parquet"
    with source.open("ab") as file:
        file.write(b"%2e%2e,%2e%2e/rows.csv,,,a\nmany,,,,a,b\ncaf\xe9,,,,a\nempty, ,,,a\n")
    columns = manifest.COLUMNS | {"text": None, "text_path": "text_path"}
    found = ingest.ingest(manifest.read(source, columns), limits=Limits(), timeout_s=30, workers=2)
    aside = {row["id"]: (row["code"], row["message"]) for row in found.quarantine}
    assert len(aside) == len(bad_folder.BAD) + 4
    predictor = load(tmp_path / paths.BUNDLE, device="cpu")
    counts = predict_table(predictor, source, out, columns=columns | {"target": None}, workers=2)
    rows = tables.read(out).to_pylist()
    refused = {row["id"]: (row["code"], row["message"]) for row in rows if row["code"]}
    nothing = aside.pop("empty"), refused.pop("empty")  # in other words: what the model takes
    assert [code for code, _ in nothing] == ["row-empty", "row-empty"]
    assert refused == aside
    assert counts.predicted == found.counts["rows_ok"] == bad_folder.GOOD
    assert counts.refused == found.counts["codes"]
    assert counts.rows == len(rows) == found.counts["rows_in"]
