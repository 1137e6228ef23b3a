"""Out-of-fold predictions and the combiner fitted on them."""

import math

import numpy as np
import pytest
import tiny
import torch
from sklearn.linear_model import LogisticRegression

from mmpipe import batches, paths, schema, split, stacking
from mmpipe.errors import InvalidError
from mmpipe.model.fusions.opinions import Stacking
from mmpipe.model.network import build_model
from mmpipe.params import Params
from mmpipe.stacking import Opinions
from mmpipe.stages.job import Job
from mmpipe.tasks import multilabel
from mmpipe.tasks.classify import TASK
from mmpipe.tasks.task import Wishes


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("workspace")
    tiny.write(root, n=40, missing=0.3)
    features = {m: root / paths.features(m) for m in schema.MODALITIES}
    return batches.load(features, root / paths.SPLITS, "train", coding=tiny.CODING)


def network(fold):
    torch.manual_seed(fold)
    return build_model(
        modalities=["audio", "image", "text"],
        classes=2,
        dim=8,
        dropout=0.0,
        vocab_size=tiny.VOCAB,
        n_mels=tiny.N_MELS,
        fusion="stacking",
    )


def test_each_sample_is_judged_by_the_model_that_was_trained_without_it(data):
    folds = np.arange(len(data)) * 7 % 3
    seen = {}

    def train(fold, some):
        seen[fold] = set(some.ids)
        return network(fold)

    found = stacking.out_of_fold(data, folds.tolist(), train)
    for fold in range(3):
        held = {data.ids[n] for n in np.flatnonzero(folds == fold)}
        assert seen[fold] == set(data.ids) - held
    alone = [stacking.opinions(network(fold), data) for fold in range(3)]
    for m in schema.MODALITIES:
        assert torch.equal(found.present[m], alone[0].present[m])
        for n, fold in enumerate(folds):
            if found.present[m][n]:
                torch.testing.assert_close(found.said[m][n], alone[fold].said[m][n])


def made(n=300, missing=0.0):
    """The label is what text says, but for class 1 and 2, which only audio tells apart, upside down."""
    chance = np.random.default_rng(0)
    target = chance.integers(0, 3, n)
    text, audio = chance.normal(0, 1, (2, n, 3))
    text[target == 0, 0] += 3
    text[target != 0, 1:] += 3
    audio[target == 1, 2] += 3
    audio[target == 2, 1] += 3
    said = {"audio": torch.tensor(audio), "text": torch.tensor(text)}
    present = {m: torch.tensor(chance.random(n) >= missing) for m in said}
    return Opinions(said, present), torch.tensor(target)


def accuracy(fusion, found, target, shown=("audio", "text")):
    weight = {m: (here & (m in shown)).float() for m, here in found.present.items()}
    said = fusion({m: x.float() for m, x in found.said.items()}, weight)
    return float((said.argmax(1) == target).double().mean())


def test_the_combiner_learns_what_no_mean_can_say():
    found, target = made()
    fusion = Stacking(["audio", "text"], 3)
    before = accuracy(fusion, found, target)
    losses = stacking.fit(fusion, found, target, each=TASK.each)
    assert before < 0.5 and accuracy(fusion, found, target) > 0.9
    assert losses["stacked_loss"] < 0.5 * losses["mean_loss"]
    assert accuracy(fusion, found, target, ("audio",)) > 0.55  # two thirds is all that audio tells


def test_it_is_as_good_as_sklearns_logistic_regression_of_the_same_opinions():
    found, target = made()
    joined = torch.cat([found.said["audio"], found.said["text"]], 1).numpy()
    theirs = LogisticRegression(C=1 / (2 * stacking.PULL * len(target))).fit(joined, target)
    fusion = Stacking(["audio", "text"], 3)
    stacking.fit(fusion, found, target, each=TASK.each)
    assert accuracy(fusion, found, target) >= theirs.score(joined, target) - 0.02


