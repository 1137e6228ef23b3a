"""Retrieval: losses and ranks by hand and brute force, the whole way, an index that answers queries."""

import json
import math
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest
import tasked
import torch
from typer.testing import CliRunner

from mmpipe import (
    augment,
    batches,
    evaluate,
    gate,
    params,
    paths,
    retrieval_scorecard,
    runtime,
    search,
    tables,
    train,
)
from mmpipe import bundle as bundles
from mmpipe.cli import app
from mmpipe.errors import InvalidError, UsageError
from mmpipe.model.checkpoint import load_bundle
from mmpipe.model.network import build_model
from mmpipe.predict import load
from mmpipe.preprocess import Sample
from mmpipe.resume import States
from mmpipe.retrieval_scorecard import DIRECTIONS
from mmpipe.scorecard import Scores, subsets_of
from mmpipe.stages.job import ELSEWHERE
from mmpipe.tasks.retrieve import TASK, Projections, contrastive
from mmpipe.tasks.task import Decoding, Held, Output, Wishes, Writing
from mmpipe.verdict import Contender, HeldOut, Thresholds

HERE = torch.tensor([True, True, True])


def test_the_loss_by_hand():
    """Products: own 2, other 0. Each way and each row: log(1 + e^-2)."""
    one = torch.eye(2) * math.sqrt(2)
    assert float(contrastive(one, one, HERE[:2])) == pytest.approx(math.log(1 + math.exp(-2)))
    swapped = contrastive(one, one.flip(0), HERE[:2])
    assert float(swapped) == pytest.approx(math.log(1 + math.exp(2)))


def test_samples_that_lack_a_modality_are_neither_queries_nor_candidates():
    one, other = torch.randn(3, 4), torch.randn(3, 4)
    both = torch.tensor([True, False, True])
    assert contrastive(one, other, both) == contrastive(one[both], other[both], HERE[:2])
    alone = contrastive(one.requires_grad_(), other, torch.tensor([True, False, False]))
    assert float(alone.detach()) == 0
    alone.backward()
    assert float(one.grad.abs().sum()) == 0


def test_all_pairs_count_alike():
    output = Output(torch.zeros(3, 4), {m: torch.randn(3, 4) for m in ("audio", "image", "text")})
    present = dict.fromkeys(output.by_modality, HERE)
    pairs = [("audio", "image"), ("audio", "text"), ("image", "text")]
    wanted = np.mean([float(contrastive(*(output.by_modality[m] for m in pair), HERE)) for pair in pairs])
    found = TASK.losses(output, HERE, present, TASK.rule(HERE, Wishes(), outputs=4))
    assert float(found["task"]) == pytest.approx(wanted) and found.keys() == {"task"}


def test_projections_have_one_length_and_their_sum_leaves_out_what_is_absent():
    torch.manual_seed(0)
    head = Projections(["image", "text"], 3, width=5, dropout=0.0)
    pooled = {m: torch.randn(2, 3) for m in ("image", "text")}
    weight = {"image": torch.tensor([1.0, 0.0]), "text": torch.tensor([0.5, 1.0])}
    found = head(torch.zeros(2, 0), pooled, weight)
    for of in (*found.by_modality.values(), found.logits):
        torch.testing.assert_close(of.norm(dim=1), torch.full((2,), math.sqrt(1 / 0.07)))
    torch.testing.assert_close(found.logits[1], found.by_modality["text"][1])
    both = found.by_modality["image"][0] + found.by_modality["text"][0]
    torch.testing.assert_close(found.logits[0] / found.logits[0].norm(), both / both.norm())


