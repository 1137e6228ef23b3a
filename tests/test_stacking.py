"""Out-of-fold predictions and the combiner fitted on them."""

import numpy as np
import pytest
import tiny
import torch
from sklearn.linear_model import LogisticRegression

from mmpipe import batches, paths, schema, split, stacking
from mmpipe.errors import InvalidError
from mmpipe.model.fusions.opinions import Stacking
from mmpipe.model.network import build_model
from mmpipe.stacking import Opinions
from mmpipe.tasks.classify import TASK


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
