"""Every fusion × every subset of modalities × every objective: trained a little, saved, loaded, hidden."""

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
import tiny
import torch

from mmpipe import (
    augment,
    batches,
    evaluate,
    objective,
    params,
    paths,
    runtime,
    schema,
    sense,
    stacking,
    targets,
    train,
    validation,
)
from mmpipe.model.checkpoint import load_bundle, save_bundle
from mmpipe.model.fusion import FUSIONS
from mmpipe.model.network import build_model
from mmpipe.resume import States
from mmpipe.stages.job import ELSEWHERE
from mmpipe.tasks.task import Writing
from mmpipe.transcripts import units

SUBSETS = [some for size in (1, 2, 3) for some in combinations(schema.MODALITIES, size)]
OBJECTIVES = {
    "plain": ({}, {}),
    "contrastive": ({}, {"contrastive": 0.3}),
    "uncertainty": ({}, {"contrastive": 0.3, "weights": "uncertainty"}),
    "imbalance": ({"sampling": "balanced"}, {"focal": 2.0}),
    "adjusted": ({"auxiliary": 0.0}, {"logit_adjustment": 1.0}),
}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("workspace")
    tiny.write(root, n=30, missing=0.3)
    features = {m: root / paths.features(m) for m in schema.MODALITIES}
    return batches.load(features, root / paths.SPLITS, "train", coding=tiny.CODING)


def architecture(fusion, modalities):
    found = {"modalities": list(modalities), "classes": 2, "dim": 8, "dropout": 0.2, "fusion": fusion}
    if "audio" in modalities:
        found["n_mels"] = tiny.N_MELS
    if "text" in modalities:
        found["vocab_size"] = tiny.VOCAB
    return found | {"attention": {"heads": 2}, "lowrank": {"rank": 3}}.get(fusion, {})


def trained(data, fusion, modalities, kind="plain", made=None):
    """A network after one epoch; a stacking one with a combiner that is fitted, too.

    `made`: what it is built of, unless it chooses a label.
    """
    loop, goal = OBJECTIVES[kind]
    given = params.Train(epochs=1, batch_size=18, patience=None, ema=0.5, **loop).model_dump(
        exclude=ELSEWHERE
    )
    settings = train.Settings(**given, goal=objective.Settings(**goal))
    torch.set_num_threads(1)
    runtime.seed_all(0)
    network = build_model(**(made or architecture(fusion, modalities)))
    network.fit_statistics(data)
    nowhere = torch.device("cpu")
    train.fit(
        network,
        (data, data.take(np.zeros(0, np.int64))),
        settings,
        augmentation=augment.Settings(),
        machine=runtime.Runtime(nowhere, runtime.FLOAT32),
        states=NoStates(),
        on_epoch=lambda row: None,
    )
    if fusion == "stacking":
        stacking.fit(network.fusion, stacking.opinions(network, data), data.target, each=network.task.each)
    return network.eval()


class NoStates(States):
    """An hour of it would fill a disk with states that nobody reads."""

    def __init__(self):
        pass

    def load(self):
        return None

    def save(self, tensors, progress):
        return None


def batch(data, modalities):
    """All samples; of each modality some are absent."""
    found = data.batch(np.arange(len(data)))
    assert all(found.present[m].any() and not found.present[m].all() for m in modalities)
    return found


@torch.no_grad()
def answers(network, samples):
    """{subset shown: logits}, nothing shown included."""
    shown = [(), *(some for some in SUBSETS if set(some) <= set(network.modalities))]
    encoded = network.encode(samples)
    present = {m: samples.present[m] for m in network.modalities}
    return {
        some: network.decode(encoded, {m: here & (m in some) for m, here in present.items()}).logits
        for some in shown
    }


