from itertools import product
from typing import get_args

import numpy as np
import pytest
import tiny_weights
import torch

from mmpipe import batches, params, sense
from mmpipe.features import embedding
from mmpipe.model import checkpoint, configuration, pretrained
from mmpipe.model.encoders import ENCODERS, Normalize, TextTransformer
from mmpipe.model.encoders.image import ImageResNet
from mmpipe.model.encoders.text import positions
from mmpipe.model.fusion import FUSIONS
from mmpipe.model.network import build_model

N_MELS, VOCAB, DIM = 8, 50, 12
LEARNED = {modality: [name for name in of if name != "words"] for modality, of in ENCODERS.items()}
ALL = [(modality, name) for modality, names in LEARNED.items() for name in names]
COMBINATIONS = [*product(*(LEARNED[modality] for modality in sorted(LEARNED)))]
SIZES = {"audio": {"n_mels": N_MELS}, "image": {}, "text": {"vocab_size": VOCAB}}
WAVE = {**tiny_weights.WAVE, "config": {**tiny_weights.WAVE["config"], "layerdrop": 0.0}}
BACKBONES = {"audio": WAVE, "image": tiny_weights.LITE, "text": tiny_weights.TEXT}
SEQUENCES = [pair for pair in ALL if pair[0] != "image" and pair[1] != "vector"]


