import re
import subprocess
import sys

import pytest
from pydantic import ValidationError
from workspace import Workspace

from mmpipe.errors import MmpipeError, UsageError
from mmpipe.params import Params
from mmpipe.retrain import foreseen
from mmpipe.retrain.blocking import to_end
from mmpipe.retrain.options import GateWishes, Options


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    """One commit, on the branch main."""
    found = Workspace(tmp_path_factory.mktemp("options") / "w")
    Workspace(found.root.parent).run("mmpipe", "init", "w")
    found.run("git", "checkout", "--quiet", "-B", "main")
    found.run("git", "add", "--all")
    found.run("git", "-c", "user.name=p", "-c", "user.email=p@localhost", "commit", "--quiet", "-m", "first")
    return found


def test_every_field_has_a_description_and_a_line_in_the_documents(repository):
    page = (repository / "docs/retraining.md").read_text().split("## Options")[1]
    assert re.findall(r"^\| `(\w+)`", page, re.MULTILINE) == list(Options.model_fields)
    for form in (Options, GateWishes):
        assert [name for name, field in form.model_fields.items() if not field.description] == []
    assert set(re.findall(r"`(\w+)`", page.split("| `gate`")[1].splitlines()[0])) == set(
        GateWishes.model_fields
    )


def test_what_the_gate_is_asked_are_parameters_of_its_section():
    asked = Params().gate.model_dump()
    assert set(GateWishes.model_fields) <= set(asked)
    given = Options(set={"train.lr": 1.0}, gate=GateWishes(rule="not_worse", min_gain=-0.01))
    assert given.overrides() == {"train.lr": 1.0, "gate.rule": "not_worse", "gate.min_gain": -0.01}


def test_the_process_that_schedules_stays_small():
    """What is heavy is loaded by the steps, in processes of their own."""
    heavy = ("torch", "dvc", "gto", "pyarrow", "numpy", "cv2", "ruamel", "prefect")
    code = f"import sys, mmpipe.retrain.run; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize(
    ("wishes", "words"),
    [
        ({"set": {"train.lrr": 1}}, r"params\.yaml:\d+:\d+ train\.lrr: no such key, did you mean 'lr'"),
        ({"gate": {"metric": "nonsense"}}, r"params\.yaml is not valid:\n.*gate\.metric"),
        ({"start": "nowhere"}, "git has no commit 'nowhere'"),
        ({"branch": "my branch"}, "my branch git allows no such name"),
        ({"branch": "main"}, "main is checked out in"),
    ],
)
def test_what_would_stop_every_run_is_told_before_it_is_scheduled(workspace, wishes, words):
    before = (workspace.root / "params.yaml").read_bytes()
    foreseen.check(Options.model_validate({"set": {"train.lr": 1}, "branch": "other"}), workspace.root)
    with pytest.raises(MmpipeError, match=words):
        foreseen.check(Options.model_validate(wishes), workspace.root)
    assert (workspace.root / "params.yaml").read_bytes() == before


@pytest.mark.parametrize(
    "wishes", [{"publsh": "no"}, {"publish": "maybe"}, {"wait_s": -1}, {"gate": {"alpha": 2}}]
)
def test_mistakes_are_told_before_anything_is_done(tmp_path, wishes):
    with pytest.raises(ValidationError):
        Options.model_validate(wishes)
    with pytest.raises(UsageError, match=re.escape(next(iter(wishes)))):
        to_end(wishes, root=tmp_path, tell=print)
    assert not list(tmp_path.iterdir())
