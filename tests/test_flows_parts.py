"""The parts of flows that need neither a server nor an engine."""

import asyncio
import base64
import json
import stat
import urllib.error
import urllib.request
from abc import ABC
from pathlib import Path
from typing import get_args, get_type_hints

import pytest
from ruamel.yaml import YAML

from flows import artifacts, deploy, pictures, reports, retrain, schedule, settings
from mmpipe.commands import schedule as command
from mmpipe.errors import NotFoundError
from mmpipe.retrain.outcome import Outcome
from mmpipe.retrain.stages import StageResult

pytestmark = pytest.mark.filterwarnings("default:::prefect")


@pytest.fixture
def place(tmp_path):
    found = settings.Place(tmp_path)
    found.make()
    return found


def test_prefect_yaml_has_what_ui_serves(repository):
    tree = YAML(typ="safe").load(repository / "prefect.yaml")
    written = tree["deployments"]
    served = asyncio.run(deploy.deployments())
    assert len(served) >= 4
    assert [(one["name"], one["entrypoint"], one["description"]) for one in written] == [
        (one.name, one.entrypoint, one.description) for one in served
    ]
    for one, found in zip(written, served, strict=True):
        crons = [(s["cron"], s["timezone"], s["active"]) for s in one.get("schedules", [])]
        assert crons == [(s.schedule.cron, s.schedule.timezone, s.active) for s in found.schedules]
        assert (one["work_pool"]["name"], one["tags"]) == ("mmpipe", found.tags)
        assert one["work_pool"]["job_variables"]["env"] == settings.RUNS
    assert tree["pull"] == [{f"{settings.enter.__module__}.{settings.enter.__name__}": {}}]


