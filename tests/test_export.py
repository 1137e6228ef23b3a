"""ONNX files against the networks that they were made of, and what the command says of them."""

import json
import shutil
import sys

import documented
import numpy as np
import pytest
import test_trial
import tiny_bundle
import tiny_families
import tiny_frozen
import tiny_weights
import torch
from torch import nn
from typer.testing import CliRunner

from mmpipe import batches, evaluate, export, exported, parity, paths, schema, tables
from mmpipe.cli import app
from mmpipe.errors import InvalidError, NotFoundError
from mmpipe.export import Asked
from mmpipe.exported import Exported
from mmpipe.metrics import softmax
from mmpipe.model import decoder_graph, graph
from mmpipe.model.decoder import START, next_log_probs
from mmpipe.model.fusion import FUSIONS
from mmpipe.model.fusions.opinions import Average
from mmpipe.model.network import build_model
from mmpipe.onnx_file import Session, in_8_bits
from mmpipe.predict import load
from mmpipe.tasks.task import Decoding

FACTS = {"audio": {"shape": [-1, 8]}, "image": {"shape": [15, 15, 3]}, "text": {"shape": [-1]}}
SMALL = {"classes": 3, "dim": 8, "dropout": 0.1, "vocab_size": 40, "n_mels": 8}
SUBSETS = ["audio", "audio+image+text", "image+text", "text", ""]
DECODING = Decoding(["a", "b", "c"], 1.7)
JOINED = ["attention", "concat", "gated", "lowrank"]
"""Fusions that a writer can look at."""
ENCODERS = [("cnn", "gru", "crnn"), ("resnet", "transformer", "cnn")]


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Small networks are slower with more."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def network(**arguments):
    """With weights that are far from the start, so that every input tells."""
    torch.manual_seed(0)
    made = build_model(**{"modalities": list(schema.MODALITIES), **SMALL, **arguments}).eval()
    for parameter in made.parameters():
        nn.init.normal_(parameter, 0, 0.3)
    made.trust.copy_(torch.linspace(0.3, 1, len(made.trust)))
    return made


def samples(seed=0, n=23, facts=FACTS):
    """Lengths from 1 on; of each modality some are absent, and one sample has none."""
    rng = np.random.default_rng(seed)
    make = {
        "audio": lambda: rng.normal(0, 1, (rng.integers(1, 70), 8)).astype(np.float16),
        "image": lambda: rng.integers(0, 256, facts["image"]["shape"]).astype(np.uint8),
        "text": lambda: rng.integers(1, 40, rng.integers(1, 30)).astype(np.int32),
    }
    arrays = {m: [made() if i and rng.random() < 0.7 else None for i in range(n)] for m, made in make.items()}
    return batches.from_arrays([str(i) for i in range(n)], arrays, {m: facts[m]["shape"] for m in arrays})


def assert_alike(net, session, some, subsets=SUBSETS):
    """Of every subset, in batches of other sizes than the one that was traced."""
    wanted = evaluate.logits(net, some, subsets, batch_size=len(some))
    for size in (1, 7):
        found = session.logits(some, subsets, batch_size=size)
        for subset in subsets:
            scale = max(1, abs(wanted[subset]).max())
            np.testing.assert_allclose(found[subset], wanted[subset], atol=2e-5 * scale, rtol=0)


@pytest.mark.parametrize("encoders", ENCODERS, ids="-".join)
@pytest.mark.parametrize("fusion", FUSIONS)
def test_every_fusion_and_encoder_says_the_same(fusion, encoders):
    image, text, audio = encoders
    net = network(fusion=fusion, image=image, text=text, audio=audio)
    data = graph.to_onnx(net, FACTS, task="classify", decoding=DECODING)
    session = Session(data, graph.ports(net, FACTS), threads=1)
    assert_alike(net, session, samples())
    logits, chances = session.run(graph.feed(session.inputs, samples().batch(np.arange(23))))
    np.testing.assert_allclose(chances, softmax(logits.astype(np.float64), 1.7), atol=1e-6)