def test_absent_opinions_do_not_count_and_their_place_is_learned():
    found, target = made(missing=0.4)
    fusion, other = Stacking(["audio", "text"], 3), Stacking(["audio", "text"], 3)
    stacking.fit(fusion, found, target, each=TASK.each)
    spoiled = {m: torch.where(found.present[m][:, None], x, 1e6) for m, x in found.said.items()}
    stacking.fit(other, found._replace(said=spoiled), target, each=TASK.each)
    assert all(torch.equal(a, other.state_dict()[name]) for name, a in fusion.state_dict().items())
    assert all(vector.abs().sum() > 0 for vector in fusion.absent.values())
    assert accuracy(fusion, found, target) > 0.7


METHODS = {
    "class weights": {"train": {"class_weights": "inverse"}},
    "balanced sampling": {"train": {"sampling": "balanced"}},
    "logit adjustment": {"objective": {"logit_adjustment": 1.0}},
}


def loss(target, sections):
    """That of a training on these targets, by params.yaml."""
    data = batches.Dataset([], target, {}, {})
    return Job(Params(**sections), {}, None, None).loss(network(0), data)


def silent(target):
    """One modality, which says nothing: all that is to be learned is how frequent the classes are."""
    nothing, here = torch.zeros(len(target), 2).double(), torch.ones(len(target)).bool()
    return Opinions({"text": nothing}, {"text": here})


def log_odds(fusion):
    """Of the first class against the second, where nothing is said."""
    return float(fusion.bias.detach() @ torch.tensor([1.0, -1.0]))


def test_frequencies_are_learned_unless_they_are_corrected_for_by_hand():
    """Of 3 : 1 the log-odds d have no slope where sigmoid(d) + PULL d = 3/4; corrected they are even."""
    target = torch.tensor([0, 0, 0, 1])
    for sections, wanted in [({}, None), *((one, 0.0) for one in METHODS.values())]:
        fusion = Stacking(["text"], 2)
        found = stacking.fit(fusion, silent(target), target, each=loss(target, sections))
        odds = log_odds(fusion)
        if wanted is None:
            assert 1 / (1 + math.exp(-odds)) + stacking.PULL * odds == pytest.approx(0.75, abs=1e-5)
            assert odds > 1
            entropy = 0.75 * math.log(1 + math.exp(-odds)) + 0.25 * math.log(1 + math.exp(odds))
            assert found["stacked_loss"] == pytest.approx(entropy, abs=1e-5)
        else:
            assert odds == pytest.approx(wanted, abs=1e-5)
            assert found["stacked_loss"] == found["mean_loss"]


def test_focal_loss_is_fitted_as_such():
    """Of one class alone, of chance p: the slopes of (1 - p)² · -log p and of the pull are as steep."""
    target = torch.zeros(4).long()
    fusion = Stacking(["text"], 2)
    stacking.fit(fusion, silent(target), target, each=loss(target, {"objective": {"focal": 2.0}}))
    odds = log_odds(fusion)
    p = 1 / (1 + math.exp(-odds))
    slope = -2 * p * (1 - p) ** 2 * -math.log(p) - (1 - p) ** 3
    assert slope + stacking.PULL * odds == pytest.approx(0, abs=1e-5)
    plain = Stacking(["text"], 2)
    stacking.fit(plain, silent(target), target, each=TASK.each)
    assert log_odds(plain) > 1.3 * odds


def rare(n=4000):
    """Two modalities that know nothing of frequencies, 19 samples of one class to each of the other."""
    chance = np.random.default_rng(0)
    target = (np.arange(n) % 20 == 0).astype(np.int64)
    seen = chance.normal(np.where(target, 1.1, -1.1)[:, None], 1.0, (n, 2))
    said = {m: np.stack([-1.1 * seen[:, k], 1.1 * seen[:, k]], 1) for k, m in enumerate(("audio", "text"))}
    here = torch.ones(n).bool()
    opinions = {m: torch.tensor(of) for m, of in said.items()}
    return Opinions(opinions, dict.fromkeys(said, here)), torch.tensor(target)


