"""Recordings of several lengths in one batch: each as its authors' own code hears it alone."""

import copy

import numpy as np
import pytest
import tiny_bundle
import tiny_weights
import torch
from torch.nn import functional

from mmpipe import heat, saliency
from mmpipe.errors import InvalidError, VerificationError
from mmpipe.model import checkpoint, graph, pretrained, waves
from mmpipe.model.encoders import FineTuned
from mmpipe.model.network import build_model
from mmpipe.onnx_file import Session
from mmpipe.tasks.task import Decoding

LAYERED = {"do_stable_layer_norm": True, "feat_extract_norm": "layer", "conv_bias": True}
MODELS = {
    "wav2vec2": {},
    "wav2vec2, layer norm": LAYERED,
    "hubert": {"model_type": "hubert"},
    "hubert, batch norm": {"model_type": "hubert", "conv_pos_batch_norm": True},
    "hubert, layer norm": {"model_type": "hubert", "feat_proj_layer_norm": False, **LAYERED},
    "wavlm": {"model_type": "wavlm", "num_hidden_layers": 2},
    "wavlm, layer norm": {"model_type": "wavlm", **LAYERED},
    "data2vec": {"model_type": "data2vec-audio", "num_conv_pos_embeddings": 3, "conv_pos_kernel_size": 5},
}
REACH = 10 + 7 * 5
FACTS = {"audio": {"shape": [-1], "dtype": "int16", "kind": "pcm", "sample_rate": 8_000, "n_fft": 64}}


def blueprint(name, **config):
    return {**tiny_weights.WAVE, "config": {**tiny_weights.WAVE["config"], **MODELS[name], **config}}


def backbone(name, **config):
    """With weights far from where they start, so that every part tells."""
    net = pretrained.build(blueprint(name, **config)).eval()
    generator = torch.Generator().manual_seed(0)
    for value in net.state_dict().values():
        if value.is_floating_point() and value.ndim > 1:
            value.normal_(0, 0.4, generator=generator)
        elif value.is_floating_point():
            value.uniform_(0.5, 1.5, generator=generator)
    return net


def batch():
    """Waves of 700, 411, 300 and 20 samples, the last shorter than a step; noise past their ends."""
    torch.manual_seed(1)
    lengths = torch.tensor([700, 411, 300, 20])
    return 0.1 * torch.randn(4, 700), lengths