@pytest.fixture(autouse=True)
def one_thread():
    """Threads that wait for work cost more than they give on nets this small."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def make(modality, name):
    """An encoder, three inputs of it and their lengths."""
    torch.manual_seed(0)
    sizes = {"vector": {"width": 16}, "pretrained": {"blueprint": BACKBONES[modality]}}
    encoder = ENCODERS[modality][name](DIM, **sizes.get(name, SIZES[modality]))
    if name == "vector":
        return encoder, torch.randn(3, 16), torch.ones(3).long()
    if (modality, name) == ("audio", "pretrained"):
        return encoder, 0.1 * torch.randn(3, 200), torch.tensor([200, 130, 90])
    if modality == "audio":
        return encoder, torch.randn(3, 32, N_MELS), torch.tensor([32, 17, 9])
    if modality == "image":
        return encoder, torch.randint(0, 256, (3, 3, 16, 16), dtype=torch.uint8), torch.ones(3).long()
    return encoder, torch.randint(1, VOCAB, (3, 12)), torch.tensor([12, 5, 1])


def trained(encoder):
    """Weights and running statistics far from where they start, so that every part tells."""
    generator = torch.Generator().manual_seed(1)
    for name, value in encoder.state_dict().items():
        if name.endswith("running_var"):
            value.uniform_(0.5, 2.0, generator=generator)
        elif value.ndim == 1 and name.endswith("weight"):  # of a norm: what goes through many must not fade
            value.uniform_(0.8, 1.6, generator=generator)
        elif value.is_floating_point() and not name.endswith(("idf", "deviation")):
            inputs = max(1, value[0].numel()) if value.ndim > 1 else 1
            value.normal_(0, min(0.3, 1.5 * inputs**-0.5), generator=generator)
    return encoder.eval()


@pytest.mark.parametrize(("modality", "name"), ALL)
def test_a_sequence_and_one_pooled_vector_a_sample(modality, name):
    encoder, x, lengths = make(modality, name)
    encoded = encoder(x, lengths)
    assert encoded.pooled.shape == (3, DIM)
    assert encoded.sequence.shape[::2] == (3, encoder.sequence_dim)
    assert encoded.mask.shape == encoded.sequence.shape[:2]
    every = [encoded.sequence.shape[1]] * 3
    steps = {"audio": [8, 5, 3], "text": [12, 5, 1]}.get(modality, every)  # frames halve twice; 20 samples
    assert encoded.mask.sum(1).tolist() == (steps if name != "vector" else [1, 1, 1])
    assert not encoded.sequence[encoded.mask == 0].any()
    encoded.pooled.sum().backward()
    idle = ("pooler", "masked_spec_embed")  # BERT's own and wav2vec 2.0's, which nobody asks
    named = [(name, p) for name, p in encoder.named_parameters() if p.requires_grad]
    used = [p for name, p in named if not any(part in name for part in idle)]
    assert used and all(p.grad is not None and p.grad.isfinite().all() for p in used)


@pytest.mark.parametrize(("modality", "name"), SEQUENCES)
def test_neither_padding_nor_its_content_changes_the_answer(modality, name):
    encoder, x, lengths = make(modality, name)
    batched = trained(encoder)(x, lengths)
    for row, length in enumerate(lengths.tolist()):
        alone = encoder(x[row : row + 1, :length], lengths[row : row + 1])
        torch.testing.assert_close(batched.pooled[row], alone.pooled[0], rtol=1e-4, atol=1e-5)
        steps = alone.sequence.shape[1]
        torch.testing.assert_close(batched.sequence[row, :steps], alone.sequence[0], rtol=1e-4, atol=1e-5)
        assert (batched.sequence[row, steps:] == 0).all()
    spoiled = x.clone()
    spoiled[1, int(lengths[1]) :] = 7
    torch.testing.assert_close(encoder(spoiled, lengths).pooled, batched.pooled)


@pytest.mark.parametrize(("modality", "name"), ALL)
def test_in_evaluation_a_sample_does_not_see_the_others(modality, name):
    encoder, x, lengths = make(modality, name)
    together = trained(encoder)(x, lengths).pooled
    assert not torch.allclose(together[0], together[1], atol=1e-3)
    for row in range(3):
        alone = encoder(x[row : row + 1], lengths[row : row + 1]).pooled
        torch.testing.assert_close(alone[0], together[row], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("modality", "name"), ALL)
def test_every_step_of_the_input_tells(modality, name):
    encoder, x, lengths = make(modality, name)
    before = trained(encoder)(x, lengths).pooled
    last = x.clone()
    if x.ndim == 4:
        last[0, :, -1, -1] = 255 - last[0, :, -1, -1]
    elif name == "vector":
        last[0, -1] += 1
    else:
        last[0, int(lengths[0]) - 1] = 1 + last[0, int(lengths[0]) - 1] % (VOCAB - 1)
    assert not torch.allclose(encoder(last, lengths).pooled[0], before[0], atol=1e-5)


def data(audio="cnn", image="cnn", text="gru"):
    """Four samples that lack this and that, of what these encoders read; and the shapes of it."""
    rng = np.random.default_rng(0)
    picture, sound = rng.integers(0, 256, (16, 16, 3), np.uint8), rng.normal(0, 1, (19, N_MELS))
    words = rng.integers(1, VOCAB, 5).astype(np.int32)
    if audio == "pretrained":
        sound = rng.integers(-9_000, 9_000, 400)
    dtype = np.int16 if audio == "pretrained" else np.float16
    arrays = {
        "audio": [sound.astype(dtype), None, None, sound[: len(sound) // 3].astype(dtype)],
        "image": [picture, picture[::-1].copy(), None, None],
        "text": [None, words, words[:2], None],
    }
    shapes = {"audio": [-1, *sound.shape[1:]], "image": [16, 16, 3], "text": [-1]}
    for modality, name in (("audio", audio), ("image", image), ("text", text)):
        if name == "vector":
            width = BACKBONES[modality]["width"]
            arrays[modality] = [
                None if array is None else rng.normal(0, 1, width).astype(np.float32)
                for array in arrays[modality]
            ]
            shapes[modality] = [width]
    return batches.from_arrays("abcd", arrays, shapes)


@pytest.mark.parametrize(("audio", "image", "text"), COMBINATIONS)
def test_any_combination_saved_and_loaded_gives_the_same_outputs(tmp_path, audio, image, text):
    torch.manual_seed(0)
    architecture = {"modalities": ["audio", "image", "text"], "classes": 2, "dim": DIM, "dropout": 0.1}
    architecture |= {"n_mels": N_MELS, "vocab_size": VOCAB, "audio": audio, "image": image, "text": text}
    names = {"audio": audio, "image": image, "text": text}
    learned = {m for m, name in names.items() if name in ("vector", "pretrained")}
    architecture["backbones"] = {m: BACKBONES[m] for m in learned}
    samples = data(**names)
    model = build_model(**architecture)
    model.fit_statistics(samples)
    frozen = {m: trained(pretrained.build(BACKBONES[m])) for m in learned if names[m] == "vector"}
    heard = [-1] if audio in ("vector", "pretrained") else [-1, N_MELS]
    shapes = {"audio": heard, "image": [16, 16, 3], "text": [-1]}
    trained(model)
    config = {
        "labels": ["no", "yes"],
        "temperature": 1.0,
        "preprocessing": {m: {} for m in shapes},
        "features": {m: {"shape": shape} for m, shape in shapes.items()},
    }
    checkpoint.save_bundle(
        tmp_path / "b",
        model,
        config=config,
        architecture=architecture,
        metrics={},
        tokenizer="{}",
        backbones=frozen,
    )
    bundle = checkpoint.load_bundle(tmp_path / "b")
    kinds = [type(encoder) for encoder in bundle.model.encoders.values()]
    assert kinds == [ENCODERS["audio"][audio], ENCODERS["image"][image], ENCODERS["text"][text]]
    with torch.inference_mode():
        want, got = (m(samples.batch(np.arange(4))).logits for m in (model, bundle.model))
    assert torch.equal(want, got)
    assert len(set(want[:, 0].tolist())) == 4
    assert bundle.backbones.keys() == frozen.keys()
    for m, net in bundle.backbones.items():
        raw = [np.random.default_rng(1).integers(0, 99, {"image": (16, 16, 3), "audio": (400,)}.get(m, (9,)))]
        raw = [raw[0].astype({"audio": np.float32, "image": np.uint8, "text": np.int32}[m])]
        vector = embedding.vectors(frozen[m], raw)
        assert np.array_equal(embedding.vectors(net, raw), vector) and np.abs(vector).max() > 1e-3
        assert bundle.dataset(["x"], {m: raw}).columns[m].values.numpy() == pytest.approx(vector)


DECODED = {
    "classify": (2, {"labels": ["no", "yes"]}),
    "multilabel": (2, {"labels": ["no", "yes"], "decoding": {"thresholds": [0.5, 0.25]}}),
    "regress": (1, {"decoding": {"mean": 2.0, "deviation": 3.0}}),
    "retrieve": (DIM, {"decoding": {"modalities": ["audio", "image", "text"], "width": DIM}}),
    "answer": (4, {"decoding": {"units": {"texts": [" low", " high", " voice"], "merges": []}}}),
}
"""Task → the width of its outputs, and what a bundle says of decoding them."""
FUSED = [*product(("classify", "multilabel", "regress"), FUSIONS)]
OTHERS = [("retrieve", "concat"), *(("answer", name) for name in FUSIONS if name not in sense.OPINIONS)]


def all_three(modality, name, task, fusion):
    """A network with this encoder beside two others, what it was built of, and the names of its encoders."""
    names = {"audio": "cnn", "image": "cnn", "text": "gru", modality: name}
    architecture = {"modalities": ["audio", "image", "text"], "classes": DECODED[task][0], "dim": DIM}
    architecture |= {"n_mels": N_MELS, "vocab_size": VOCAB, "fusion": fusion, "task": task, "dropout": 0.1}
    architecture |= {"attention": {"heads": 3}, "lowrank": {"rank": 2}}.get(fusion, {})
    if task == "answer":
        architecture["writer"] = {"tokens": 3, "layers": 1, "heads": 2, "search": "greedy"}
    learned = [m for m, one in names.items() if one in ("vector", "pretrained")]
    architecture |= names | {"backbones": {m: BACKBONES[m] for m in learned}}
    torch.manual_seed(0)
    model = build_model(**architecture)
    model.fit_statistics(data(**names))
    return trained(model), architecture, names


def again(folder, model, architecture):
    """The same network, saved and loaded."""
    names = {m: architecture[m] for m in model.modalities}
    frozen = {m: pretrained.build(BACKBONES[m]) for m, name in names.items() if name == "vector"}
    heard = [-1] if names["audio"] in ("vector", "pretrained") else [-1, N_MELS]
    shapes = {"audio": heard, "image": [16, 16, 3]}
    config = {
        **{"labels": [], "temperature": 1.0, **DECODED[architecture["task"]][1]},
        "preprocessing": {m: {} for m in names},
        "features": {m: {"shape": shapes.get(m, [-1])} for m in names},
    }
    given = {"config": config, "architecture": architecture, "metrics": {}, "tokenizer": "{}"}
    checkpoint.save_bundle(folder, model, **given, backbones=frozen)
    return checkpoint.load_bundle(folder).model


@pytest.mark.parametrize(("task", "fusion"), FUSED)
@pytest.mark.parametrize(("modality", "name"), ALL)
def test_any_encoder_goes_with_any_fusion_and_task(tmp_path, task, fusion, modality, name):
    model, architecture, names = all_three(modality, name, task, fusion)
    loaded = again(tmp_path / "b", model, architecture)
    batch = data(**names).batch(np.arange(4))
    absent = {m: marks & (m != modality) for m, marks in batch.present.items()}
    with torch.inference_mode():
        found, hidden = (model(batch, shown).logits for shown in (None, absent))
        assert torch.equal(loaded(batch).logits, found)
        assert torch.equal(loaded(batch, absent).logits, hidden)
    assert found.shape == (4, model.outputs) and found.isfinite().all() and hidden.isfinite().all()
    has = batch.present[modality]
    assert not torch.isclose(found[has], hidden[has], atol=1e-6).all(1).any()
    torch.testing.assert_close(found[~has], hidden[~has])


@pytest.mark.parametrize(("task", "fusion"), OTHERS)
@pytest.mark.parametrize(("modality", "name"), ALL)
def test_any_encoder_goes_with_answers_in_words_and_with_search(tmp_path, task, fusion, modality, name):
    """Of a text that is written, what its units are worth where it is told what comes before."""
    model, architecture, names = all_three(modality, name, task, fusion)
    loaded = again(tmp_path / "b", model, architecture)
    batch = data(**names).batch(np.arange(4))
    said = torch.tensor([[1, 3, -1], [2, 3, 3], [2, -1, -1], [3, 1, -1]]) if task == "answer" else None
    with torch.inference_mode():
        for target in {None, said}:
            found, other = (
                net.decode(net.encode(batch), batch.present, target).logits for net in (model, loaded)
            )
            assert torch.equal(found, other) and found.isfinite().all()
            assert len(found.flatten(1).unique(dim=0)) > 1 or target is None


def test_attention_takes_a_text_without_known_words_for_absent():
    torch.manual_seed(0)
    sizes = {"modalities": ["image", "text"], "classes": 2, "dim": DIM, "dropout": 0.0, "vocab_size": VOCAB}
    model = build_model(**sizes, text="transformer", fusion="attention", heads=3)
    model.encoders["text"].idf[:] = 0
    samples = data()
    batch = samples.batch(np.arange(4))
    trained(model).trust.fill_(1)
    with torch.inference_mode():
        encoded, present = model.encode(batch), batch.present
        found = model.fusion(encoded, model._weights(present))
        alone = {**present, "text": torch.zeros(4, dtype=torch.bool)}
        hidden = model.fusion(encoded, model._weights(alone))
    assert found.isfinite().all()
    torch.testing.assert_close(found, hidden)


def test_parameters_and_bundles_name_the_encoders_that_there_are():
    for modality, names in ENCODERS.items():
        allowed = get_args(params.Model.model_fields[modality].annotation)
        assert set(allowed) == {*names, "none", "pretrained"} - {"vector"}
        assert set(get_args(configuration.Architecture.model_fields[modality].annotation)) == set(names)


def test_the_bands_of_a_sound_are_not_exchangeable():
    encoder, x, lengths = make("audio", "crnn")
    trained(encoder)
    assert not torch.allclose(encoder(x, lengths).pooled, encoder(x.flip(2), lengths).pooled, atol=1e-3)


def test_a_residual_block_starts_as_its_shortcut():
    block = ImageResNet(DIM, widths=(4, 4, 4)).stages[0][1].eval()
    x = torch.rand(1, 4, 6, 6)
    torch.testing.assert_close(block(x), x)


def test_positions_by_hand():
    found = positions(3, 4, torch.device("cpu"))
    want = [[np.sin(t), np.sin(t / 100), np.cos(t), np.cos(t / 100)] for t in range(3)]
    torch.testing.assert_close(found, torch.tensor(want, dtype=torch.float32))


def test_attention_by_hand():
    block = TextTransformer(DIM, vocab_size=VOCAB, width=2, heads=1).blocks[0]
    torch.nn.init.zeros_(block.query_key_value.weight)
    torch.nn.init.zeros_(block.query_key_value.bias)
    block.query_key_value.weight.data[4:] = torch.eye(2)  # values as they are; every score is 0
    torch.nn.init.eye_(block.out.weight)
    torch.nn.init.zeros_(block.out.bias)
    x = torch.tensor([[[1.0, 2.0], [3.0, 4.0], [100.0, 100.0]]])
    seen = block._attend(x, torch.tensor([[1.0, 1.0, 0.0]]))
    torch.testing.assert_close(seen, torch.tensor([[[2.0, 3.0]] * 3]))


@pytest.mark.parametrize("name", ["gru", "transformer"])
def test_the_order_of_words_matters(name):
    encoder, x, lengths = make("text", name)
    trained(encoder)
    assert not torch.allclose(encoder(x, lengths).pooled[0], encoder(x.flip(1), lengths).pooled[0], atol=1e-6)


@pytest.mark.parametrize(("modality", "name"), [("audio", "crnn"), ("text", "gru")])
def test_the_backward_pass_reads_from_the_last_step(modality, name):
    encoder, x, lengths = make(modality, name)
    encoder.eval()
    encoder.back.load_state_dict(encoder.ahead.state_dict())
    size = encoder.ahead.hidden_size
    if modality == "audio":  # turned round, what the convolutions see is not the same: one step alone is
        hidden = encoder(x[:1, :1], torch.ones(1).long()).sequence[0]
        torch.testing.assert_close(hidden[:, :size], hidden[:, size:])
        return
    hidden = encoder(x[:1], lengths[:1]).sequence[0]
    mirrored = encoder(x[:1].flip(1), lengths[:1]).sequence[0]
    torch.testing.assert_close(hidden[:, :size], mirrored.flip(0)[:, size:])


@pytest.mark.parametrize("name", ["gru", "transformer"])
def test_a_token_that_no_train_text_has_weighs_nothing(name):
    encoder, _, lengths = make("text", name)
    containing = torch.ones(VOCAB, dtype=torch.int64)
    containing[[0, 7]] = 0
    encoder.fit(3, containing)
    encoder.eval()
    seen, unseen = torch.full((1, 1), 5), torch.full((1, 1), 7)
    assert not encoder(unseen, lengths[2:]).sequence.equal(encoder(seen, lengths[2:]).sequence)
    nothing = encoder(torch.zeros(1, 1, dtype=torch.int64), lengths[2:]).pooled
    torch.testing.assert_close(encoder(unseen, lengths[2:]).pooled, nothing)


@pytest.mark.parametrize("name", ["gru", "transformer"])
def test_a_dropped_token_is_read_as_padding_bit_for_bit(name):
    encoder, x, lengths = make("text", name)
    encoder.fit(3, torch.ones(VOCAB, dtype=torch.int64))
    encoder.idf[batches.PAD] = 0
    read = []
    for mark in (batches.DROPPED, batches.PAD):
        torch.manual_seed(0)
        x[:, ::2] = mark
        read.append(encoder.train()(x, lengths))
    assert all(map(torch.equal, *read)) and read[0].pooled.unique(dim=0).shape[0] > 1


@pytest.mark.parametrize("name", ["cnn", "resnet"])
def test_a_picture_and_its_mirror_image_are_the_same_in_evaluation(name):
    encoder, x, lengths = make("image", name)
    trained(encoder)
    torch.testing.assert_close(encoder(x, lengths).pooled, encoder(x.flip(3), lengths).pooled)
    encoder.flip = False
    assert not torch.allclose(encoder(x, lengths).pooled, encoder(x.flip(3), lengths).pooled)


@pytest.mark.parametrize(("axis", "shape"), [(1, (2, 3, 4, 5)), (2, (2, 5, 3))])
def test_normalize_by_hand(axis, shape):
    normalize = Normalize(3, axis=axis)
    normalize.fit(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([1.0, 2.0, 4.0]))
    out = normalize(torch.full(shape, 5, dtype=torch.uint8))
    for channel, wanted in enumerate([4.0, 1.5, 0.5]):
        assert (out.select(axis, channel) == wanted).all()


def test_of_words_the_network_hears_nothing():
    encoder, x, lengths = make("text", "words")
    found = encoder(x, lengths)
    assert not found.pooled.any() and not found.sequence.any() and found.pooled.shape == (3, DIM)
    assert found.mask.sum(1).tolist() == [12, 5, 1] and [*encoder.parameters()] == []
