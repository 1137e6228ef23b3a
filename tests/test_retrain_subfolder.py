"""A workspace in a folder of a larger git repository, without a DVC remote."""

import json

import judged_pipeline


def test_the_champion_of_a_workspace_in_a_subfolder_is_found_and_beaten(tmp_path):
    top = tmp_path / "repo"
    workspace = judged_pipeline.make(top / "team/one", tmp_path / "scratch", pause_s=0.0, top=top)
    first = json.loads(workspace.run("mmpipe", "run", "--json").stdout)
    assert first["status"] == "promoted" and first["promoted"]["tag"] == "team/one=fusion#prod#1"
    second = workspace.run("mmpipe", "run", "--json", "--set", "train.lr=0.5", check=False)
    assert second.stdout, second.stderr
    told = json.loads(second.stdout)
    assert (second.returncode, told["status"]) == (5, "refused"), second.stderr
    assert told["verdict"]["champion"] == "team/one=fusion@v1.0.0"
    assert workspace.run("git", "status", "--porcelain").stdout == ""
