"""Every flow besides `retrain` for real: started through the server's API as the UI does, seen to its end."""

import json
import shutil

import pyarrow.parquet as pq
import pytest
import tiny_bundle
import tiny_champion
import tiny_pipeline
from scheduling import running, until

from mmpipe.retrain import lock, watching

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """The workspace, and the server that `mmpipe ui` runs in it."""
    folder = tmp_path_factory.mktemp("deployments")
    workspace = tiny_champion.make(folder / "w", folder / "scratch")
    before = tiny_pipeline.status(workspace)
    with running(workspace) as server:
        yield workspace, server
    assert tiny_pipeline.status(workspace) == before
    assert lock.holder(workspace.root) is None


def test_forms_say_what_is_asked(served):
    _, server = served
    for flow in ("watch", "drift-check", "reproduce-champion", "predict"):
        found = server.ask(f"deployments/name/{flow}/{flow}")["parameter_openapi_schema"]["properties"]
        assert found and [name for name, field in found.items() if not field.get("description")] == []


def test_predict_writes_a_table_that_names_the_model(served):
    workspace, server = served
    ended = server.ended(server.start("predict", table="rows/rows.csv", output="out.parquet"))
    assert ended["state"]["name"] == "Predicted", ended["state"]
    assert "36 of 36 rows of rows/rows.csv by fusion#prod" in ended["state"]["message"]
    found = pq.read_table(workspace.root / "out.parquet").to_pylist()
    assert len(found) == 36 and {row["model"] for row in found} == {"fusion@v1.0.0"}
    assert {row["prediction"] for row in found} <= set(tiny_bundle.LABELS)


def test_predict_stays_in_the_workspace(served):
    workspace, server = served
    ended = server.ended(server.start("predict", table="rows/rows.csv", output="../out.parquet"))
    assert ended["state"]["type"] == "FAILED"
    assert "'../out.parquet' is outside of the workspace" in ended["state"]["message"]
    assert not (workspace.root.parent / "out.parquet").exists()


def test_predict_tells_why_it_cannot(served):
    _, server = served
    run = server.start("predict", table="none.csv", output="out.parquet")
    assert "manifest-missing" in server.ended(run)["state"]["message"]


def test_the_champion_is_reproduced_from_its_commit(served):
    _, server = served
    run = server.start("reproduce-champion")
    ended = server.ended(run)
    assert ended["state"]["name"] == "Reproduced", ended["state"]
    assert ended["state"]["message"].startswith("fusion@v1.0.0: 4 stages came out byte for byte")
    rows = json.loads(server.artifacts(run)["reproduction"]["data"])
    assert {row["stage"]: row["state"] for row in rows} == dict.fromkeys(tiny_champion.STAGES, "identical")
    until(lambda: "train          identical" in server.said(run), "log line of a stage")


def test_a_version_that_comes_out_otherwise_is_a_failed_run_with_its_record(served):
    workspace, server = served
    tiny_champion.tag(workspace, "fusion@v1.0.1", {"Bundle-SHA256": "ab" * 32})
    run = server.start("reproduce-champion", champion="fusion@v1.0.1")
    ended = server.ended(run)
    assert ended["state"]["type"] == "FAILED"
    assert "not-reproduced fusion@v1.0.1 diverged at bundle" in ended["state"]["message"]
    rows = json.loads(server.artifacts(run)["reproduction"]["data"])
    [row] = [row for row in rows if row["stage"] == "bundle"]
    assert row["state"] != "identical" and row["why"]