@pytest.mark.parametrize("modality", schema.MODALITIES)
def test_a_single_modality_needs_no_other(modality):
    net = network(modalities=[modality])
    data = graph.to_onnx(net, FACTS, task="classify", decoding=DECODING)
    session = Session(data, graph.ports(net, FACTS), threads=1)
    assert {port.name.split("_")[0] for port in session.inputs} == {modality}
    some = samples()
    only = batches.Dataset(some.ids, some.target, {modality: some.columns[modality]}, {})
    assert_alike(net, session, only, [modality, ""])


def test_pictures_of_other_sides():
    facts = {**FACTS, "image": {"shape": [22, 22, 3]}}
    for image in ("cnn", "resnet"):
        net = network(image=image, fusion="attention")
        data = graph.to_onnx(net, facts, task="classify", decoding=DECODING)
        assert_alike(net, Session(data, graph.ports(net, facts), threads=1), samples(facts=facts))


def test_what_stands_in_the_place_of_the_absent_never_counts():
    net = network(fusion="attention")
    session = Session(
        graph.to_onnx(net, FACTS, task="classify", decoding=DECODING), graph.ports(net, FACTS), threads=1
    )
    batch = samples().batch(np.arange(23))
    arrays = graph.feed(session.inputs, batch)
    wanted = session.run(arrays)[0]
    for m in schema.MODALITIES:
        arrays[m][~arrays[f"{m}_present"]] = 7
    np.testing.assert_array_equal(session.run(arrays)[0], wanted)
    for m in schema.MODALITIES:  # and what is there does
        changed = {**arrays, f"{m}_present": np.zeros(23, np.bool_)}
        differs = (session.run(changed)[0] != wanted).any(1)
        np.testing.assert_array_equal(differs, arrays[f"{m}_present"])


def test_the_same_network_gives_the_same_bytes():
    one, other = (graph.to_onnx(network(), FACTS, task="classify", decoding=DECODING) for _ in range(2))
    assert one == other


def test_eight_bits_are_close_and_smaller():
    net = network(fusion="attention", text="transformer")
    data = graph.to_onnx(net, FACTS, task="classify", decoding=DECODING)
    small = in_8_bits(data)
    assert len(small) < 0.9 * len(data)
    kept = in_8_bits(data, convolutions=False)
    assert len(small) < 0.8 * len(kept) and len(kept) < 0.98 * len(data)
    ports, some = graph.ports(net, FACTS), samples()
    before, after = (
        Session(one, ports, threads=1).logits(some, ["audio+image+text"], batch_size=9)["audio+image+text"]
        for one in (data, small)
    )
    off = abs(before - after).max() / abs(before).max()
    assert 1e-6 < off < 0.1


def test_a_backbone_that_was_trained_is_in_the_file():
    nets = {"image": (tiny_frozen.VIT, 16), "text": (tiny_weights.TEXT, 0)}
    for m, (blueprint, side) in nets.items():
        facts = {**FACTS, "image": {"shape": [side, side, 3]}}
        net = network(modalities=[m], backbones={m: blueprint}, **{m: "pretrained"})
        data = graph.to_onnx(net, facts, task="classify", decoding=DECODING)
        some = samples(facts=facts if side else FACTS)
        only = batches.Dataset(some.ids, some.target, {m: some.columns[m]}, {})
        assert_alike(net, Session(data, graph.ports(net, facts), threads=1), only, [m, ""])


