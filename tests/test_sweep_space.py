import pytest

from mmpipe.errors import InvalidError, UsageError
from mmpipe.params import Params
from mmpipe.sweep.space import Choice, Range, describe, parse, points


def one(text):
    (found,) = parse([text], Params()).values()
    return found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("train.lr=1e-4..1e-2:log", Range(1e-4, 1e-2, whole=False, log=True)),
        ("train.lr=1..2", Range(1, 2, whole=False)),  # the key holds a number with a point
        ("model.dim=32..128", Range(32, 128, whole=True)),
        ("model.dim=32..100:32", Range(32, 96, whole=True, step=32)),
        ("model.dropout=0..0.5:0.1", Range(0, 0.5, whole=False, step=0.1)),
        ("model.dropout=.1...5", Range(0.1, 0.5, whole=False)),
        ("augment.image_rotate=0..20", Range(0, 20, whole=False)),
        ("train.patience=5..20", Range(5, 20, whole=True)),
        ("model.fusion=concat,gated", Choice(("concat", "gated"))),
        ("train.patience=null,5", Choice((None, 5))),
        ("train.deterministic=true,false", Choice((True, False))),
        ("image.pretrained=weights/1..2,weights/3", Choice(("weights/1..2", "weights/3"))),
    ],
)
def test_what_is_written_is_what_is_searched(text, found):
    assert one(text) == found


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        (["train.lr"], "is not KEY=RANGE"),
        (["=1..2"], "is not KEY=RANGE"),
        (["train.lr="], "is not KEY=RANGE"),
        (["train.lr=0.2..0.1"], "a range goes up"),
        (["train.lr=0.1..0.1"], "a range goes up"),
        (["train.lr=0..1:log"], "begins above 0"),
        (["train.lr=0.1..1:lg"], "log or a step"),
        (["train.lr=0.1..1:2"], "a step of at most 0.9"),
        (["train.lr=0.1..1:0"], "log or a step"),
        (["model.dim=32..64:0.5"], "log or a step"),
        (["train.lr=0.1.."], "is no range"),
        (["train.lr=0.1..a"], "is no range"),
        (["model.dim=32,32"], "names a value twice"),
        (["model.dim=32"], "nothing is left to choose"),
        (["model.dim=32,64", "model.dim=96,128"], "is given twice"),
    ],
)
def test_what_is_no_space_says_why(texts, words):
    with pytest.raises(UsageError, match=words) as caught:
        parse(texts, Params())
    assert caught.value.code == "sweep-space"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("train.lrr=1,2", "train.lrr: no such key, did you mean 'lr'?"),
        ("lr=0.1,0.2", "did you mean 'train.lr'?"),
        ("trian.lr=0.1,0.2", "did you mean 'train'?"),
        ("train.lr=-1..1", "train.lr: should be greater than 0, not -1.0"),
        ("model.dim=64..4096", "not 4096"),
        ("model.dim=8.5..64", "should be a valid integer"),
        ("model.fusion=concat,gatd", "did you mean 'gated'?"),
        ("model=1,2", "must be a section"),
    ],
)
def test_what_params_yaml_would_refuse_is_refused_before_any_trial(text, words):
    with pytest.raises(InvalidError) as caught:
        parse([text], Params())
    assert caught.value.code == "params" and words in str(caught.value)


def test_what_only_goes_together_is_not_refused_alone():
    found = parse(
        ["model.image=cnn,pretrained", "image.pretrained=null,package:x", "model.heads=4,5"], Params()
    )
    assert len(found) == 3


def test_a_description_is_the_same_for_the_same_space():
    texts = ["train.lr=1e-4..1e-2:log", "model.fusion=concat,gated"]
    assert describe(parse(texts, Params())) == describe(parse(texts[::-1], Params()))
    assert describe(parse(texts, Params())) != describe(parse(texts[:1], Params()))


@pytest.mark.parametrize(
    ("texts", "count"),
    [
        (["model.dim=32..96:32", "model.fusion=concat,gated"], 6),
        (["model.dropout=0..0.5:0.1"], 6),
        (["model.dim=32..128"], 97),
        (["train.lr=0.1..0.2"], None),
        (["train.seed=0..100000"], None),
    ],
)
def test_combinations_are_counted(texts, count):
    found = points(parse(texts, Params()))
    assert (found and len(found)) == count