@pytest.mark.parametrize("modalities", SUBSETS, ids="+".join)
@pytest.mark.parametrize("fusion", FUSIONS)
def test_saved_and_loaded_it_says_the_same_of_every_subset(data, tmp_path, fusion, modalities):
    samples, weights = batch(data, modalities), []
    for kind in OBJECTIVES if len(modalities) > 1 else ("plain", "imbalance"):
        network = trained(data, fusion, modalities, kind)
        config = {
            "labels": tiny.LABELS,
            "temperature": 1.0,
            "preprocessing": {m: {} for m in modalities},
            "features": {m: data.facts[m] for m in modalities},
        }
        save_bundle(
            tmp_path / kind,
            network,
            config=config,
            architecture=architecture(fusion, modalities),
            metrics={},
            tokenizer="{}" if "text" in modalities else None,
        )
        wanted, found = answers(network, samples), answers(load_bundle(tmp_path / kind).model, samples)
        assert wanted.keys() == found.keys()
        assert all(torch.equal(found[some], logits) for some, logits in wanted.items())
        assert all(logits.isfinite().all() for logits in wanted.values())
        weights.append(torch.cat([p.detach().flatten() for p in network.parameters()]))
    for one, other in combinations(weights, 2):  # every objective trains otherwise
        assert not torch.equal(one, other)


@pytest.mark.parametrize("fusion", FUSIONS)
def test_what_is_absent_or_hidden_never_counts(data, fusion):
    modalities = schema.MODALITIES
    network, samples = trained(data, fusion, modalities), batch(data, modalities)
    encoded = network.encode(samples)
    for shown in [(), *SUBSETS]:
        present = {m: samples.present[m] & (m in shown) for m in modalities}
        wanted = network.decode(encoded, present).logits
        other = {
            m: one._replace(
                pooled=torch.where(present[m][:, None], one.pooled, 1e3),
                sequence=torch.where(present[m][:, None, None], one.sequence, -1e3),
                mask=torch.where(present[m][:, None], one.mask, 1),
            )
            for m, one in encoded.items()
        }
        assert torch.equal(network.decode(other, present).logits, wanted)
    inputs = {m: x.clone() for m, x in samples.inputs.items()}
    for m, x in inputs.items():
        x[~samples.present[m]] = 3
    assert torch.equal(network(replace(samples, inputs=inputs)).logits, network(samples).logits)


@pytest.mark.parametrize("fusion", FUSIONS)
def test_what_is_shown_counts(data, fusion):
    network, samples = trained(data, fusion, schema.MODALITIES), batch(data, schema.MODALITIES)
    found = answers(network, samples)
    for m in schema.MODALITIES:
        rest = tuple(other for other in schema.MODALITIES if other != m)
        changed = (found[schema.MODALITIES] != found[rest]).any(1)
        assert changed[samples.present[m]].all() and not changed[~samples.present[m]].any()