@pytest.mark.parametrize("name", ["test_resnet", "test_vit", "test_mambaout"])
def test_a_network_of_timm_is_in_the_file_trained_or_frozen(tmp_path, monkeypatch, name):
    tiny_families.timm(tmp_path / "w", name, **({"img_size": 16} if name == "test_vit" else {}))
    made = tiny_weights.load("image", "w", tmp_path).made
    facts = {"image": {"shape": [16, 16, 3]}}
    net = network(modalities=["image"], image="pretrained", backbones={"image": made}, fusion="attention")
    data = graph.to_onnx(net, facts, task="classify", decoding=DECODING)
    some = samples(facts={**FACTS, **facts})
    only = batches.Dataset(some.ids, some.target, {"image": some.columns["image"]}, {})
    assert_alike(net, Session(data, graph.ports(net, facts), threads=1), only, ["image", ""])
    monkeypatch.setitem(tiny_frozen.BACKBONES, "image", made)
    tiny_frozen.write(tmp_path / "b", ("image",))
    told = export.export(load(tmp_path / "b", device="cpu"), tmp_path / "onnx", Asked(threads=1))
    assert told["compared"]["largest_difference"] < 1e-5 and told["compared"]["agreement"] == 1


@pytest.mark.parametrize("task", ["classify", "answer"])
def test_a_frozen_backbone_is_in_the_file_but_that_of_sound(tmp_path, task):
    tiny_frozen.write(tmp_path / "b", task=task)
    told = export.export(load(tmp_path / "b", device="cpu"), tmp_path / "onnx", Asked(threads=1))
    ports = {port["name"]: (port["dtype"], port["shape"]) for port in told["inputs"]}
    assert ports["audio"] == ("float32", ("batch", 16)) and "audio_length" not in ports
    assert ports["image"] == ("uint8", ("batch", 16, 16, 3))
    assert ports["text"] == ("int64", ("batch", "tokens"))
    assert told["compared"]["largest_difference"] < 1e-5 and told["compared"]["agreement"] == 1
    assert (
        told["bytes"]["file"]
        > told["bytes"]["bundle"]
        > 4
        * sum(
            weight.numel()
            for net in load(tmp_path / "b").bundle.backbones.values()
            for name, weight in net.state_dict().items()
            if net.modality != "audio"
        )
    )


@pytest.mark.parametrize("audio", ["cnn", "crnn"])
def test_a_recording_is_heard_step_by_step_and_nothing_else_is_read(audio):
    net = network(task="transcribe", modalities=["audio", "text"], text="words", audio=audio, classes=7)
    inputs = graph.ports(net, FACTS)
    assert [port.name for port in inputs] == ["audio", "audio_length", "audio_present"]
    session = Session(graph.to_onnx(net, FACTS, task="transcribe", decoding=DECODING), inputs, threads=1)
    some = samples()
    some = batches.Dataset(some.ids, some.target, {m: some.columns[m] for m in net.modalities}, {})
    wanted = evaluate.logits(net, some, ["audio", "audio+text"], batch_size=len(some))
    here = some.columns["audio"].lengths > 0
    assert np.isnan(wanted["audio"][~here]).all() and not np.isnan(wanted["audio"][here, 0]).any()
    for size in (1, 7, len(some)):
        for subset, of in session.logits(some, list(wanted), batch_size=size).items():
            np.testing.assert_allclose(of, wanted[subset], atol=2e-5 * np.nanmax(abs(wanted[subset])), rtol=0)
    batch = some.batch(np.arange(len(some)))
    logits, chances, steps = session.run(graph.feed(inputs, batch))
    np.testing.assert_array_equal(steps, (~np.isnan(wanted["audio"][:, :, 0])).sum(1))
    assert steps.max() > 10 and steps.min() == 0
    np.testing.assert_allclose(chances, np.log(softmax(logits.astype(np.float64))), atol=1e-4)


