import pytest

from mmpipe.errors import UsageError
from mmpipe.sweep.space import Choice, Range
from mmpipe.sweep.study import Plan, Study, begun

SPACE = {"train.lr": Range(1e-4, 1e-1, whole=False, log=True), "model.dim": Choice((32, 64, 128))}


def plan(**other):
    return Plan(
        **{
            "commit": "c0ffee",
            "space": SPACE,
            "metric": "val_loss",
            "seed": 3,
            "startup": 2,
            "prune_after": None,
            **other,
        }
    )


def loss(values):
    return abs(values["train.lr"] - 0.003) + values["model.dim"] / 1000


def go_on(study, trials):
    while len(study.ended()) < trials:
        trial = study.next()
        trial.complete(loss(trial.values))
    return [(one.experiment, one.params, one.value) for one in study.ended()]


def test_a_study_that_was_stopped_goes_on_as_if_it_had_not_been(tmp_path):
    whole = go_on(Study(tmp_path / "whole.db", "s", plan()), 8)
    for ended in (2, 5):
        study = Study(tmp_path / "parts.db", "s", plan())
        go_on(study, ended)
        study.next()  # broken off
    assert go_on(Study(tmp_path / "parts.db", "s", plan()), 8) == whole
    assert [name for name, _, _ in whole] == [f"s-{number}" for number in range(1, 9)]
    assert len({params["train.lr"] for _, params, _ in whole}) == 8
    assert go_on(Study(tmp_path / "other.db", "s", plan(seed=4)), 8) != whole


def test_it_finds_lower_values_than_chance_began_with(tmp_path):
    study = Study(tmp_path / "s.db", "s", plan(startup=5))
    values = [value for _, _, value in go_on(study, 15)]
    assert min(values[5:]) < min(values[:5])
    best = study.best()
    assert best.value == min(values) and best.params == study.ended()[values.index(min(values))].params


def test_a_bad_trial_is_stopped_after_the_epochs_that_each_gets(tmp_path):
    study = Study(tmp_path / "s.db", "s", plan(startup=1, prune_after=2))
    first = study.next()
    assert not any(first.hopeless(epoch, 1.0) for epoch in range(4))
    first.complete(1.0)
    bad = study.next()
    assert [bad.hopeless(epoch, 5.0) for epoch in range(2)] == [False, True]
    bad.prune()
    good = study.next()
    assert not any(good.hopeless(epoch, 0.5) for epoch in range(4))
    good.complete(0.5)
    _, pruned, _ = ended = study.ended()
    assert [one.state for one in ended] == ["complete", "pruned", "complete"]
    assert pruned.value is None and pruned.reason == "after epoch 2"
    assert study.best().experiment == "s-3"


def test_an_epoch_that_is_replayed_counts_once(tmp_path):
    study = Study(tmp_path / "s.db", "s", plan(prune_after=1))
    trial = study.next()
    assert not trial.hopeless(0, 1.0) and not trial.hopeless(0, 9.0)


def test_no_trial_is_stopped_unless_asked(tmp_path):
    study = Study(tmp_path / "s.db", "s", plan(startup=1))
    study.next().complete(1.0)
    assert not any(study.next().hopeless(epoch, 1e6) for epoch in range(5))


def test_a_trial_that_failed_by_its_values_counts_and_one_that_was_broken_off_does_not(tmp_path):
    study = Study(tmp_path / "s.db", "s", plan())
    study.next().fail("train-not-finite the loss")
    broken = study.next().values
    study = Study(tmp_path / "s.db", "s", plan())
    assert [(one.state, one.reason) for one in study.ended()] == [("failed", "train-not-finite the loss")]
    again = study.next()
    assert (again.experiment, again.values) == ("s-2", broken)
    assert study.best() is None


def test_nothing_is_tried_twice_and_then_nothing_is_left(tmp_path):
    space = {"model.dim": Range(32, 64, whole=True, step=32), "model.fusion": Choice(("concat", "gated"))}
    study = Study(tmp_path / "s.db", "s", plan(space=space, startup=1))
    tried = []
    while (trial := study.next()) is not None:
        tried.append((trial.values["model.dim"], trial.values["model.fusion"]))
        trial.complete(float(len(tried)))
        study = Study(tmp_path / "s.db", "s", plan(space=space, startup=1))
    assert sorted(tried) == [(32, "concat"), (32, "gated"), (64, "concat"), (64, "gated")]


@pytest.mark.parametrize(
    ("other", "word"),
    [
        ({"seed": 4}, "seed"),
        ({"space": {"train.lr": SPACE["train.lr"]}}, "space"),
        ({"startup": 3}, "startup"),
    ],
)
def test_other_options_are_another_study(tmp_path, other, word):
    assert begun(tmp_path / "s.db", "s") is None
    Study(tmp_path / "s.db", "s", plan())
    assert begun(tmp_path / "s.db", "s") == "c0ffee" and begun(tmp_path / "s.db", "t") is None
    with pytest.raises(UsageError, match=f"sweep-differs s began with another {word}"):
        Study(tmp_path / "s.db", "s", plan(**other))
