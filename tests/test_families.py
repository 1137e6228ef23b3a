"""Families of pretrained networks: read from a folder as their library saved them, they give its numbers."""

import json
import sys

import numpy as np
import pytest
import tiny_families
import tiny_weights
import torch
from safetensors.torch import save_file

from mmpipe import blueprint, weights
from mmpipe.errors import InvalidError, NotFoundError
from mmpipe.features import embedding
from mmpipe.model import pretrained, timm_net, width
from mmpipe.model.encoders.pretrained import FineTuned

SIDE = 64


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def pictures(n=3, side=SIDE):
    return list(np.random.default_rng(0).integers(0, 256, (n, side, side, 3), np.uint8))


def tokens(n=3):
    rng = np.random.default_rng(0)
    return [rng.integers(3, 290, int(size)).astype(np.int32) for size in rng.integers(4, 20, n)]


def tower(folder, name, modality):
    """The authors' network of one modality, by their own loader."""
    import transformers

    net = transformers.AutoModel.from_pretrained(folder).eval()
    if name not in ("clip", "siglip"):
        return net
    return net.vision_model if modality == "image" else net.text_model


@pytest.mark.parametrize("name", sorted(tiny_families.IMAGES))
def test_a_family_of_pictures_gives_its_authors_numbers(tmp_path, name):
    made = tiny_families.transformers(tmp_path / "w", tiny_families.IMAGES[name])
    net = tiny_weights.load("image", "w", tmp_path, SIDE)
    x = [(one / 255 - [0.1, 0.2, 0.3]) / [0.5, 0.5, 0.25] for one in pictures()]
    with torch.no_grad():
        x = torch.from_numpy(np.stack(x)).float().permute(0, 3, 1, 2)
        hidden = tower(made, name, "image")(pixel_values=x).last_hidden_state
    want = hidden.mean((2, 3)) if hidden.ndim == 4 else hidden.mean(1)
    got = embedding.vectors(net, pictures())
    assert got.shape == want.shape and np.allclose(got, want.numpy(), rtol=1e-3, atol=1e-5)
    assert np.abs(got[0] - got[1]).max() > 1e-3
    assert net.width == tiny_families.WIDTHS.get(name, net.width)
    learns(net, torch.from_numpy(np.stack(pictures())).permute(0, 3, 1, 2))


@pytest.mark.parametrize("name", sorted(tiny_families.TEXTS))
def test_a_family_of_texts_gives_its_authors_numbers(tmp_path, name):
    made = tiny_families.transformers(tmp_path / "w", tiny_families.TEXTS[name])
    net = tiny_weights.load("text", "w", tmp_path)
    theirs = tower(made, name, "text")
    with torch.no_grad():
        want = [
            theirs(input_ids=torch.from_numpy(one)[None].long()).last_hidden_state.mean(1) for one in tokens()
        ]
    got = embedding.vectors(net, tokens())
    assert net.width == tiny_families.WIDTHS[name]
    assert np.allclose(got, torch.cat(want).numpy(), rtol=1e-3, atol=1e-5)
    learns(net, torch.from_numpy(np.stack([one[:4] for one in tokens()])))


def learns(net, x):
    """The same network in training: every output has its width, and a gradient comes to its weights."""
    encoder = FineTuned(8, blueprint=net.made).train()
    found = encoder(x, torch.full((len(x),), x.shape[1]))
    assert found.pooled.shape == (len(x), 8) and found.sequence.shape[2] == encoder.sequence_dim
    (found.pooled.square().sum() + found.sequence.square().sum()).backward()
    assert any(p.grad is not None and p.grad.abs().max() > 0 for p in encoder.backbone.net.parameters())


TIMM = {
    "test_resnet": (96, 96),
    "test_vit": (64, 64),
    "test_mambaout": (256, 64),
    "mobilenetv3_small_050": (1024, 288),
}
"""Network → widths of its vector and of its sequence."""