@pytest.mark.parametrize("fusion", FUSIONS)
def test_the_answer_does_not_depend_on_the_batch(data, fusion):
    network = trained(data, fusion, schema.MODALITIES)
    together = network(batch(data, schema.MODALITIES)).logits
    for row in range(len(data)):
        alone = network(data.batch(np.array([row]))).logits
        torch.testing.assert_close(alone[0], together[row], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("fusion", FUSIONS)
def test_the_same_seed_gives_the_same_bits(data, fusion):
    one, other = (trained(data, fusion, schema.MODALITIES, "uncertainty").state_dict() for _ in range(2))
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("fusion", FUSIONS)
def test_every_weight_of_a_fusion_is_learned(data, fusion):
    """But a combiner's, which is fitted apart; and what an absent vector has no say in."""
    runtime.seed_all(0)
    before = build_model(**architecture(fusion, schema.MODALITIES)).fusion.state_dict()
    after = trained(data, fusion, schema.MODALITIES).fusion.state_dict()
    assert [name for name, value in after.items() if torch.equal(before[name], value)] == []


@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize(
    ("task", "outputs", "decoding"),
    [("multilabel", 3, {"thresholds": [0.5] * 3}), ("regress", 1, {"mean": 1.0, "deviation": 2.0})],
)
def test_other_tasks_that_fuse_take_every_fusion(data, tmp_path, fusion, task, outputs, decoding):
    runtime.seed_all(0)
    made = {**architecture(fusion, schema.MODALITIES), "task": task, "classes": outputs}
    network = build_model(**made)
    network.fit_statistics(data)
    chance = np.random.default_rng(0)
    target = torch.tensor(chance.random((len(data), 3)) < 0.5).float()
    target = target if task == "multilabel" else torch.tensor(chance.normal(0, 1, len(data)))
    if fusion == "stacking":
        losses = stacking.fit(
            network.fusion, stacking.opinions(network, data), target, each=network.task.each
        )
        assert losses["stacked_loss"] < losses["mean_loss"]
    config = {
        **{"labels": list("abc")[: len(decoding.get("thresholds", ()))], "temperature": 1.0},
        "decoding": decoding,
        "preprocessing": {m: {} for m in schema.MODALITIES},
        "features": {m: data.facts[m] for m in schema.MODALITIES},
    }
    save_bundle(tmp_path / "b", network, config=config, architecture=made, metrics={}, tokenizer="{}")
    samples = data.batch(np.arange(len(data)))
    found, again = answers(network.eval(), samples), answers(load_bundle(tmp_path / "b").model, samples)
    for shown, logits in found.items():
        assert torch.equal(again[shown], logits)
        assert logits.shape == (len(data), outputs)
        assert network.task.each(logits, target).isfinite().all()


@pytest.mark.parametrize("text", [None, "words"])
@pytest.mark.parametrize("audio", ["cnn", "crnn"])
def test_transcripts_are_the_same_from_a_loaded_bundle_however_it_decodes(data, tmp_path, audio, text):
    coding = targets.Coding("text", units=units.fit(tiny.LABELS), texts=tuple(tiny.LABELS))
    wanted = torch.from_numpy(targets.encode(coding, [tiny.LABELS[n] for n in data.target.tolist()]))
    modalities = ["audio", *(["text"] if text else [])]
    made = {**architecture("concat", modalities), "task": "transcribe", "audio": audio}
    made |= {"classes": coding.units.size} | ({"text": text} if text else {})
    runtime.seed_all(0)
    network = build_model(**made)
    network.fit_statistics(data)
    given = params.Train(epochs=2, batch_size=10, patience=None, ema=0.5, lr=0.02).model_dump(
        exclude=ELSEWHERE
    )
    said = replace(data, target=wanted)
    machine = runtime.Runtime(torch.device("cpu"), runtime.FLOAT32)
    train.fit(
        network,
        (said, said),
        train.Settings(**given),
        augmentation=augment.Settings(),
        machine=machine,
        states=NoStates(),
        on_epoch=lambda row: None,
    )
    held, samples = validation.score(network.eval(), said, machine), batch(data, modalities)
    for number, writing in enumerate((Writing(width=4, order=3), Writing(order=0), Writing("greedy"))):
        decoding = network.task.fit(held, coding, writing)
        config = {
            "labels": [],
            "temperature": 1.0,
            "decoding": decoding.facts,
            "preprocessing": {m: {} for m in modalities},
            "features": {m: data.facts[m] for m in modalities},
        }
        digests = {
            save_bundle(
                tmp_path / str(number),
                network,
                config=config,
                architecture=made,
                metrics={},
                tokenizer="{}" if text else None,
                arrays=decoding.arrays,
            )
            for _ in range(2)
        }
        loaded = load_bundle(tmp_path / str(number))
        assert len(digests) == 1 and loaded.coding.units == coding.units
        before, after = answers(network, samples), answers(loaded.model, samples)
        assert all(torch.equal(after[some], logits) for some, logits in before.items())
        one, other = (
            net.task.says(
                evaluate.logits(net, data, ["+".join(modalities)], batch_size=7),
                [("audio",)] * len(data),
                kept,
                ["bass"] * len(data) if text else (),
            )
            for net, kept in ((network, decoding), (loaded.model, loaded.decoding))
        )
        assert one == other and any(answer["text"] for answer in one)
    hidden = network.decode(network.encode(samples), {m: samples.present[m] & False for m in modalities})
    assert not hidden.lengths.any()


FEATURE = [name for name in FUSIONS if name not in sense.OPINIONS]
UNITS = {"texts": [" low", " high", " voice"], "merges": []}
TEXTS = torch.tensor([[1, 3, -1], [2, 3, 3]])
SEARCHES = {"greedy": {}, "beam": {"width": 2}, "closed": {"width": 2, "closed": [[1, 3], [2], [2, 3, 3]]}}


def writing(fusion, modalities, search):
    """Arguments of `build_model`."""
    design = {"tokens": 3, "layers": 1, "heads": 2, "search": search, **SEARCHES[search]}
    return architecture(fusion, modalities) | {"task": "answer", "classes": 4, "writer": design}


@pytest.mark.parametrize("modalities", SUBSETS, ids="+".join)
@pytest.mark.parametrize("fusion", FEATURE)
def test_a_writer_saved_and_loaded_says_the_same_of_every_subset(data, tmp_path, fusion, modalities):
    samples, texts = batch(data, modalities), replace(data, target=TEXTS[data.target])
    network = trained(texts, fusion, modalities, made=writing(fusion, modalities, "greedy"))
    for search in SEARCHES:  # of the same weights
        made = writing(fusion, modalities, search)
        one = build_model(**made).eval()
        one.load_state_dict(network.state_dict())
        save_bundle(
            tmp_path / search,
            one,
            config={
                **{"labels": [], "temperature": 1.0, "decoding": {"units": UNITS}},
                "preprocessing": {m: {} for m in modalities},
                "features": {m: data.facts[m] for m in modalities},
            },
            architecture=made,
            metrics={},
            tokenizer="{}" if "text" in modalities else None,
        )
        bundle = load_bundle(tmp_path / search)
        wanted, found = answers(one, samples), answers(bundle.model, samples)
        assert wanted.keys() == found.keys()
        assert all(torch.equal(found[some], told) for some, told in wanted.items())
        assert all(told.isfinite().all() for told in wanted.values())
        [said, *_] = bundle.task.says({"": wanted[modalities].numpy()}, [modalities], bundle.decoding)
        assert set(said["answer"].split()) <= {"low", "high", "voice"} and 0 < said["confidence"] <= 1


@pytest.mark.parametrize("fusion", FEATURE)
def test_a_writer_reads_what_is_shown_and_nothing_else(data, fusion):
    modalities, texts = schema.MODALITIES, replace(data, target=TEXTS[data.target])
    network = trained(texts, fusion, modalities, made=writing(fusion, modalities, "closed"))
    samples = batch(data, modalities)
    encoded = network.encode(samples)
    for shown in [(), *SUBSETS]:
        present = {m: samples.present[m] & (m in shown) for m in modalities}
        other = {
            m: one._replace(
                pooled=torch.where(present[m][:, None], one.pooled, 1e3),
                sequence=torch.where(present[m][:, None, None], one.sequence, -1e3),
                mask=torch.where(present[m][:, None], one.mask, 1),
            )
            for m, one in encoded.items()
        }
        assert torch.equal(network.decode(other, present).logits, network.decode(encoded, present).logits)
    found = answers(network, samples)
    for m in modalities:
        rest = tuple(other for other in modalities if other != m)
        changed = (found[modalities] != found[rest]).flatten(1).any(1)
        assert changed[samples.present[m]].all() and not changed[~samples.present[m]].any()
    together = network(samples).logits
    for row in range(0, len(data), 7):
        alone = network(data.batch(np.array([row]))).logits
        torch.testing.assert_close(alone[0], together[row], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("fusion", FEATURE)
def test_every_weight_under_a_writer_is_learned(data, fusion):
    texts, made = replace(data, target=TEXTS[data.target]), writing(fusion, schema.MODALITIES, "greedy")
    runtime.seed_all(0)
    before = dict(build_model(**made).named_parameters())
    after = trained(texts, fusion, schema.MODALITIES, made=made)
    same = [name for name, value in after.named_parameters() if torch.equal(before[name], value)]
    assert [name for name in same if not name.startswith("encoders.")] == []
