import numpy as np
import pyarrow as pa
import pytest
import tiny
import torch

from mmpipe import batches, paths, schema, tables, targets
from mmpipe.errors import InvalidError, VerificationError

FEATURES = {m: paths.features(m) for m in schema.MODALITIES}


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tiny.write(tmp_path)


def load(split="train", coding=tiny.CODING):
    return batches.load(FEATURES, paths.SPLITS, split, coding=coding)


@pytest.mark.parametrize("split", schema.SPLITS)
def test_a_batch_holds_what_the_tables_hold_row_by_row(workspace, split):
    truth, rows = workspace
    data = load(split)
    assert data.ids == [i for i, row in rows.items() if row["split"] == split]
    batch = data.batch(batches.order(len(data), seed=3, epoch=1))
    absent = 0
    for place, number in enumerate(batch.index.tolist()):
        sample = truth[data.ids[number]]
        assert tiny.LABELS[batch.target[place]] == rows[data.ids[number]]["target"]
        for m in schema.MODALITIES:
            length = int(batch.lengths[m][place])
            assert bool(batch.present[m][place]) == (m in sample) == (length > 0)
            absent += m not in sample
            if m in sample and m == "image":
                np.testing.assert_array_equal(batch.inputs[m][place].permute(1, 2, 0), sample[m])
            elif m in sample:
                values = batch.inputs[m][place].numpy()
                np.testing.assert_array_equal(values[:length], sample[m].astype(values.dtype))
                assert length == len(sample[m])
                assert not values[length:].any()
    assert absent and batch.partial


def test_images_are_channels_last_and_lengths_are_padded_to_few_widths(workspace):
    batch = load().batch(np.arange(5))
    assert batch.inputs["image"].is_contiguous(memory_format=torch.channels_last)
    assert batch.inputs["image"].dtype == torch.uint8
    assert batch.inputs["audio"].shape[1] % batches.WIDTH_STEP == 0


def test_a_failed_feature_drops_the_sample_and_is_counted(tmp_path, workspace):
    first = tables.shards(paths.features("text"))[0]
    table = tables.read(first)
    ids, values = table["id"].to_pylist(), table["value"].to_pylist()
    values[0] = None
    bad = pa.table([ids, pa.array(values, pa.large_binary()), ["x", *[None] * (len(ids) - 1)]], table.schema)
    before = load()
    tables.write(first, bad, compression="lz4")
    after = load()
    assert after.dropped == 1
    assert after.ids == [i for i in before.ids if i != ids[0]]
    np.testing.assert_array_equal(
        after.batch(np.arange(len(after))).lengths["audio"],
        before.batch(np.flatnonzero(np.array(before.ids) != ids[0])).lengths["audio"],
    )


def test_a_modality_whose_table_is_empty_is_absent_everywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tiny.write(tmp_path, missing=0.0)
    for path in tables.shards(paths.features("audio")):
        tables.write(path, tables.read(path).slice(0, 0))
    data = load()
    assert data.modalities == ["image", "text"]
    assert not data.batch(np.arange(4)).present["audio"].any()


