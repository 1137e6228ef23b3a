import importlib
import inspect
import signal
from dataclasses import replace
from functools import cache, partial
from itertools import pairwise

import numpy as np
import pytest
import tiny
import torch

from mmpipe import augment, batches, objective, params, paths, runtime, schema, targets, train, validation
from mmpipe.errors import MmpipeError
from mmpipe.model.fusion import FUSIONS
from mmpipe.model.network import build_model
from mmpipe.resume import States
from mmpipe.stages import code
from mmpipe.stages.job import ELSEWHERE
from mmpipe.tasks.task import Writing, names
from mmpipe.transcripts import units

FEATURES = {m: paths.features(m) for m in schema.MODALITIES}
AUGMENTATION = augment.Settings(image_flip=0.5, image_crop=0.1, audio_time_mask=0.2, token_dropout=0.1)
GIVEN = params.Train(epochs=3, patience=10, batch_size=8, lr=3e-3, checkpoint_steps=2, ema=0.5)
SETTINGS = train.Settings(**GIVEN.model_dump(exclude=ELSEWHERE))


NEEDS_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
DEVICES = ["cpu", pytest.param("cuda", marks=NEEDS_GPU)]


class PowerCut(BaseException):
    pass


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("workspace")
    tiny.write(root, n=50)
    tiny.tokenizer(root)
    return root


@pytest.fixture
def data(folder, monkeypatch):
    monkeypatch.chdir(folder)
    return load()


def load():
    return tuple(
        batches.load(FEATURES, paths.SPLITS, split, coding=tiny.CODING) for split in ("train", "val")
    )


def fit(data, settings, states, *, precision="fp32", device=None, **more):
    """Trained weights and progress, from a fresh network; unless told, on the GPU if there is one."""
    machine = runtime.select(precision=precision, threads=1)
    if device is not None:
        machine = replace(machine, device=torch.device(device))
    runtime.seed_all(settings.seed)
    small = {"classes": 2, "dim": 8, "dropout": 0.2, "vocab_size": tiny.VOCAB, "n_mels": tiny.N_MELS}
    network = build_model(modalities=data[0].modalities, **{**small, **more})
    network.fit_statistics(data[0])
    rows = []
    progress = train.fit(
        network,
        data,
        settings,
        augmentation=AUGMENTATION,
        machine=machine,
        states=states,
        on_epoch=rows.append,
    )
    assert rows == progress.history
    return {name: value.clone() for name, value in network.state_dict().items()}, progress, network


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def cut_power(monkeypatch, at):
    """Let the process die in step number `at`, without a word."""
    step, count = train._Training._step, iter(range(10**6))

    def dying(self, rows):
        if next(count) == at:
            raise PowerCut
        step(self, rows)

    monkeypatch.setattr(train._Training, "_step", dying)


def test_the_same_arguments_give_the_same_bits_and_another_seed_others(data, whole, tmp_path):
    assert same(whole, fit(data, SETTINGS, States(tmp_path / "a", "k"))[0])
    assert not same(whole, fit(data, replace(SETTINGS, seed=1), States(tmp_path / "b", "k"))[0])


def test_it_learns_and_leaves_the_weights_of_the_best_epoch(data, tmp_path):
    _, progress, network = fit(data, replace(SETTINGS, epochs=6), States(tmp_path, "k"))
    assert progress.history[-1]["val_accuracy"] >= 0.9
    held = validation.score(network, data[1], runtime.select(precision="fp32", threads=1))
    found = validation.measure(network.task, held)
    assert found["val_loss"] == pytest.approx(progress.history[progress.best_epoch]["val_loss"], abs=1e-4)


@pytest.fixture(scope="module")
def unbroken(folder, tmp_path_factory):
    """The weights of an unbroken run, by device."""

    @cache
    def weights(device=None):
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(folder)
            return fit(load(), SETTINGS, States(tmp_path_factory.mktemp("whole"), "k"), device=device)[0]

    return weights


@pytest.fixture(scope="module")
def whole(unbroken):
    return unbroken()


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("at", [1, 7, 11])
def test_after_a_power_cut_anywhere_the_result_is_the_same_to_the_bit(
    data, unbroken, tmp_path, monkeypatch, at, device
):
    with monkeypatch.context() as patch:
        cut_power(patch, at)
        with pytest.raises(PowerCut):
            fit(data, SETTINGS, States(tmp_path / "cut", "k"), device=device)
    resumed, progress, _ = fit(data, SETTINGS, States(tmp_path / "cut", "k"), device=device)
    assert same(unbroken(device), resumed)
    assert len(progress.history) == SETTINGS.epochs


