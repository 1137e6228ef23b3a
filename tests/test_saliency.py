"""Integrated gradients: they sum to what there is to explain, and point where the network looks."""

import json
import re
import sys

import numpy as np
import pytest
import tasked
import tiny_bundle
import tiny_frozen
import torch
from torch.nn import functional
from typer.testing import CliRunner

from mmpipe import batches, heat, paths, saliency, schema
from mmpipe.cli import app
from mmpipe.errors import InvalidError, NotFoundError, UsageError
from mmpipe.model.checkpoint import load_bundle, save_bundle
from mmpipe.model.network import build_model
from mmpipe.params import load as load_params
from mmpipe.predict import Sample, load


def bundle(folder, network, architecture, *, side=16, tokenizer="{}"):
    """A network as a bundle, and back."""
    facts = {
        "audio": {"dtype": "float16", "shape": [-1, 8]},
        "image": {"dtype": "uint8", "shape": [side, side, 3]},
        "text": {"dtype": "int32", "shape": [-1]},
    }
    modalities = architecture["modalities"]
    save_bundle(
        folder,
        network,
        config={
            "labels": ["no", "yes"],
            "temperature": 1.0,
            "preprocessing": {m: {} for m in modalities},
            "features": {m: facts[m] for m in modalities},
        },
        architecture=architecture,
        metrics={},
        tokenizer=tokenizer if "text" in modalities else None,
    )
    return load_bundle(folder, device=torch.device("cpu"))


def features(rng):
    return {
        "audio": rng.normal(0, 1, (21, 8)).astype(np.float16),
        "image": rng.integers(0, 256, (16, 16, 3)).astype(np.uint8),
        "text": rng.integers(1, 40, 6).astype(np.int32),
    }


@pytest.mark.parametrize(
    ("fusion", "encoders"),
    [
        ("concat", ("cnn", "gru", "cnn")),
        ("gated", ("resnet", "transformer", "crnn")),
        ("attention", ("cnn", "transformer", "cnn")),
        ("stacking", ("cnn", "gru", "crnn")),
    ],
)
def test_the_parts_sum_to_what_the_answer_has_more_than_the_baseline(tmp_path, fusion, encoders):
    torch.manual_seed(0)
    torch.set_num_threads(1)
    image, text, audio = encoders
    made = {"modalities": list(schema.MODALITIES), "classes": 2, "dim": 8, "dropout": 0.1, "fusion": fusion}
    made |= {"image": image, "text": text, "audio": audio, "vocab_size": 40, "n_mels": 8}
    network = build_model(**made).eval()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, 0, 0.1)
    network.encoders["image"].normalize.fit(torch.full((3,), 255.0), torch.full((3,), 80.0))
    known, given = bundle(tmp_path / "b", network, made), features(np.random.default_rng(1))
    found = saliency.attribute(known, given)
    assert {m: values.shape for m, values in found.maps.items()} == {
        "audio": (21, 8),
        "image": (16, 16),
        "text": (6,),
    }
    arrays = {m: [value] for m, value in given.items()}
    with torch.no_grad():
        logits = known.model(known.dataset(["x"], arrays).batch(np.arange(1))).logits
    assert found.score == pytest.approx(float(logits.max()), abs=1e-4)
    moved = abs(found.score - found.baseline)
    assert moved > 1e-3 and abs(found.gap) < 0.02 * max(moved, *(abs(v).sum() for v in found.maps.values()))
    less = saliency.attribute(known, {"image": given["image"]})
    assert list(less.maps) == ["image"] and less.score != found.score
    again = saliency.attribute(known, given)
    assert all(np.array_equal(again.maps[m], values) for m, values in found.maps.items())