@pytest.mark.parametrize("name", TIMM)
def test_a_folder_of_timm_gives_timms_numbers(tmp_path, name):
    import timm

    own = {"img_size": SIDE} if name == "test_vit" else {}
    folder = tiny_families.timm(tmp_path / "w", name, **own)
    net = tiny_weights.load("image", "w", tmp_path, SIDE)
    told = json.loads((folder / "config.json").read_text())["pretrained_cfg"]
    theirs = timm.create_model(f"local-dir:{folder}", pretrained=True, num_classes=0).eval()
    x = torch.from_numpy(np.stack(pictures())).permute(0, 3, 1, 2)
    scaled = (x / 255 - torch.tensor(told["mean"])[:, None, None]) / torch.tensor(told["std"])[:, None, None]
    with torch.no_grad():
        want = theirs(scaled)
    got = embedding.vectors(net, pictures())
    assert np.allclose(got, want.numpy(), rtol=1e-3, atol=1e-5) and np.abs(got[0] - got[1]).max() > 1e-3
    assert (net.width, net.sequence_width) == TIMM[name]
    learns(net, x)


def test_the_steps_of_a_timm_sequence_are_its_places(tmp_path):
    """Their mean is the pooled vector, where timm pools by the mean; of maps with channels last, too."""
    for name in ("test_resnet", "swin_s3_tiny_224"):
        net = pretrained.build(
            {
                "kind": "timm",
                "modality": "image",
                "width": 1,
                "deviation": [255.0] * 3,
                "config": {"architecture": name},
            }
        )
        side = 224 if "224" in name else 96
        x = torch.from_numpy(np.stack(pictures(2, side))).permute(0, 3, 1, 2)
        with torch.no_grad():
            found = net.eval()(x, torch.ones(2))
        torch.testing.assert_close(found.sequence.mean(1), found.pooled, rtol=1e-4, atol=1e-5)
        assert found.mask.shape == found.sequence.shape[:2]


def test_a_timm_network_that_transformers_saved_is_read(tmp_path):
    import timm
    import transformers

    config = transformers.TimmWrapperConfig(architecture="test_resnet", num_classes=0, model_args={})
    net = transformers.AutoModel.from_config(config)
    net.save_pretrained(tmp_path / "w")
    assert "timm" in json.loads((tmp_path / "w/config.json").read_text())["model_type"] and timm
    got = embedding.vectors(tiny_weights.load("image", "w", tmp_path, SIDE), pictures())
    assert got.shape == (3, 96)


def test_nothing_of_a_timm_folder_makes_timm_fetch_or_unpickle(tmp_path):
    folder = tiny_families.timm(tmp_path / "w")
    config = json.loads((folder / "config.json").read_text())
    hostile = {"pretrained": True, "checkpoint_path": str(tmp_path / "evil.pth"), "features_only": True}
    config["model_args"] = {**config.get("model_args", {}), **hostile}
    config["pretrained_cfg"] |= {"file": str(tmp_path / "evil.pth"), "url": "http://localhost:1/evil.pth"}
    tiny_weights.describe(folder, config=config)
    (tmp_path / "evil.pth").write_bytes(b"a pickle")
    assert tiny_weights.load("image", "w", tmp_path, SIDE).width == 96
    for name in (f"local-dir:{folder}", "hf-hub:someone/else", "no_such_net"):
        tiny_weights.describe(folder, config={**config, "architecture": name})
        with pytest.raises(InvalidError, match=rf"weights-format w describes no backbone .*has no {name}"):
            tiny_weights.load("image", "w", tmp_path, SIDE)


def test_tensors_of_another_timm_network_are_refused(tmp_path):
    folder = tiny_families.timm(tmp_path / "w")
    (folder / "config.json").rename(tmp_path / "kept")
    tiny_families.timm(tmp_path / "w", "test_efficientnet")
    (tmp_path / "kept").replace(folder / "config.json")
    with pytest.raises(InvalidError, match=r"weights-format w (lacks \d+ of its|holds other) tensors"):
        tiny_weights.load("image", "w", tmp_path, SIDE)
    tensors = {
        name: torch.zeros(1) for name in timm_net.network({"architecture": "test_resnet"}).net.state_dict()
    }
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(InvalidError, match=r"holds other tensors than its config\.json describes"):
        tiny_weights.load("image", "w", tmp_path, SIDE)


def test_a_timm_network_of_one_size_refuses_another_with_what_to_set(tmp_path):
    tiny_families.timm(tmp_path / "w", "test_vit", img_size=64, dynamic_img_size=False)
    with pytest.raises(InvalidError, match=r"weights-format w .*48 × 48 px .*set image\.size to"):
        tiny_weights.load("image", "w", tmp_path, 48)