def test_a_worker_goes_to_the_workspace_of_its_machine(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(settings.WORKSPACE, raising=False)
    with pytest.raises(NotFoundError, match=r"workspace MMPIPE_WORKSPACE=\."):
        settings.enter()
    (tmp_path / "dvc.yaml").touch()
    settings.enter()
    assert Path.cwd() == tmp_path
    (tmp_path / "w").mkdir()
    monkeypatch.setenv(settings.WORKSPACE, str(tmp_path / "w"))
    with pytest.raises(NotFoundError, match=r"has no dvc.yaml"):
        settings.enter()
    (tmp_path / "w/dvc.yaml").touch()
    settings.enter()
    assert Path.cwd() == tmp_path / "w"


def test_schedules_of_known_deployments_are_left_alone():
    known = asyncio.run(deploy.deployments({"retrain"}))[0]
    assert "schedules" not in known.model_dump(exclude_unset=True)


def test_what_can_be_scheduled_is_what_is_offered():
    assert set(schedule.FLOWS) == {flow.name for flow, _, _ in deploy.OFFERED}
    told = get_type_hints(command.schedule)["flow"]
    assert get_args(get_args(told)[0]) == schedule.FLOWS


def test_pictures_come_of_stages_that_were_cached_too(monkeypatch):
    seen = []

    async def note(_tree, name):
        seen.append(name)

    async def verdict(*_):
        return {"verdict": "promote"}

    monkeypatch.setattr(artifacts, "of_stage", note)
    monkeypatch.setattr(retrain, "here", lambda _step: verdict)
    shown = retrain.Shown()
    shown.results = {name: StageResult(name, how) for name, how in (("train", "cached"), ("report", "ran"))}
    assert asyncio.run(shown.judge(None, print)) == {"verdict": "promote"}
    assert seen == ["train"]


def test_credentials_are_for_one_user_alone_and_stay(place):
    first = place.password()
    assert stat.S_IMODE(place.credentials.stat().st_mode) == 0o600
    assert stat.S_IMODE(place.folder.stat().st_mode) == 0o700
    assert len(first) > 30 and place.password() == first


def test_the_server_is_hardened(place, monkeypatch):
    monkeypatch.setenv("PREFECT_SERVER_API_HOST", "0.0.0.0")
    monkeypatch.setenv("PREFECT_API_DATABASE_CONNECTION_URL", "postgresql+asyncpg://here/db")
    found = settings.server(place, "http://127.0.0.1:4200")
    assert found["PREFECT_SERVER_API_HOST"] == "127.0.0.1"
    assert found["PREFECT_SERVER_API_AUTH_STRING"] == place.password()
    assert found["PREFECT_SERVER_API_CORS_ALLOWED_ORIGINS"] == "http://127.0.0.1:4200"
    assert found["PREFECT_API_DATABASE_CONNECTION_URL"].startswith("postgresql")
    assert "PREFECT_SERVER_DATABASE_CONNECTION_URL" not in found


def test_no_run_inherits_what_only_the_server_needs(place, monkeypatch):
    monkeypatch.setenv("PREFECT_API_DATABASE_CONNECTION_URL", "postgresql+asyncpg://me:secret@here/db")
    monkeypatch.setenv("PREFECT_API_URL", "http://elsewhere/api")
    found = settings.client(place, "http://127.0.0.1:4200")
    assert not [value for value in found.values() if "secret" in value or "elsewhere" in value]


def test_settings_have_the_names_that_prefect_knows(place):
    from prefect.settings import Settings
    from prefect.settings.legacy import _get_settings_fields

    known = set(_get_settings_fields(Settings))
    given = {name for name in settings.server(place, "http://127.0.0.1:1") if name.startswith("PREFECT_")}
    assert len(given) > 10
    assert given - known == set()


def test_reports_want_the_password(place):
    (place.reports / "7.html").write_text("a page")
    address = reports.serve(place, 0)
    token = base64.b64encode(place.password().encode()).decode()

    def ask(name, **headers):
        try:
            with urllib.request.urlopen(
                urllib.request.Request(f"{address}/{name}", headers=headers)
            ) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, b""

    right = {"Authorization": f"Basic {token}"}
    assert ask("7.html")[0] == ask("7.html", Authorization="Basic bm8=")[0] == 401
    assert ask("7.html", **right) == (200, b"a page")
    assert ask("../prefect/credentials", **right)[0] == ask("8.html", **right)[0] == 404


def test_metrics_stand_side_by_side():
    figures = {"challenger": {"accuracy": 0.75, "size_bytes": 10, "unanswered": 2345678}}
    figures["champion"] = {"accuracy": 0.5, "unanswered": 1}
    outcome = Outcome(
        "retrain/3", "abc", verdict={"verdict": "promote", "figures": figures, "reasons": ["r"]}
    )
    assert artifacts.metrics_table(outcome) == [
        {"figure": "accuracy", "champion": "0.5", "new": "0.75", "change": "+0.25"},
        {"figure": "size_bytes", "champion": None, "new": 10, "change": ""},
        {"figure": "unanswered", "champion": 1, "new": 2345678, "change": "+2345677"},
    ]
    assert artifacts.verdict(outcome) == "# promote\n\nagainst no champion\n\n- r\n"


def test_a_drift_is_a_page_and_a_table():
    from flows import drift

    steady = {"name": "labels", "distance": 0.1, "p": 1.0, "most": "a|b: 1.0% → 2.0%", "test": "chi-square"}
    moved = {**steady, "name": "audio, s", "distance": 0.02, "p": 0.001, "drifted": True}
    found = {"verdict": "drifted", "old": 30, "new": 20, "known": 1, "aside": 2, "unknown_labels": {"*x*": 3}}
    found |= {"alpha": 0.01, "min_distance": 0.1, "checks": [{**steady, "drifted": False}, moved]}
    assert [row["name"] for row in drift.rows(found)] == ["audio, s", "labels"]
    page = drift.page(found, "words")
    assert "# Drifted" in page and "3 samples have the label \\*x\\*" in page
    assert "| labels | 0.100 | 1 | a\\|b: 1.0% → 2.0% |  |" in page


def test_lines_that_count_move_progress_on():
    lines = ["epoch 3/30  train_loss 0.1", "extract image 5/40", "predict 1/9", "extract image:40", "3/4"]
    assert [bool(artifacts._STEP.match(line)) for line in lines] == [True, True, True, False, False]


def test_pictures_stand_alone():
    from mmpipe import charts

    uri = pictures.uri(charts.lines({"train": ([0, 1], [1.0, 0.5])}, title="loss"))
    head, data = uri.split(",")
    text = base64.b64decode(data).decode()
    assert head == "data:image/svg+xml;base64"
    assert text.startswith('<svg xmlns="http://www.w3.org/2000/svg"') and "var(" not in text


def test_alarms_tell_of_every_bad_end():
    from flows import alarms

    found = {one.name: one for one in alarms.automations([])}
    told = {event for one in found.values() for event in one.trigger.expect}
    ends = {f"prefect.flow-run.{name}" for name in ("Failed", "Crashed", "Late", "Refused", "Drifted")}
    assert told == {*ends, "prefect.flow-run.*"}
    assert found["mmpipe: alarm, refused"].trigger.threshold == alarms.REFUSALS
    assert (
        json.loads(found["mmpipe: dead runs are crashed"].actions[0].model_dump_json())["state"] == "CRASHED"
    )


def test_alarms_go_to_every_kind_of_block_that_can_notify():
    from prefect.blocks import notifications
    from prefect.blocks.abstract import NotificationBlock

    from flows import alarms

    kinds = [kind for kind in vars(notifications).values() if isinstance(kind, type)]
    blocks = [kind for kind in kinds if issubclass(kind, NotificationBlock) and ABC not in kind.__bases__]
    assert {block.get_block_type_slug() for block in blocks} == set(alarms.KINDS)


def test_automations_that_stay_the_same_are_not_made_anew():
    from prefect.events.actions import DoNothing, SendNotification

    from flows import alarms

    block = "2c5a3463-6f68-42b7-9c83-0395754f6fcc"
    told = SendNotification(block_document_id=block, subject="s", body="b")
    one, same, other = (alarms.automations(what) for what in ([], [DoNothing()], [told]))
    equal = [alarms._content(a) == alarms._content(b) for a, b in zip(one, same, strict=True)]
    differ = [alarms._content(a) != alarms._content(b) for a, b in zip(one, other, strict=True)]
    assert (equal, differ) == ([True] * 6, [False] + [True] * 5)