@pytest.mark.parametrize(("fusion", "encoders"), [*zip(JOINED, ENCODERS * 2, strict=True)])
def test_a_writer_is_two_graphs_that_say_what_it_says(fusion, encoders):
    image, text, audio = encoders
    design = {"tokens": 5, "heads": 2}
    net = network(task="answer", classes=9, writer=design, fusion=fusion, image=image, text=text, audio=audio)
    inputs, some = graph.ports(net, FACTS), samples()
    first = Session(graph.to_onnx(net, FACTS, task="answer", decoding=DECODING), inputs, threads=1)
    second = Session(decoder_graph.to_onnx(net), decoder_graph.inputs(net), threads=1)
    rng = np.random.default_rng(0)
    for rows, written in (([0], 1), (range(7), 4), (range(23), 6)):
        batch = some.batch(np.array(rows))
        tokens = torch.from_numpy(rng.integers(0, 10, (len(rows), written)))
        with torch.no_grad():
            memory, counts = net.memory(net.encode(batch), batch.present)
            wanted = next_log_probs(net.head.decoder(memory, counts, tokens)).numpy()
        found, mask = first.run(graph.feed(inputs, batch))
        np.testing.assert_array_equal(mask.sum(1), counts.sum(1))  # steps of the absent are more, or fewer
        scale = max(1, abs(memory).max())
        np.testing.assert_allclose(found[mask], memory[counts], atol=2e-5 * scale, rtol=0)
        before = np.concatenate([np.full((len(rows), 1), START), tokens[:, :-1]], 1)
        [chances] = second.run({"memory": found, "memory_counts": mask, "tokens": before})
        assert (chances[:, :, START] == -np.inf).all()
        rest = np.arange(10) != START
        np.testing.assert_allclose(chances[..., rest], wanted[..., rest], atol=1e-4, rtol=0)


def test_what_no_graph_can_say_is_refused_by_name():
    with pytest.raises(InvalidError, match=r"export-unsupported.*trained to dance"):
        graph.outputs(network(), "dance")

    class Odd(Average):
        def forward(self, opinions, weight):
            return torch.linalg.svdvals(super().forward(opinions, weight)[:, None]).expand(-1, 3)

    net = network(fusion="average")
    net.fusion = Odd()
    with pytest.raises(InvalidError, match=r"export-unsupported.*image ImageCNN.*fusion Odd"):
        graph.to_onnx(net, FACTS, task="classify", decoding=DECODING)


EXPORTED = sorted(tiny_bundle.TASKS)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """{task: a workspace whose targets are what its model says of the samples}; their samples."""
    found = {}
    for task in EXPORTED:
        root = tmp_path_factory.mktemp(task)
        samples_of = tiny_bundle.write(root, task=task)
        predictor = load(root / paths.BUNDLE, device="cpu")
        cells = dict.fromkeys(samples_of, "nothing")
        for name, sample in samples_of.items():
            if not predictor.bundle.task.needs <= sample.keys():
                continue
            said = predictor.bundle.task.cells(predictor.predict(**sample)).get("prediction")
            cells[name] = said if said is None or isinstance(said, str) else repr(said)
        rows = test_trial.sample_rows(root, samples_of, cells)
        tables.write_rows(root / paths.SAMPLES, rows, schema.SAMPLES)
        splits = tables.read_rows(root / paths.SPLITS, schema.SPLIT)
        tables.write_rows(
            root / paths.SPLITS, [row | {"target": cells[row["id"]]} for row in splits], schema.SPLIT
        )
        kind = predictor.bundle.task.kind
        encoders = ", image: none, text: words" if task == "transcribe" else ""
        (root / paths.PARAMS).write_text(f"data: {{target: {kind}}}\nmodel: {{task: {task}{encoders}}}\n")
        found[task] = root, samples_of
    return found


def call(*arguments, status=0):
    result = CliRunner().invoke(app, ["export", "--threads", "1", *arguments])
    assert result.exit_code == status, result.output
    return result.output