def test_samples_like_the_champions_are_steady_and_others_have_drifted(served):
    workspace, server = served
    before = server.ended(server.start("drift-check"))
    assert (before["state"]["name"], before["state"]["message"]) == (
        "Waiting",
        "landing is not there: nothing has landed",
    )
    tiny_champion.drop(workspace.root / "landing", seed=7, count=30)
    steady = server.ended(server.start("drift-check"))
    assert steady["state"]["name"] == "Steady", steady["state"]
    tiny_champion.drop(workspace.root / "landing", seed=8, count=30, labels=(tiny_bundle.LABELS[0],))
    run = server.start("drift-check", predictions=False)
    drifted = server.ended(run)["state"]
    assert (drifted["type"], drifted["name"]) == ("COMPLETED", "Drifted")
    assert "new samples differ in labels (bass: 33.3% → 100.0%)" in drifted["message"]
    kept = server.artifacts(run)
    rows = json.loads(kept["drift-checks"]["data"])
    assert (rows[0]["name"], rows[0]["drifted"]) == ("labels", "drifted")
    assert kept["drift"]["data"].startswith("# Drifted")
    event = {"filter": {"event": {"name": ["prefect.flow-run.Drifted"]}}}
    until(lambda: server.ask("events/filter", event)["total"], "event that an automation can wait for")
    shutil.rmtree(workspace.root / "landing")


def test_watch_starts_one_retraining_for_new_samples(served):
    """Two looks while one is in progress, and one after it: nothing is started twice."""
    workspace, server = served
    waiting = server.ended(server.start("watch"))
    assert waiting["state"]["name"] == "Waiting" and "0 new samples" in waiting["state"]["message"]
    tiny_champion.drop(workspace.root / "landing", seed=2, count=25)
    tiny_pipeline.behave(workspace, pause_s=2)  # there is time to look
    looks = [server.ended(server.start("watch")) for _ in range(2)]
    assert [one["state"]["name"] for one in looks] == ["Started", "Waiting"], looks
    assert "is still in progress" in looks[1]["state"]["message"]
    started = watching.read(workspace.root).run
    ended = server.ended(started)
    assert ended["state"]["name"] == "Unchanged", ended["state"]
    assert "25 new samples" in server.artifacts(started)["summary"]["data"]
    after = server.ended(server.start("watch"))
    assert after["state"]["name"] == "Waiting" and "0 new samples" in after["state"]["message"]
    runs = server.ask("flow_runs/filter", {"flows": {"name": {"any_": ["retrain"]}}})
    assert [run["id"] for run in runs] == [started]


def test_watch_starts_a_retraining_when_an_import_has_changed(served):
    workspace, server = served
    source = workspace.root.parent / "source"
    tiny_champion.drop(source, seed=3, count=4)
    (workspace.root / "data/raw").mkdir(parents=True)
    workspace.run("dvc", "import-url", "--quiet", str(source), "data/raw/source")
    tiny_pipeline.commit(workspace)
    assert server.ended(server.start("watch"))["state"]["name"] == "Waiting"
    (source / "more.csv").write_text("id,text,label\nx,a low one,bass\n")
    look = server.ended(server.start("watch"))
    assert look["state"]["name"] == "Started", look["state"]
    assert "1 new or changed files of imports" in look["state"]["message"]
    started = watching.read(workspace.root).run
    assert server.ended(started)["state"]["name"] == "Unchanged"
    assert "data/raw/source.dvc has new data" in server.artifacts(started)["summary"]["data"]
    after = server.ended(server.start("watch"))
    assert after["state"]["name"] == "Waiting" and " 0 new or changed" in after["state"]["message"]


def test_a_stage_that_may_work_later_is_tried_again(served):
    """Exit status 75 once: the task run is retried by itself and the run does its work."""
    workspace, server = served
    tiny_pipeline.behave(workspace, exit_status=75, once=workspace.root / ".mmpipe/failed-once")
    run = server.start("retrain")
    ended = server.ended(run)
    assert ended["state"]["name"] == "Unchanged", ended["state"]
    [train] = [
        one
        for one in server.ask("task_runs/filter", {"flow_runs": {"id": {"any_": [run]}}})
        if one["name"] == "train"
    ]
    assert train["run_count"] == 2 and train["state"]["type"] == "COMPLETED"