@pytest.mark.parametrize("odd", [{"pretrained_cfg": "none"}, {"model_args": [1]}])
def test_a_timm_folder_that_is_none_is_refused(tmp_path, odd):
    folder = tiny_families.timm(tmp_path / "w")
    config = json.loads((folder / "config.json").read_text())
    tiny_weights.describe(folder, config=config | odd)
    with pytest.raises(InvalidError, match=r"weights-format w has a config\.json whose pretrained_cfg or"):
        tiny_weights.load("image", "w", tmp_path, SIDE)


def test_without_timm_the_extra_is_named(tmp_path, monkeypatch):
    tiny_families.timm(tmp_path / "w")
    monkeypatch.setitem(sys.modules, "timm", None)
    monkeypatch.delitem(sys.modules, pretrained.LIBRARIES["timm"][0], raising=False)
    with pytest.raises(
        NotFoundError, match=r"library-missing .*needs timm .*pip install 'mmpipe\[pretrained\]'"
    ):
        tiny_weights.load("image", "w", tmp_path, SIDE)


PROCESSORS = {
    "ConvNextImageProcessor": {},
    "EfficientNetImageProcessor": {"rescale_offset": True},
    "MobileNetV2ImageProcessor": {"do_normalize": False},
    "MobileViTImageProcessor": {},
    "SiglipImageProcessor": {"do_rescale": False, "image_mean": [120.0] * 3, "image_std": [60.0] * 3},
    "ViTImageProcessor": {"image_mean": [0.2, 0.3, 0.4]},
}


@pytest.mark.parametrize("name", PROCESSORS)
def test_pictures_are_scaled_as_their_image_processor_does(tmp_path, name):
    import transformers

    off = {"do_resize": False, "do_center_crop": False}
    theirs = getattr(transformers, name)(**off, **PROCESSORS[name])
    theirs.save_pretrained(tmp_path / "w")
    config = {"model_type": "resnet", "embedding_size": 4, "hidden_sizes": [4] * 4, "depths": [1] * 4}
    tiny_weights.describe(tmp_path / "w", config=config)
    (tmp_path / "w/model.safetensors").write_bytes(b"")
    made = blueprint.of("image", weights.find("w", tmp_path))
    net = pretrained.build({**made, "width": 4})
    seen = []
    net.net.register_forward_pre_hook(lambda _net, _args, kwargs: seen.append(kwargs), with_kwargs=True)
    x = torch.from_numpy(np.stack(pictures(1))).permute(0, 3, 1, 2)
    net.eval()(x, torch.ones(1))
    want = theirs(images=pictures(1), return_tensors="pt")["pixel_values"]
    torch.testing.assert_close(seen[0]["pixel_values"].contiguous(), want.float(), rtol=1e-4, atol=1e-4)


def test_networks_that_make_no_sequence_are_refused_with_what_to_do(tmp_path):
    size = {"model_type": "vit", **tiny_families.VISION, "num_hidden_layers": 1}
    tiny_families.transformers(tmp_path / "w", size)
    with pytest.raises(
        InvalidError, match=r"makes no sequence of image of 48 × 48 px .*docs/pretrained\.md lists"
    ):
        tiny_weights.load("image", "w", tmp_path, 48)
    tiny_weights.describe(tmp_path / "w", config={"model_type": "siglip2_vision_model"})
    with pytest.raises(
        InvalidError, match=r"weights-format w is of a network that makes no sequence of image"
    ):
        tiny_weights.load("image", "w", tmp_path, SIDE)
    tiny_weights.describe(tmp_path / "w", config={"model_type": "odd"})
    with pytest.raises(
        InvalidError, match=r"weights-format w describes no backbone .*docs/pretrained\.md lists"
    ):
        tiny_weights.load("text", "w", tmp_path)


def test_the_width_of_a_network_that_asks_for_values_is_measured_with_some():
    """ESM builds tensors from what it reads, which works with real ones only."""
    config = {
        "model_type": "esm",
        **tiny_families.WORDS,
        "pad_token_id": 1,
        "position_embedding_type": "rotary",
    }
    made = {"kind": "transformers", "modality": "text", "pooling": "mean", "unit": False, "config": config}
    assert width.measured(made, source="w", side=0)["width"] == 16
