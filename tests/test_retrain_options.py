import re

import pytest
from pydantic import ValidationError

from mmpipe.errors import UsageError
from mmpipe.params import Params
from mmpipe.retrain.blocking import to_end
from mmpipe.retrain.options import GateWishes, Options


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


@pytest.mark.parametrize(
    "wishes", [{"publsh": "no"}, {"publish": "maybe"}, {"wait_s": -1}, {"gate": {"alpha": 2}}]
)
def test_mistakes_are_told_before_anything_is_done(tmp_path, wishes):
    with pytest.raises(ValidationError):
        Options.model_validate(wishes)
    with pytest.raises(UsageError, match=re.escape(next(iter(wishes)))):
        to_end(wishes, root=tmp_path, tell=print)
    assert not list(tmp_path.iterdir())