def test_a_network_that_learned_to_look_at_a_corner_shows_that_corner(tmp_path):
    """Where the corner is black the answer is yes; all else is noise."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (160, 16, 16, 3)).astype(np.uint8)
    target = np.arange(160) % 2
    pictures[target == 1, :5, :5] = 0
    made = {"modalities": ["image"], "classes": 2, "dim": 16, "dropout": 0.0, "image_flip": False}
    network = build_model(**made)
    data = batches.from_arrays(
        [str(n) for n in range(160)], {"image": list(pictures)}, {"image": [16, 16, 3]}
    )
    network.fit_statistics(data)
    optimiser = torch.optim.Adam(network.parameters(), lr=3e-3)
    for epoch in range(25):
        for rows in batches.chunks(batches.order(128, seed=0, epoch=epoch), 32):
            optimiser.zero_grad()
            logits = network.train()(data.batch(rows)).logits
            functional.cross_entropy(logits, torch.from_numpy(target[rows])).backward()
            optimiser.step()
    known = bundle(tmp_path / "b", network, made)
    held = np.arange(128, 160)
    with torch.no_grad():
        said = known.model(data.batch(held)).logits.argmax(1).numpy()
    assert (said == target[held]).mean() > 0.9
    inside = np.zeros((16, 16), bool)
    inside[:7, :7] = True  # 19 % of the picture: the corner, and what a convolution sees of it
    maps = [saliency.attribute(known, {"image": pictures[n]}).maps["image"] for n in held if target[n] == 1]
    shares = [abs(values)[inside].sum() / abs(values).sum() for values in maps]
    assert np.mean(shares) > 0.5
    assert np.mean([values[:5, :5].sum() for values in maps]) > 0  # and it speaks for yes


def test_of_words_only_those_count_that_the_network_reads(tmp_path):
    torch.manual_seed(0)
    made = {"modalities": ["text"], "classes": 2, "dim": 8, "dropout": 0.0, "vocab_size": 40}
    network = build_model(**made)
    with torch.no_grad():
        network.encoders["text"].embed.weight[:] = 0
        network.encoders["text"].embed.weight[7] = 1
    known = bundle(tmp_path / "b", network, made)
    found = saliency.attribute(known, {"text": np.array([3, 7, 9, 11], np.int32)}).maps["text"]
    assert found[1] != 0 and (found[[0, 2, 3]] == 0).all()


def test_frozen_backbones_are_looked_through(tmp_path):
    tiny_frozen.write(tmp_path / "b")
    known = load_bundle(tmp_path / "b", device=torch.device("cpu"))
    rng = np.random.default_rng(0)
    given = {
        "audio": rng.normal(0, 0.1, 700).astype(np.float32),
        "image": rng.integers(0, 256, (16, 16, 3)).astype(np.uint8),
        "text": rng.integers(1, 200, 7).astype(np.int32),
    }
    found = saliency.attribute(known, given)
    assert [values.shape for values in found.maps.values()] == [(700,), (16, 16), (7,)]
    assert all(abs(values).sum() > 0 for values in found.maps.values())
    assert abs(found.gap) < 0.05 * sum(abs(values).sum() for values in found.maps.values())
    shown = heat.shown("x", "said", found, given, list("abcdefg"))
    assert [part.picture is None for part in shown.parts] == [False, False, True]


def test_pieces_are_of_the_text_and_as_many_as_the_tokens(tmp_path):
    tiny_bundle.write(tmp_path)
    predictor = load(tmp_path / paths.BUNDLE, device="cpu")
    for words in ("A Low ONE", "größer  als\tnichts", "spoken " * 40, "日本"):
        count = len(predictor.features(Sample(text=words))["text"])
        found = saliency.pieces(words, predictor.bundle.tokenizer, count)
        assert len(found) == count and all(piece in words for piece in found)
    assert "".join(saliency.pieces("a low one", predictor.bundle.tokenizer, 9)) == "a low one"


def test_a_task_without_a_number_has_none(tmp_path, monkeypatch):
    tiny_bundle.write(tmp_path, task="retrieve")
    known = load_bundle(tmp_path / paths.BUNDLE)
    with pytest.raises(UsageError, match="trained to retrieve has no single number"):
        saliency.attribute(known, features(np.random.default_rng(0)))
    (tmp_path / "params.yaml").write_text(
        "data: {target: none}\nmodel: {task: retrieve}\nreport: {saliency: 3}\n"
    )
    with pytest.raises(InvalidError, match=r"report\.saliency makes no sense with model.task: retrieve"):
        load_params(tmp_path / "params.yaml")


def test_without_captum_it_says_what_to_install(tmp_path, monkeypatch):
    tiny_bundle.write(tmp_path)
    monkeypatch.setitem(sys.modules, "captum.attr", None)
    with pytest.raises(NotFoundError, match=r"library-missing.*mmpipe\[saliency\]"):
        saliency.attribute(load_bundle(tmp_path / paths.BUNDLE), features(np.random.default_rng(0)))


def test_the_command_draws_one_sample(tmp_path, monkeypatch):
    samples = tiny_bundle.write(tmp_path)
    monkeypatch.chdir(tmp_path)
    sample = next(one for one in samples.values() if len(one) == 3)
    given = [word for m in sample for word in (f"--{m}", str(sample[m]))]
    done = CliRunner().invoke(app, ["predict", *given, "--saliency", "a.html"], catch_exceptions=False)
    page = (tmp_path / "a.html").read_text()
    assert done.exit_code == 0 and page.count("data:image/png;base64,") == 2
    label = load(paths.BUNDLE, device="cpu").predict(**sample).label
    assert done.stdout.startswith(label) and f"<bdi>{label}</bdi>" in page
    assert not re.search(r'(src|href)="(?!data:)', page)
    done = CliRunner().invoke(app, ["predict", "rows.csv", "-o", "x.csv", "--saliency", "a.html"])
    assert done.exit_code == 2 and "--saliency is for one sample" in done.output


def test_colours_say_sign_and_strength():
    values = np.array([[0.0, 1.0], [-1.0, 0.5]])
    pixels = heat.over(values, np.full((2, 2), 255.0)).astype(int)
    assert pixels[0, 0].tolist() == [255, 255, 255]
    assert pixels[0, 1, 0] > pixels[0, 1, 2] + 100 and pixels[1, 0, 2] > pixels[1, 0, 0] + 100
    assert pixels[1, 1, 1] > pixels[0, 1, 1]
    assert (heat.strengths(np.zeros((3, 3))) == 0).all()
    said, other = heat.words(np.array([2.0, -2.0]), ["yes", "no"])
    assert said.colour.startswith("rgba(196") and other.colour.startswith("rgba(28")


def test_the_report_shows_as_many_as_are_asked_for(tmp_path, monkeypatch):
    tasked.write(tmp_path, lambda row, number: ["red", "blue"][number % 2], n=60)
    tasked.params(
        tmp_path,
        data={"columns": {"target": "cell"}},
        train={"epochs": 1},
        report={"examples": 2, "saliency": 3},
    )
    tasked.run(tmp_path)
    page = (tmp_path / paths.REPORT).read_text()
    section = page[page.index('<section id="saliency"') :]
    section = section[: section.index("</section>")]
    assert section.count("<article") == 3
    pictures = re.findall(r'<img class="map" src="data:image/png;base64,[A-Za-z0-9+/=]+"', section)
    assert len(pictures) == len(re.findall("<img", section)) >= 3
    assert "rgba(" in section
    ids = re.findall(r'class="id"><bdi>(.*?)</bdi>', section)
    told = json.loads((tmp_path / paths.FINDINGS).read_bytes())["exhibits"]
    assert set(ids) <= {item["id"] for part in told for item in part["items"]} and len(set(ids)) == 3
    assert page.count('href="#saliency"') == 1
    with tasked.inside(tmp_path):
        tasked.report.main()
    assert (tmp_path / paths.REPORT).read_text() == page
    fingerprint = json.loads((tmp_path / paths.code_fingerprint("report")).read_bytes())
    assert {"mmpipe.saliency", "mmpipe.model.network"} <= fingerprint["modules"].keys()
    assert "captum" in json.dumps(fingerprint["libraries"])