def recalls(fusion, found, target):
    """Of the common class and of the rare one."""
    weight = {m: here.float() for m, here in found.present.items()}
    right = fusion({m: of.float() for m, of in found.said.items()}, weight).argmax(1) == target
    return [float(right[target == k].double().mean()) for k in (0, 1)]


def test_what_is_done_about_rare_classes_is_done_in_the_combiner_too():
    """Fitted by the plain loss, its bias would put back what training has taken out."""
    found, target = rare()
    before = recalls(Stacking(["audio", "text"], 2), found, target)
    assert min(before) > 0.9
    plain = Stacking(["audio", "text"], 2)
    stacking.fit(plain, found, target, each=loss(target, {}))
    assert recalls(plain, found, target)[1] < before[1] - 0.1
    for sections in METHODS.values():
        fusion = Stacking(["audio", "text"], 2)
        stacking.fit(fusion, found, target, each=loss(target, sections))
        for now, then in zip(recalls(fusion, found, target), before, strict=True):
            assert now == pytest.approx(then, abs=0.03)


def test_several_labels_are_weighed_in_the_combiner_too():
    """A label that one sample in twenty has, of which its two modalities say log-odds without that rarity."""
    found, target = rare()
    one = Opinions({m: of[:, 1:] - of[:, :1] for m, of in found.said.items()}, found.present)
    marks = target[:, None].float()
    said = {}
    for weights in ("none", "inverse"):
        fusion = Stacking(["audio", "text"], 1)
        rule = multilabel.TASK.rule(marks, Wishes(weights), outputs=1)
        stacking.fit(fusion, one, marks, each=rule.each)
        present = {m: here.float() for m, here in found.present.items()}
        said[weights] = fusion({m: of.float() for m, of in one.said.items()}, present)[:, 0] > 0
    share = {weights: float(of[target == 1].double().mean()) for weights, of in said.items()}
    assert share["none"] < 0.85 and share["inverse"] > 0.9


def test_without_a_method_the_combiner_is_to_the_bit_what_it_was():
    """The plain loss, whatever training says of smoothing and of how numbers count."""
    found, target = made(missing=0.3)
    one, other = Stacking(["audio", "text"], 3), Stacking(["audio", "text"], 3)
    some = torch.cat([target, torch.arange(3)])
    params = {"train": {"label_smoothing": 0.3}, "model": {"fusion": "stacking"}}
    data = batches.Dataset([], some, {}, {})
    of_three = build_model(modalities=["image"], classes=3, dim=8, dropout=0.0)
    each = Job(Params(**params), {}, None, None).loss(of_three, data)
    assert stacking.fit(one, found, target, each=each) == stacking.fit(other, found, target, each=TASK.each)
    assert all(torch.equal(a, other.state_dict()[name]) for name, a in one.state_dict().items())


def test_folds_keep_groups_together_and_classes_apart_whatever_the_order():
    ids = [f"s{n:02d}" for n in range(40)]
    targets, groups = [str(n % 2) for n in range(40)], [f"g{n // 4}" for n in range(40)]
    found = split.folds(ids, targets, groups, count=5, seed=0)
    by_group = {}
    for group, fold in zip(groups, found, strict=True):
        assert by_group.setdefault(group, fold) == fold
    assert [found.count(fold) for fold in range(5)] == [8] * 5
    back = split.folds(ids[::-1], targets[::-1], groups[::-1], count=5, seed=0)
    assert back[::-1] == found
    assert split.folds(ids, targets, groups, count=5, seed=1) != found


def test_too_few_groups_for_the_folds_are_told():
    with pytest.raises(InvalidError, match=r"split-too-few .*4 samples in 2 groups do not fill 3 folds"):
        split.folds(list("abcd"), list("0101"), list("xxyy"), count=3, seed=0)