@pytest.mark.parametrize("task", EXPORTED)
def test_the_command_writes_a_file_with_what_it_costs(made, tmp_path, monkeypatch, task):
    root, samples_of = made[task]
    monkeypatch.chdir(root)
    splits = tables.read_rows(paths.SPLITS, schema.SPLIT)
    needs = load(paths.BUNDLE, device="cpu").bundle.task.needs
    count = sum(row["split"] == "test" and needs <= samples_of[row["id"]].keys() for row in splits)
    for kind in ("onnx", "int8"):
        told = json.loads(call("--format", kind, "--into", str(tmp_path / kind), "--json"))
        assert told == json.loads((tmp_path / kind / export.TOLD).read_bytes())
        assert told["sha256"] == export.files.sha256((tmp_path / kind / exported.MODEL).read_bytes())
        graphs = sorted((tmp_path / kind).glob("*.onnx"))
        assert [one.name for one in graphs] == [exported.DECODER, exported.MODEL][task != "answer" :]
        assert told["bytes"]["file"] == sum(one.stat().st_size for one in graphs)
        assert told["compared"]["samples"] == told["figure"]["samples"] == count > 10
        assert told["compared"]["test_split"] and all(one["file"] > 0 for one in told["latency_ms"])
        figure, largest = told["figure"], told["compared"]["largest_difference"]
        assert "-0.0" not in [str(value) for value in figure.values()]
        perfect = {"classify": 1, "multilabel": 1, "regress": 0, "answer": 1, "transcribe": 0}.get(
            task, figure["bundle"]
        )
        assert figure["bundle"] == pytest.approx(perfect, abs=1e-4)
        assert figure["change"] == pytest.approx(figure["file"] - figure["bundle"], abs=2e-6)
        assert figure["change_low"] <= figure["change"] <= figure["change_high"]
        if kind == "onnx":
            tied = 0.02 if task == "retrieve" else 1e-3  # several samples have the same text
            assert largest < 1e-4 and abs(figure["change"]) < tied
            assert told["compared"]["agreement"] == (None if task in ("regress", "retrieve") else 1)
        else:
            assert largest > 1e-4 and told["bytes"]["file"] < 0.95 * told["bytes"]["float32"]
    predictor = load(paths.BUNDLE, device="cpu")
    assert told["labels"] == predictor.bundle.labels and told["bundle_sha256"] == predictor.bundle.digest


def test_a_file_that_loses_more_than_is_allowed_is_not_written(made, tmp_path, monkeypatch):
    monkeypatch.chdir(made["regress"][0])
    lost = json.loads(call("--format", "int8", "--into", str(tmp_path / "a"), "--json"))["figure"]
    assert lost["name"] == "mae" and lost["change"] > 0.01  # the higher, the worse
    few, many = lost["change"] - 0.005, lost["change"] + 0.005
    said = call("--format", "int8", "--into", str(tmp_path / "b"), "--max-loss", str(few), status=5)
    assert "export-worse" in said and not (tmp_path / "b").exists()
    call("--format", "int8", "--into", str(tmp_path / "b"), "--max-loss", str(many))
    assert (tmp_path / "b" / exported.MODEL).is_file()


def test_a_trace_that_took_a_size_for_a_constant_is_refused(made, tmp_path):
    class Sized(Average):
        def forward(self, opinions, weight):
            return super().forward(opinions, weight) * float(len(next(iter(opinions.values()))))

    predictor = load(made["classify"][0] / paths.BUNDLE, device="cpu")
    predictor.bundle.model.fusion = Sized()
    with pytest.raises(InvalidError, match="export-differs"):
        export.export(predictor, tmp_path / "onnx", Asked(threads=1))
    assert list(tmp_path.iterdir()) == []


def test_only_an_export_is_replaced(made, tmp_path, monkeypatch):
    monkeypatch.chdir(made["classify"][0])
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    assert "is no export" in call("--into", str(tmp_path / "mine"), status=2)
    assert (tmp_path / "mine" / "letter.txt").read_text() == "dear"
    assert "written: " in call("--into", str(tmp_path / "new"))
    assert "written: " in call("--into", str(tmp_path / "new"), "--format", "int8")
    assert json.loads((tmp_path / "new" / export.TOLD).read_bytes())["format"] == "int8"