def test_moments_are_those_of_all_values_and_document_frequencies_count_samples(workspace):
    truth, _ = workspace
    data = load()
    mels = np.concatenate([truth[i]["audio"] for i in data.ids if "audio" in truth[i]]).astype(np.float16)
    mean, deviation = data.moments("audio")
    np.testing.assert_allclose(mean, mels.astype(np.float64).mean(0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(deviation, mels.astype(np.float64).std(0), rtol=1e-5)
    texts = [set(truth[i]["text"].tolist()) for i in data.ids if "text" in truth[i]]
    wanted = [sum(token in text for text in texts) for token in range(80)]
    assert data.containing("text", 80).tolist() == wanted
    assert any(wanted)


def test_the_order_is_a_permutation_and_a_function_of_seed_and_epoch():
    first = batches.order(100, seed=1, epoch=2)
    np.testing.assert_array_equal(first, batches.order(100, seed=1, epoch=2))
    assert sorted(first) == list(range(100))
    assert any(first != batches.order(100, seed=1, epoch=3))
    assert any(first != batches.order(100, seed=2, epoch=2))


def test_a_balanced_order_draws_each_class_as_often_and_is_a_function_of_seed_and_epoch():
    targets = np.array([0] * 70 + [1] * 25 + [2] * 5)
    first = batches.order(100, seed=1, epoch=2, balanced=targets)
    np.testing.assert_array_equal(first, batches.order(100, seed=1, epoch=2, balanced=targets))
    assert sorted(np.bincount(targets[first])) == [33, 33, 34]
    times = np.bincount(first, minlength=100)
    for members in (targets == 0, targets == 1, targets == 2):  # a class's samples take turns
        assert times[members].max() - times[members].min() <= 1
    assert any(first != batches.order(100, seed=1, epoch=3, balanced=targets))
    assert any(np.diff(targets[first]) < 0) and any(np.diff(targets[first]) > 0)  # mixed, not class by class
    seen = {row for epoch in range(30) for row in batches.order(100, seed=1, epoch=epoch, balanced=targets)}
    assert seen == set(range(100))


def test_some_samples_taken_are_those_samples_and_nothing_of_the_others(workspace):
    whole = load()
    rows = np.array([7, 2, 11])
    part = whole.take(rows)
    assert part.ids == [whole.ids[row] for row in rows]
    wanted, found = whole.batch(rows), part.batch(np.arange(3))
    assert torch.equal(wanted.target, found.target)
    for m in schema.MODALITIES:
        assert torch.equal(wanted.present[m], found.present[m])
        here = wanted.present[m]
        assert torch.equal(wanted.inputs[m][here], found.inputs[m][here])
        assert len(part.columns[m].values) == max(1, int(part.columns[m].lengths.sum()))
    lacking = [row for row in range(len(whole)) if not whole.columns["audio"].lengths[row]]
    none = whole.take(np.array(lacking))
    assert len(lacking) > 1 and "audio" not in none.modalities
    assert not none.batch(np.arange(len(lacking))).present["audio"].any()


@pytest.mark.parametrize("n", [1, 2, 32, 33, 65, 100])
def test_chunks_are_even_so_none_is_a_leftover(n):
    parts = batches.chunks(np.arange(n), 32)
    np.testing.assert_array_equal(np.concatenate(parts), np.arange(n))
    sizes = [len(part) for part in parts]
    assert max(sizes) <= 32 and max(sizes) - min(sizes) <= 1


def test_arrays_just_computed_make_the_same_batch_as_the_tables(workspace):
    truth, _ = workspace
    data = load()
    arrays = {m: [truth[i].get(m) for i in data.ids] for m in schema.MODALITIES}
    arrays["audio"] = [None if a is None else a.astype(np.float16) for a in arrays["audio"]]
    arrays["image"] = [None if a is None else a.astype(np.uint8) for a in arrays["image"]]
    shapes = {m: data.facts[m]["shape"] for m in schema.MODALITIES}
    fresh = batches.from_arrays(data.ids, arrays, shapes).batch(np.arange(len(data)))
    stored = data.batch(np.arange(len(data)))
    for m in schema.MODALITIES:
        rows = stored.present[m]
        assert torch.equal(fresh.present[m], rows)
        assert torch.equal(fresh.inputs[m][rows].double(), stored.inputs[m][rows].double())


def test_only_absent_samples_can_be_batched():
    data = batches.from_arrays(["a"], {"image": [None], "text": [None]}, {"image": [4, 4, 3], "text": [-1]})
    batch = data.batch(np.arange(1))
    assert batch.inputs["image"].shape == (1, 3, 4, 4)
    assert batch.partial == {"image", "text"}


def test_a_target_without_train_samples_is_named(workspace):
    with pytest.raises(InvalidError, match=r"split-too-few.*'tenor'"):
        load(coding=targets.Coding("label", ("bass",)))


def test_values_that_do_not_fit_the_shape_are_refused(tmp_path, workspace):
    path = tables.shards(paths.features("audio"))[0]
    metadata = {**tables.read(path).schema.metadata, b"shape": b"[-1, 7]"}
    for shard in tables.shards(paths.features("audio")):
        tables.write(shard, tables.read(shard).replace_schema_metadata(metadata))
    with pytest.raises(VerificationError, match="do not fit its shape"):
        load()