@pytest.mark.parametrize("standardize", [True, False])
@pytest.mark.parametrize("name", MODELS)
def test_in_a_batch_each_is_what_its_authors_make_of_it_alone(name, standardize, monkeypatch):
    net, (x, lengths) = backbone(name), batch()
    net.made["standardize"] = standardize
    found = net(x, lengths)
    monkeypatch.setattr(waves, "SAMPLES", 1_400)  # two at a time
    parted = net(x, lengths)
    for row, length in enumerate(lengths.tolist()):
        alone = x[row, :length].numpy()
        if standardize:
            alone = (alone - alone.mean()) / np.sqrt(alone.var() + 1e-7)
        alone = functional.pad(torch.from_numpy(alone), (0, max(0, REACH - length)))
        with torch.no_grad():
            want = net.net(input_values=alone[None]).last_hidden_state[0]
        for got in (found, parted):
            steps = int(got.mask[row].sum())
            assert steps == len(want) and not got.sequence[row, steps:].any()
            torch.testing.assert_close(got.sequence[row, :steps], want, rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(got.pooled[row], want.mean(0), rtol=1e-4, atol=1e-5)


def test_their_own_way_with_a_batch_hears_the_padding():
    """What `waves` is for: where this fails, it may go."""
    net, (x, lengths) = backbone("wav2vec2"), batch()
    mask = torch.arange(700) < lengths.clamp(min=REACH)[:, None]
    with torch.no_grad():
        hidden = net.net(waves.standardised(x, lengths), attention_mask=mask.long()).last_hidden_state
    found = net(x, lengths)
    off = (hidden - found.sequence).abs()[1:][found.mask[1:].bool()]
    assert off.max() > 0.1 and found.sequence.std() < 2


def test_sixteen_bits_are_the_wave():
    net, (x, lengths) = backbone("wav2vec2"), batch()
    whole = (x * waves.FULL_SCALE).round()
    found, want = net(whole.short(), lengths), net(whole / waves.FULL_SCALE, lengths)
    assert torch.equal(found.pooled, want.pooled)


@pytest.mark.parametrize("name", ["wav2vec2", "hubert", "wavlm", "data2vec"])
def test_in_training_all_chance_is_torchs_and_short_recordings_do_not_stop_it(name):
    """SpecAugment of Transformers draws from NumPy, and refuses what is shorter than its mask."""
    net, (x, lengths) = backbone(name, mask_time_prob=0.9, mask_time_length=40, layerdrop=0.5), batch()
    found = []
    for seed in (3, 4):
        np.random.seed(seed)
        torch.manual_seed(7)
        found.append(copy.deepcopy(net.train())(x, lengths).sequence)
    assert torch.equal(*found)


def test_the_convolutions_over_the_wave_take_no_gradient():
    encoder = FineTuned(8, blueprint=blueprint("hubert", layerdrop=0.0))
    encoder(*batch()).pooled.sum().backward()
    fixed = [p for name, p in encoder.named_parameters() if ".feature_extractor." in name]
    assert fixed and all(p.grad is None and not p.requires_grad for p in fixed)
    assert encoder.backbone.net.feature_projection.projection.weight.grad.any()


@pytest.mark.parametrize("config", [{"model_type": "sew"}, {"add_adapter": True}])
def test_what_cannot_hear_a_batch_exactly_is_only_ever_frozen(config):
    made = {**tiny_weights.WAVE, "config": {**tiny_weights.WAVE["config"], **config}}
    with pytest.raises(InvalidError, match="weights-format describes a backbone that can only be frozen"):
        FineTuned(8, blueprint=made)


def network(name="wav2vec2", **options):
    torch.manual_seed(0)
    made = {"modalities": ["audio"], "classes": 2, "dim": 8, "dropout": 0.0, "audio": "pretrained", **options}
    made["backbones"] = {"audio": blueprint(name)}
    return build_model(**made).eval(), made


def bundle(folder, net, made):
    config = {
        "labels": ["no", "yes"],
        "temperature": 1.0,
        "preprocessing": {"audio": tiny_bundle.SETTINGS["audio"] | {"kind": "pcm"}},
        "features": FACTS,
    }
    checkpoint.save_bundle(folder, net, config=config, architecture=made, metrics={}, tokenizer=None)


def test_a_bundle_whose_network_only_others_could_train_is_damaged(tmp_path):
    net, made = network()
    made["backbones"]["audio"]["config"] = {**made["backbones"]["audio"]["config"], "add_adapter": True}
    bundle(tmp_path / "b", net, made)
    with pytest.raises(VerificationError, match=r"bundle-damaged .*can only be frozen"):
        checkpoint.load_bundle(tmp_path / "b")


@pytest.mark.parametrize("name", ["wav2vec2", "wavlm", "data2vec"])
def test_onnx_hears_the_same(tmp_path, name):
    net, made = network(name, fusion="attention")
    bundle(tmp_path / "b", net, made)
    known = checkpoint.load_bundle(tmp_path / "b", device=torch.device("cpu"))
    data = graph.to_onnx(known.model, FACTS, task="classify", decoding=Decoding(["no", "yes"]))
    rng = np.random.default_rng(0)
    waves_ = [rng.normal(0, 3_000, size).astype(np.int16) for size in (900, 300, 70, 20)]
    some = known.dataset("abcd", {"audio": waves_})
    ports = graph.ports(known.model, FACTS)
    assert (ports[0].dtype, ports[0].shape) == ("int16", ("batch", "samples"))
    with torch.inference_mode():
        want = known.model(some.batch(np.arange(4))).logits
    found = Session(data, ports, threads=1).logits(some, ["audio"], batch_size=2)["audio"]
    assert np.allclose(found, want, atol=1e-5) and len(set(want[:, 0].tolist())) == 4


def test_where_in_a_wave_an_answer_comes_from(tmp_path):
    net, made = network()
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, 0, 0.2)
    bundle(tmp_path / "b", net, made)
    known = checkpoint.load_bundle(tmp_path / "b", device=torch.device("cpu"))
    given = {"audio": np.random.default_rng(0).normal(0, 3_000, 700).astype(np.int16)}
    found = saliency.attribute(known, given)
    assert found.maps["audio"].shape == (700,) and abs(found.maps["audio"]).sum() > 0
    with torch.inference_mode():
        logits = known.model(known.dataset("a", {"audio": [given["audio"]]}).batch(np.arange(1))).logits
    assert found.score == pytest.approx(float(logits.max()), abs=1e-5)
    assert heat.shown("a", "yes", found, given, []).parts[0].picture