EVERYTHING = replace(
    SETTINGS,
    sampling="balanced",
    goal=objective.Settings(contrastive=0.2, weights="uncertainty", focal=1.0),
)


@pytest.mark.parametrize("fusion", ["concat", "attention", "stacking"])
def test_a_balanced_order_and_learned_weights_of_losses_go_on_in_mid_epoch_too(
    data, tmp_path, monkeypatch, fusion
):
    whole, wanted, _ = fit(data, EVERYTHING, States(tmp_path / "whole", "k"), fusion=fusion)
    with monkeypatch.context() as patch:
        cut_power(patch, 7)
        with pytest.raises(PowerCut):
            fit(data, EVERYTHING, States(tmp_path / "cut", "k"), fusion=fusion)
    _, progress = States(tmp_path / "cut", "k").load()
    assert (progress["epoch"], progress["step"]) == (1, 2)
    resumed, found, _ = fit(data, EVERYTHING, States(tmp_path / "cut", "k"), fusion=fusion)
    assert same(whole, resumed) and found.history == wanted.history
    weights = [[row[name] for row in found.history] for name in ("weight_audio", "weight_contrastive")]
    assert all(len(set(values)) == SETTINGS.epochs for values in weights)


@pytest.mark.parametrize("device", ["meta", *DEVICES])
def test_a_restored_optimiser_lies_where_its_weights_lie(device):
    """`meta` is a device without memory: also where there is no GPU, another device than the file's."""
    weights = torch.nn.Parameter(torch.empty(4, 2, 3, 3, device=device).to(memory_format=torch.channels_last))
    moment = train._like_fresh(torch.ones(4, 2, 3, 3), weights)
    assert (moment.device, moment.stride()) == (weights.device, weights.stride())
    step = train._like_fresh(torch.tensor(7.0), weights)
    assert (step.device, step.dtype, step.ndim) == (weights.device, torch.float32, 0)


def test_an_interrupt_lets_the_step_end_and_saves_it(data, whole, tmp_path, monkeypatch):
    step = train._Training._step

    def interrupted(self, rows):
        if (self.progress.epoch, self.progress.step) == (1, 2):
            signal.raise_signal(signal.SIGINT)
        step(self, rows)

    with monkeypatch.context() as patch:
        patch.setattr(train._Training, "_step", interrupted)
        with pytest.raises(KeyboardInterrupt):
            fit(data, SETTINGS, States(tmp_path, "k"))
    _, progress = States(tmp_path, "k").load()
    assert (progress["epoch"], progress["step"]) == (1, 3)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert same(whole, fit(data, SETTINGS, States(tmp_path, "k"))[0])