def test_without_a_workspace_of_its_task_samples_are_generated(made, tmp_path, monkeypatch):
    root = made["classify"][0]
    monkeypatch.chdir(made["regress"][0])
    said = call(str(root / paths.BUNDLE), "--into", str(tmp_path / "a"))
    assert "on 48 generated samples" in said and "is not known" in said
    assert json.loads((tmp_path / "a" / export.TOLD).read_bytes())["figure"] is None
    said = call(str(root / paths.BUNDLE), "--into", str(tmp_path / "b"), "--max-loss", "1", status=2)
    assert "--max-loss needs the test split" in said


def test_without_onnx_runtime_it_says_what_to_install(made, tmp_path, monkeypatch):
    predictor = load(made["classify"][0] / paths.BUNDLE, device="cpu")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(NotFoundError, match=r"library-missing.*mmpipe\[onnx\]"):
        export.export(predictor, tmp_path / "onnx", Asked())


@pytest.fixture
def example(made, repository, tmp_path):
    """What the documentation's own code for a task prints; the task's predictor, a picture, a recording."""

    def run(task, words="a low cat"):
        root, samples_of = made[task]
        predictor = load(root / paths.BUNDLE, device="cpu")
        export.export(predictor, tmp_path / "models/onnx", Asked(threads=1))
        files = {}
        for m, name in (("image", "cat.png"), ("audio", "said.wav")):
            files[m] = next(one[m] for one in samples_of.values() if m in one)
            shutil.copy(files[m], tmp_path / name)
        code = documented.code(repository)
        said = documented.printed(tmp_path, code["first"], code[task].replace("a low cat", words))
        return said, predictor, files

    return run


def test_the_example_of_the_documentation_says_what_the_bundle_says(example):
    said, predictor, files = example("classify")
    wanted = predictor.predict(image=files["image"], text="a small cat")
    label, chance = said.rsplit(maxsplit=1)
    assert label == wanted.label and float(chance) == pytest.approx(wanted.confidence, abs=2e-4)


def test_the_example_of_a_transcript_says_what_the_bundle_says(example):
    said, predictor, files = example("transcribe")
    plain = predictor.predict(audio=files["audio"]).text
    assert len(plain) > 3 and said == f"{predictor.predict(audio=files['audio'], text='a low cat').text}\n"
    said, predictor, files = example("transcribe", words=plain[:-1])
    helped = predictor.predict(audio=files["audio"], text=plain[:-1]).text
    assert helped != plain and said == f"{helped}\n"


@pytest.mark.parametrize("search", ["greedy", "beam", "closed"])
def test_every_search_for_an_answer_asks_the_graph_as_it_asks_the_decoder(made, search):
    root, _ = made["answer"]
    predictor = load(root / paths.BUNDLE, device="cpu")
    head = predictor.bundle.model.head
    head.design = head.design.model_copy(update={"search": search, "closed": [[1], [3, 2], [4, 4, 5], [6]]})
    features = parity.generated(predictor).features
    session = Exported(predictor, exported.make(predictor), threads=1)
    everything = predictor.bundle.task.asks(predictor.modalities)
    [found] = session.outputs(features, everything, batch_size=7).values()
    read = exported.read(predictor, features, raw={})
    [wanted] = evaluate.logits(predictor.bundle.model, read, everything, batch_size=48).values()
    assert found.shape == wanted.shape == (48, 1 if search == "greedy" else 3, 7)
    np.testing.assert_array_equal(found[:, :, 1:], wanted[:, :, 1:])
    np.testing.assert_allclose(found[:, :, 0], wanted[:, :, 0], atol=1e-4)
    assert len(np.unique(wanted[:, :, 0])) > 10
