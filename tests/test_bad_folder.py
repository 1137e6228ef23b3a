"""Bad files among good ones, by the commands that people type: the quarantine, and where the run stops."""

import json

import bad_folder
from workspace import Workspace, set_params

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