def test_damaged_and_foreign_states_are_passed_over_with_a_word(data, whole, tmp_path, monkeypatch, capsys):
    with monkeypatch.context() as patch:
        cut_power(patch, 11)
        with pytest.raises(PowerCut):
            fit(data, SETTINGS, States(tmp_path / "cut", "k"))
    older, newest = sorted((tmp_path / "cut").iterdir())
    content = newest.read_bytes()
    newest.write_bytes(content[: len(content) // 2])
    assert States(tmp_path / "cut", "k").load()[1]["epoch"] == 2
    assert f"{newest.name} is damaged: going back to the one before" in capsys.readouterr().err
    foreign = tmp_path / "foreign"
    States(foreign, "other run").save({"a": torch.zeros(1)}, {})
    for path in foreign.iterdir():
        path.rename(tmp_path / "cut" / path.name.replace("00000001", "00000099"))
    resumed, _, _ = fit(data, SETTINGS, States(tmp_path / "cut", "k"))
    assert "belongs to another run" in capsys.readouterr().err
    assert older.name not in {path.name for path in (tmp_path / "cut").iterdir()}
    assert same(whole, resumed)


def test_a_loss_that_is_not_finite_stops_at_once_and_keeps_the_last_good_state(data, tmp_path):
    states = States(tmp_path, "k")
    with pytest.raises(MmpipeError, match=r"train-not-finite.*epoch \d, step \d.*lower train\.lr") as caught:
        fit(data, replace(SETTINGS, lr=1e30, warmup_fraction=0.0, checkpoint_steps=1, epochs=30), states)
    assert str(tmp_path) in str(caught.value)
    tensors, _ = states.load()
    assert all(value.isfinite().all() for value in tensors.values())


def test_without_improvement_it_stops_after_patience_with_the_best_weights(data, tmp_path, monkeypatch):
    flat = dict.fromkeys(("val_accuracy", "val_loss", "val_loss_calibrated"), 0.5)
    monkeypatch.setattr(validation, "measure", lambda *_: flat)
    weights, progress, _ = fit(data, replace(SETTINGS, epochs=9, patience=2), States(tmp_path, "k"))
    assert (progress.best_epoch, progress.epoch) == (0, 3)
    newest = States(tmp_path, "k").load()[0]
    assert same(weights, train._under("best.", newest))
    assert not same(weights, train._under("model.", newest))


def test_class_weights_and_bf16_train_too(data, tmp_path):
    settings = replace(SETTINGS, epochs=6, class_weights="inverse")
    _, progress, network = fit(data, settings, States(tmp_path, "k"), precision="bf16")
    assert progress.history[-1]["val_accuracy"] >= 0.9
    assert all(value.dtype != torch.bfloat16 for value in network.state_dict().values())


def test_without_patience_all_epochs_are_done_and_the_last_weights_kept(data, tmp_path, monkeypatch):
    monkeypatch.setattr(validation, "measure", lambda *_: {"val_loss": 1.0, "val_loss_calibrated": 1.0})
    _, progress, _ = fit(data, replace(SETTINGS, patience=None), States(tmp_path, "k"))
    assert (progress.best_epoch, progress.epoch) == (SETTINGS.epochs - 1, SETTINGS.epochs)


def test_without_validation_samples_the_last_epoch_counts(data, tmp_path, monkeypatch, folder):
    empty = batches.load(FEATURES, paths.SPLITS, "nothing", coding=tiny.CODING)
    _, progress, _ = fit((data[0], empty), SETTINGS, States(tmp_path, "k"))
    assert progress.best_epoch == SETTINGS.epochs - 1


def test_trust_is_taken_from_a_modality_that_is_sure_and_wrong(data, tmp_path):
    _, _, network = fit(data, replace(SETTINGS, epochs=6), States(tmp_path, "k"))
    with torch.no_grad():
        network.head.single["audio"].weight.mul_(-40)
    machine = runtime.select(precision="fp32", threads=1)
    validation.fit_trust(network, data[1], machine, each=network.task.each)
    trust = dict(zip(network.modalities, network.trust.tolist(), strict=True))
    assert trust["audio"] < 0.3 < max(trust.values())
    assert (
        validation.measure(network.task, validation.score(network, data[1], machine))["val_accuracy"] >= 0.8
    )


@pytest.mark.parametrize("fusion", ["average", "weighted", "stacking"])
def test_opinions_are_joined_without_trust(data, tmp_path, fusion):
    _, _, network = fit(data, replace(SETTINGS, epochs=1), States(tmp_path, "k"), fusion=fusion)
    machine = runtime.select(precision="fp32", threads=1)
    validation.fit_trust(network, data[1], machine, each=network.task.each)
    assert network.trust.tolist() == [1, 1, 1]


@pytest.mark.parametrize("fusion", FUSIONS)
def test_every_fusion_learns(data, tmp_path, fusion):
    _, progress, _ = fit(data, replace(SETTINGS, epochs=6), States(tmp_path, "k"), fusion=fusion)
    assert progress.history[-1]["val_accuracy"] >= 0.9


def test_a_balanced_order_shows_the_rarer_class_as_often(data, tmp_path, monkeypatch):
    shown = []
    step = train._Training._step

    def watched(self, rows):
        shown.extend(self.targets[rows])
        step(self, rows)

    rare = data[0].take(np.flatnonzero(data[0].target.numpy() * np.arange(len(data[0])) % 3 == 0))
    monkeypatch.setattr(train._Training, "_step", watched)
    settings = replace(SETTINGS, epochs=1, sampling="balanced")
    fit((rare, data[1]), settings, States(tmp_path, "k"))
    assert len(shown) == len(rare)
    assert abs(2 * sum(shown) - len(shown)) <= 1
    assert abs(2 * int(rare.target.sum()) - len(rare)) > 5


def test_the_learning_rate_rises_to_its_peak_and_falls_to_zero():
    rates = [train.learning_rate(step, total=100, warmup=10, peak=2.0) for step in range(101)]
    assert rates[0] == pytest.approx(0.2) and rates[9] == rates[10] == 2.0
    assert rates[55] == pytest.approx(1.0) and rates[100] == pytest.approx(0.0)
    assert all(later <= earlier for earlier, later in pairwise(rates[10:]))


@NEEDS_GPU
def test_a_gpu_gives_the_same_bits_twice(data, tmp_path):
    first, progress, _ = fit(data, SETTINGS, States(tmp_path / "a", "k"), precision="auto")
    again, _, _ = fit(data, SETTINGS, States(tmp_path / "b", "k"), precision="auto")
    assert same(first, again) and progress.history[-1]["val_accuracy"] >= 0.9


WRITTEN = targets.Coding("text", units=units.Units((" ", "a")), texts=("a", "a a"))


def targeted(data, task):
    """The same samples with targets of a task, the width of its output, and their coding."""
    kinds = {
        "classify": (lambda labels: labels, 2, tiny.CODING),
        "multilabel": (lambda labels: torch.eye(2)[labels], 2, targets.Coding("labels", tuple(tiny.LABELS))),
        "regress": (lambda labels: 2.0 * labels.double() - 1, 1, targets.Coding("number")),
        "retrieve": (lambda labels: labels * 0 - 1, 8, targets.Coding("none")),
        **dict.fromkeys(
            ("answer", "transcribe"),
            (lambda labels: torch.stack([labels + 1, 2 - labels, labels * 0 - 1], 1), 3, WRITTEN),
        ),
    }
    change, width, coding = kinds[task]
    return tuple(replace(part, target=change(part.target)) for part in data), width, coding


@pytest.mark.parametrize("task", names())
def test_what_a_task_is_judged_by_has_no_part_in_its_training(data, tmp_path, monkeypatch, task):
    """The modules that the fingerprint of `train` leaves out: with all of them broken, the same bits."""
    data, width, coding = targeted(data, task)
    own = {"writer": {"tokens": 4, "layers": 1, "heads": 2}} if task == "answer" else {}
    once = partial(fit, data, replace(SETTINGS, epochs=1), task=task, classes=width, **own)
    whole = once(States(tmp_path / "a", "k"))[0]
    broken = 0
    for name in code.JUDGES["train"]:
        module = importlib.import_module(f"mmpipe.{name}")
        for key, value in vars(module).items():
            if inspect.isfunction(value) and value.__module__ == module.__name__:
                monkeypatch.setattr(module, key, lambda *_, key=key, **__: pytest.fail(f"{key} was called"))
                broken += 1
    assert broken > 40
    _, progress, network = once(States(tmp_path / "b", "k"))
    assert same(whole, network.state_dict())
    assert network.task.chooses in progress.history[0]
    machine = runtime.select(precision="fp32", threads=1)
    validation.fit_trust(network, data[1], machine, each=network.task.each)
    decoding = network.task.fit(validation.score(network, data[1], machine), coding, Writing())
    assert network.task.contradiction(decoding, outputs=width) == ""
    nobody = validation.score(network, batches.load(FEATURES, paths.SPLITS, "nothing"), machine)
    assert network.task.contradiction(network.task.fit(nobody, coding, Writing()), outputs=width) == ""


@pytest.mark.parametrize("task", ["multilabel", "regress"])
def test_every_task_that_has_a_truth_learns_it(data, tmp_path, task):
    data, width, _ = targeted(data, task)
    _, progress, network = fit(
        data,
        replace(SETTINGS, epochs=10, modality_dropout=0.0),
        States(tmp_path, "k"),
        task=task,
        classes=width,
    )
    figure = {"multilabel": "val_micro_f1", "regress": "val_r2"}[task]
    found = validation.measure(
        network.task, validation.score(network, data[1], runtime.select(precision="fp32", threads=1))
    )
    assert found[figure] == pytest.approx(progress.history[progress.best_epoch][figure], abs=1e-4)
    assert found[figure] > 0.7