def test_ranks_by_hand_and_a_tie_is_lost():
    queries = np.array([[1.0, 0.0], [0.0, 2.0], [1.0, 1.0]])
    candidates = np.array([[3.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
    # cosines of the rows: 1 .71 0 / 0 .71 1 / .71 1 .71 where the third has a tie
    assert retrieval_scorecard.ranks(queries, candidates).tolist() == [1, 2, 3]
    assert retrieval_scorecard.ranks(np.ones((4, 2)), np.ones((4, 2))).tolist() == [4] * 4


def test_blocks_change_nothing(monkeypatch):
    rng = np.random.default_rng(0)
    one, other = rng.normal(size=(37, 6)), rng.normal(size=(37, 6))
    whole = retrieval_scorecard.ranks(one, other)
    monkeypatch.setattr(retrieval_scorecard, "BLOCK", 5)
    assert np.array_equal(retrieval_scorecard.ranks(one, other), whole)
    unit = [of / np.linalg.norm(of, axis=1, keepdims=True) for of in (one, other)]
    similar = unit[0] @ unit[1].T
    assert whole.tolist() == [1 + int((row > row[n]).sum()) for n, row in enumerate(similar)]


def test_recall_by_hand():
    """Two directions: ranks 1, 6 and 2, none; a direction that nobody asks for does not count."""
    found = np.array([[1, 2, np.nan], [6, np.nan, np.nan]])
    wanted = np.array([[True, True, False], [True, True, False]])
    sums = retrieval_scorecard.columns(found, wanted).sum(axis=0, keepdims=True)
    mean, *recalls = retrieval_scorecard.figures(sums)[0]
    assert recalls == [(1 / 2 + 0) / 2, (1 / 2 + 1 / 2) / 2, (1 + 1 / 2) / 2]
    assert mean == pytest.approx(np.mean(recalls))


def made(noise, count=40, seed=0):
    """Embeddings of three modalities of the same hidden vectors; some samples lack one."""
    rng = np.random.default_rng(seed)
    hidden = rng.normal(size=(count, 8))
    present = {m: rng.random(count) < 0.9 for m in ("audio", "image", "text")}
    single = {m: hidden + rng.normal(0, noise, hidden.shape) for m in present}
    logits = {name: single.get(name, hidden) for name in subsets_of(list(present))}
    ids = [f"s{n:02}" for n in range(count)]
    return Scores("test", ids, np.full(count, -1), np.array(ids), present, logits, 0)


def test_figures_are_those_of_every_direction():
    scores = made(1.0)
    found = retrieval_scorecard.measure(scores, resamples=100)
    assert list(found["directions"]) == [f"{a} to {b}" for a, b in DIRECTIONS]
    for k in (1, 5, 10):
        each = [one[f"recall_at_{k}"] for one in found["directions"].values()]
        assert found[f"recall_at_{k}"] == pytest.approx(np.mean(each), abs=1e-6)
        assert found[f"recall_at_{k}_low"] < found[f"recall_at_{k}"] < found[f"recall_at_{k}_high"]
    both = scores.present["audio"] & scores.present["text"]
    ranks = retrieval_scorecard.ranks(scores.logits["audio"][both], scores.logits["text"][both])
    one = found["directions"]["audio to text"]
    assert (one["samples"], one["median_rank"]) == (both.sum(), np.median(ranks))
    assert one["recall_at_5"] == pytest.approx((ranks <= 5).mean(), abs=1e-6)
    assert retrieval_scorecard.measure(made(0.0), resamples=20)["mean_recall"] == 1


def test_nothing_to_find_is_an_error():
    scores = made(1.0)
    scores.present["audio"][:] = scores.present["image"][:] = False
    with pytest.raises(InvalidError, match="0 test samples have two modalities"):
        retrieval_scorecard.measure(scores, resamples=10)
    with pytest.raises(InvalidError, match="there is text alone"):
        TASK.head({"text": 8}, 4, fused_dim=4, outputs=4, dropout=0)


def test_validation_is_over_the_whole_split():
    scores = made(0.3)
    unit = torch.nn.functional.normalize
    single = {m: 5 * unit(torch.tensor(scores.logits[m])) for m in scores.present}
    present = {m: torch.tensor(here) for m, here in scores.present.items()}
    held = Held(Output(single["text"], single), torch.tensor(scores.target), present)
    found = TASK.validate(held)
    assert found["val_recall_at_1"] > 0.9 and 0 < found["val_loss_calibrated"] <= found["val_loss"]
    decoding = TASK.fit(held, None, Writing())
    assert decoding.facts == {"modalities": ["audio", "image", "text"], "width": 8}
    assert TASK.contradiction(decoding, outputs=8) == ""
    assert "for 4 outputs" in TASK.contradiction(decoding, outputs=4)
    assert "no modalities" in TASK.contradiction(Decoding(facts={"width": 4}), outputs=4)


def judged(before, after, target, **asked):
    test = HeldOut(target, np.arange(len(target)).astype(str), [], "x")
    old, new = (Contender(n, of, [], 1.0, 1, n) for n, of in (("old", before), ("new", after)))
    return gate.judge(test, old, new, Thresholds(resamples=300, **asked), TASK.rules)


def test_the_gate_wants_more_found_and_no_answer_is_a_miss():
    rng = np.random.default_rng(0)
    target = np.ones((60, 6), bool)
    worse, better = rng.integers(1, 40, (60, 6)).astype(float), rng.integers(1, 8, (60, 6)).astype(float)
    found = judged(worse, better, target)
    assert found.promote and found.figures["gain"]["metric"] == "mean_recall"
    assert found.figures["challenger"]["recall_at_1"] == pytest.approx((better == 1).mean(), abs=1e-6)
    silent = np.where(np.arange(60)[:, None] < 50, np.nan, better)
    refused = judged(worse, silent, target)
    assert not refused.promote and refused.figures["challenger"]["unanswered"] == 50


def coded(copies, seed):
    """Eight codes of three bits: in the colour of a picture, the words of a text, the bands of a sound."""
    rng, found = np.random.default_rng(seed), {"audio": [], "image": [], "text": []}
    for code in list(np.ndindex(2, 2, 2)) * copies:
        bits = np.array(code)
        found["image"].append((60 + 120 * bits + rng.integers(0, 60, (16, 16, 3))).astype(np.uint8))
        found["text"].append((2 + 2 * np.arange(3) + bits).astype(np.int32))
        found["audio"].append((np.repeat(bits, 3)[:8] * 3 + rng.normal(0, 0.3, (20, 8))).astype(np.float16))
    shapes = {"audio": [-1, 8], "image": [16, 16, 3], "text": [-1]}
    return batches.from_arrays([str(n) for n in range(8 * copies)], found, shapes)


def test_it_learns_to_find_what_means_the_same(tmp_path):
    machine = runtime.select(precision="fp32", threads=1)
    given = params.Train(epochs=12, batch_size=16, lr=5e-3, patience=None, auxiliary=0.0)
    settings = train.Settings(**given.model_dump(exclude=ELSEWHERE))
    runtime.seed_all(0)
    names = ["audio", "image", "text"]
    network = build_model(
        modalities=names, classes=16, dim=16, dropout=0.0, vocab_size=300, n_mels=8, task="retrieve"
    )
    data, test = (coded(12, 0), coded(1, 1)), coded(1, 2)
    network.fit_statistics(data[0])
    states = States(tmp_path, "k")
    plain = augment.Settings()
    train.fit(
        network, data, settings, augmentation=plain, machine=machine, states=states, on_epoch=lambda _: None
    )
    outputs = evaluate.logits(network.eval(), test, names, batch_size=8)
    ranks = retrieval_scorecard.all_ranks(outputs, dict.fromkeys(names, np.ones(8, bool)))
    assert np.isfinite(ranks).all() and (ranks == 1).mean() > 0.8  # 1 / 8 by chance


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    root = tmp_path_factory.mktemp("w")
    rows = tasked.write(root, None)
    tasked.params(
        root,
        data={"target": "none"},
        model={"task": "retrieve", "dim": 16},
    )
    tasked.run(root)
    return root, rows


@pytest.fixture(scope="module")
def predictor(workspace):
    return load(workspace[0] / paths.BUNDLE, device="cpu")


@pytest.fixture(scope="module")
def index(workspace):
    root, _ = workspace
    with tasked.inside(root):
        assert call("predict", "data/raw/manifest.csv", "-o", "index.parquet").exit_code == 0
    return root / "index.parquet"


def call(*arguments):
    return CliRunner().invoke(app, [*arguments], catch_exceptions=False)


def test_the_whole_way(workspace):
    root, _ = workspace
    bundle = load_bundle(root / paths.BUNDLE)
    assert bundle.decoding.facts == {"modalities": ["audio", "image", "text"], "width": 16}
    found = json.loads((root / paths.METRICS / "evaluate.json").read_text())
    assert {"mean_recall", "recall_at_1", "recall_at_5", "recall_at_10"} <= found.keys()
    assert len(found["directions"]) == 6
    page, card = (root / paths.REPORT).read_text(), (root / paths.BUNDLE / "README.md").read_text()
    for text in (page, card):
        assert "image to text" in text and "median rank" in text
    rows = tables.read(root / paths.PREDICTIONS).to_pylist()
    ranks = [row["rank image to text"] for row in rows if row["split"] == "test"]
    some = [rank for rank in ranks if rank]
    told = found["directions"]["image to text"]
    assert (told["samples"], told["median_rank"]) == (len(some), np.median(some))
    samples = tables.read(root / paths.SAMPLES).to_pylist()
    assert len(samples) == 90 and {row["target"] for row in samples} == {None}


def test_an_index_is_searched_as_by_brute_force(workspace, predictor, index):
    root, rows = workspace
    table = {row["id"]: row for row in pq.read_table(index).to_pylist()}
    found = search.read(index, predictor)
    row = next(row for row in rows if row["image"] and row["text"])
    given = predictor.predict(image=root / paths.RAW / row["image"])
    wanted = {
        name: float(np.dot(given.embedding, one["embedding_text"]))
        for name, one in table.items()
        if one["embedding_text"]
    }
    hits = search.search(predictor, found, Sample(image=root / paths.RAW / row["image"]), of="text", top=7)
    best = sorted(wanted, key=lambda name: -wanted[name])[:7]
    assert [hit.id for hit in hits] == best and {hit.modality for hit in hits} == {"text"}
    assert [hit.similarity for hit in hits] == pytest.approx([wanted[name] for name in best], abs=1e-5)
    [own] = search.search(predictor, found, Sample(text=row["text"]), of="text", top=1)
    assert own.similarity == pytest.approx(1, abs=1e-5)
    elsewhere = search.search(predictor, found, Sample(text=row["text"]), top=50)
    assert {hit.modality for hit in elsewhere} <= {"audio", "image"} and len({h.id for h in elsewhere}) == 50
    both = Sample(image=root / paths.RAW / row["image"], text=row["text"])
    assert {hit.modality for hit in search.search(predictor, found, both, top=5)} == {"audio"}


def test_the_command_answers_and_refuses(workspace, index, tmp_path):
    root, rows = workspace
    with tasked.inside(root):
        done = call("search", "index.parquet", "--text", "a round shape", "--of", "image", "--top", "3")
        told = json.loads(
            call("search", "index.parquet", "--text", "a round shape", "--of", "image", "--json").stdout
        )
        picture = next(row["image"] for row in rows if row["image"])
        assert call("search", "index.parquet", "--image", f"data/raw/{picture}").exit_code == 0
        nothing = call("search", "index.parquet")
        other = call("search", "data/predictions.parquet", "--text", "x")
        gone = call("search", "none.parquet", "--text", "x")
    lines = [line.split() for line in done.stdout.splitlines()]
    assert [line[2] for line in lines] == [hit["id"] for hit in told[:3]] and len(told) == 5
    assert nothing.exit_code == 2 and "to look for" in nothing.stderr
    assert (
        other.exit_code == 5
        and "index-format data/predictions.parquet is no table of embeddings" in other.stderr
    )
    assert gone.exit_code == 3


def test_the_index_of_another_model_is_refused(workspace, index, tmp_path):
    root, _ = workspace
    contents = dict(bundles.read(root / paths.BUNDLE).files)
    contents[bundles.CARD] += b"\nAnother.\n"
    bundles.write(tmp_path / "other", contents)
    with tasked.inside(root):
        done = call("search", "index.parquet", "--text", "x", "--model", str(tmp_path / "other"))
    assert done.exit_code == 5 and "index-foreign index.parquet was made by fusion (" in done.stderr
    with pytest.raises(UsageError, match="which has no embeddings"):
        import tiny_bundle

        tiny_bundle.write(tmp_path / "w")
        search.read(index, load(tmp_path / "w" / paths.BUNDLE, device="cpu"))


def test_there_is_a_verdict_and_nothing_to_explain(workspace, predictor, tmp_path):
    root, _ = workspace
    shutil.copytree(root, tmp_path / "copy")
    with tasked.inside(tmp_path / "copy"):
        done = call("gate", "--champion", "models/fusion", "--json")
        one = call("predict", "--text", "a round shape")
        counted = json.loads(call("samples", "--json").stdout)
    figures = json.loads(done.stdout)["figures"]
    found = json.loads((root / paths.METRICS / "evaluate.json").read_text())
    assert figures["challenger"]["mean_recall"] == pytest.approx(found["mean_recall"], abs=1e-6)
    assert "an embedding of 16 numbers  (from text)" in one.stdout
    assert counted["targets"] == {}
    with pytest.raises(UsageError, match="a model that was trained to retrieve has nothing to explain"):
        predictor.explain(text="a round shape")
