"""Features → a model bundle, its curves and its validation metrics."""

import hashlib
from collections.abc import Sequence
from importlib import metadata
from typing import Any

from tokenizers import Tokenizer

from mmpipe import (
    __version__,
    batches,
    board,
    files,
    imbalance,
    paths,
    runtime,
    schema,
    tables,
    train,
    trees,
    validation,
)
from mmpipe.curves import Curves
from mmpipe.epochs import Epochs
from mmpipe.errors import InvalidError
from mmpipe.model import complexity
from mmpipe.model.checkpoint import load_bundle, save_bundle
from mmpipe.model.network import Network
from mmpipe.model.pretrained import Backbone
from mmpipe.params import Params, load
from mmpipe.resume import States, keep_newest
from mmpipe.schema import MODALITIES
from mmpipe.stages import backbones, pretrained
from mmpipe.stages.job import Data, Job
from mmpipe.stages.process import run
from mmpipe.targets import Coding
from mmpipe.tasks.task import Decoding, Writing
from mmpipe.tasks.task import load as load_task
from mmpipe.transcripts import words

LIBRARIES = ("numpy", "pyarrow", "safetensors", "tokenizers", "torch")
SHOWN = {"model", "augment", "objective", "train"}
"""Sections of params.yaml whose values TensorBoard compares between runs."""
DECODERS = {
    "opencv": ("opencv-python", "opencv-python-headless", "opencv-contrib-python"),
    "soundfile": ("soundfile",),
    "soxr": ("soxr",),
    "torchaudio": ("torchaudio",),
    "timm": ("timm",),
    "transformers": ("transformers",),
}
"""Name in the bundle → distributions, of which any is the same library."""


def main() -> None:
    """Train, calibrate, save; say what went in."""
    params = load(paths.PARAMS)
    on = params.train
    machine = runtime.select(precision=on.precision, threads=on.threads, deterministic=on.deterministic)
    task = load_task(params.model.task)
    text = params.model.output
    coding = batches.fit_coding(paths.SPLITS, task.kind, pieces=text.units, most=text.max_units)
    data = _data(coding, [m for m in MODALITIES if getattr(params.model, m) != "none"])
    architecture = _architecture(params, data[0], task.outputs(coding, dim=params.model.dim))
    provenance = _provenance(params, machine)
    key = files.sha256(files.canonical_json(provenance).encode())[:16]
    job = Job(params, architecture, machine, States(paths.CHECKPOINTS / key, key))
    network = job.network(data[0])
    facts = {m: data[0].facts[m] for m in network.modalities}
    frozen = backbones.frozen(params, facts)
    complexity.check(network, facts, on.budget.model_dump(), frozen)
    metrics, decoding = _learn(job, network, data, coding)
    metrics |= complexity.measure(network, facts, frozen) | _classes(params, data[0], coding)
    config = _config(params, decoding, data[0], provenance) | {"architecture": architecture}
    _save(network, config, metrics, frozen, decoding)
    _show(job, data[1], metrics)
    job.states.clear()
    print(f"train: {len(data[0])} train, {len(data[1])} val, {sum(d.dropped for d in data)} left out")  # noqa: T201


def _save(
    network: Network,
    config: dict[str, Any],
    metrics: dict[str, Any],
    frozen: dict[str, Backbone],
    decoding: Decoding,
) -> None:
    save_bundle(
        paths.TRAINED,
        network,
        config=config,
        architecture=config["architecture"],
        metrics=metrics,
        tokenizer=paths.TOKENIZER.read_text("utf-8") if "text" in network.modalities else None,
        backbones=frozen,
        arrays=decoding.arrays,
    )
    files.write_json(paths.METRICS / "train.json", metrics)


def _show(job: Job, val: batches.Dataset, metrics: dict[str, Any]) -> None:
    """Parameters, figures, and what the saved model says of samples, beside the curves."""
    rows = tables.read(paths.SPLITS, schema.SPLIT).to_pylist()
    board.show(
        paths.TENSORBOARD / job.states.key,
        load_bundle(paths.TRAINED, device=job.machine.device, for_tables=True),
        val,
        truths={row["id"]: row["target"] for row in rows},
        settings=trees.flat(job.params.model_dump(mode="json", include=SHOWN)),
        figures=metrics,
    )


def _data(coding: Coding, modalities: list[str]) -> Data:
    features = {m: paths.features(m) for m in modalities if paths.features(m).is_dir()}
    train_set, val_set = (
        batches.load(features, paths.SPLITS, name, coding=coding) for name in ("train", "val")
    )
    least = {"label": 2, "labels": 1}.get(coding.kind, 0)
    if len(train_set) < 2 or len(coding.labels) < least:
        what = (
            f"has {len(train_set)} train samples of {len(coding.labels)} classes; 2 of {least} are the least"
        )
        raise InvalidError("split-too-few", what, where=str(paths.SPLITS))
    if not train_set.modalities:
        what = f"has no train sample with {' or '.join(modalities)}, for which the model has encoders"
        fix = "set the encoder of a modality that the data have, under model in params.yaml"
        raise InvalidError("split-too-few", what, where=str(paths.SPLITS), fix=fix)
    return train_set, val_set


def _architecture(params: Params, data: batches.Dataset, outputs: int) -> dict[str, Any]:
    """Flat numbers and names: the arguments of `build_model`."""
    modalities = data.modalities
    architecture: dict[str, Any] = {
        "modalities": modalities,
        "classes": outputs,
        "task": params.model.task,
        "dim": params.model.dim,
        "dropout": params.model.dropout,
        "fusion": params.model.fusion,
        "image_flip": params.augment.image_flip > 0,
        **{m: pretrained.encoder(params, m) for m in modalities},
        "backbones": pretrained.blueprints(params, {m: data.facts[m] for m in modalities}),
    }
    if "audio" in modalities and architecture["audio"] in ("cnn", "crnn"):
        architecture["n_mels"] = data.facts["audio"]["shape"][-1]
    if "text" in modalities:
        architecture["vocab_size"] = Tokenizer.from_file(str(paths.TOKENIZER)).get_vocab_size()
    if load_task(params.model.task).writes:
        architecture["writer"] = _writer(params, data)
    own = {"lowrank": "rank", "attention": "heads"}.get(params.model.fusion)
    if own is not None:
        architecture[own] = getattr(params.model, own)
    return architecture


def _writer(params: Params, data: batches.Dataset) -> dict[str, Any]:
    """How answers are written: a `Design` in plain values, with the train split's answers if it is closed."""
    on = params.model.decoder
    found = {"tokens": on.longest, "layers": on.layers, "heads": on.heads, "search": on.search}
    if on.search == "greedy":
        return found
    answers = sorted({tuple(unit for unit in row if unit >= 0) for row in data.target.tolist()})
    some = [list(answer) for answer in answers if 0 < len(answer) <= on.longest]
    return found | {"width": on.width} | ({"closed": some} if on.search == "closed" else {})


def _learn(job: Job, network: Network, data: Data, coding: Coding) -> tuple[dict[str, Any], Decoding]:
    """Train `network`, and what joins its opinions where that is fitted apart; its metrics and decoding."""
    folds = [] if network.fusion.trained else job.folds(data[0], coding.kind)
    progress = _fit(job, network, data)
    fitted = {"stacking": job.stack(network, data, folds)} if folds else {}
    metrics, decoding = _validate(job, network, data, progress, coding)
    return {**metrics, **fitted}, decoding


def _fit(job: Job, network: Network, data: Data) -> train.Progress:
    """Train, and show how it goes."""
    live, key = paths.PRIVATE / "live", job.states.key
    for folder in (paths.CHECKPOINTS, live):
        keep_newest(folder, key)
    with (
        Curves(live / key, paths.TENSORBOARD / key) as curves,
        Epochs(job.params.train.epochs) as epochs,
    ):

        def on_epoch(row: train.Row) -> None:
            curves.log(row)
            epochs.show(row)

        progress = job.fit(network, data, job.states, on_epoch)
    curves.publish(paths.PLOTS / "train")
    return progress


def _validate(
    job: Job, network: Network, data: Data, progress: train.Progress, coding: Coding
) -> tuple[dict[str, Any], Decoding]:
    """Fit trust and what decoding needs on the validation split, in float32; what comes of it."""
    metrics: dict[str, Any] = {"best_epoch": progress.best_epoch, "epochs": progress.epoch}
    if facts := network.fusion.facts():
        metrics["fusion"] = facts
    machine, (train_set, val) = runtime.Runtime(network.device, runtime.FLOAT32), data
    if network.task.fuses:
        validation.fit_trust(network, val, machine, each=job.loss(network, train_set))
    held = validation.score(network, val, machine)
    if job.params.model.text == "words":
        held = held._replace(
            words=words.decode(val.columns["text"].arrays(), paths.TOKENIZER.read_text("utf-8"))
        )
    writing = Writing(**job.params.model.output.model_dump(exclude={"units", "max_units"}))
    decoding = network.task.fit(held, coding, writing)
    if coding.kind == "text":  # how much of it is learnt by heart
        known = validation.measure(network.task, validation.score(network, train_set, machine))
        metrics |= {name.replace("val_", "train_"): value for name, value in known.items()}
    if len(val) == 0:
        return metrics, decoding
    metrics |= validation.measure(network.task, held)
    if network.task.fuses and network.fusion.trusted:
        trust = network.trust.double().round(decimals=6).tolist()
        metrics["trust"] = dict(zip(network.modalities, trust, strict=True))
    return metrics, decoding


def _classes(params: Params, data: batches.Dataset, coding: Coding) -> dict[str, Any]:
    """`classes`, where samples have such: of each what the train split has, and what is done about that."""
    labels, weights = list(coding.labels), params.train.class_weights
    if coding.kind == "labels":
        return {"classes": imbalance.describe_labels(data.target, labels, class_weights=weights)}
    if coding.kind != "label":
        return {}
    rows = imbalance.describe(
        imbalance.count(data.target, len(labels)),
        labels,
        class_weights=weights,
        sampling=params.train.sampling,
        logit_adjustment=params.objective.logit_adjustment,
    )
    return {"classes": rows}


def _provenance(params: Params, machine: runtime.Runtime) -> dict[str, Any]:
    """Everything the weights are a function of."""
    sections = {"image", "audio", "text", "model", "augment", "objective", "train"}
    code = paths.code_fingerprint("train")
    return {
        "params": params.model_dump(mode="json", include=sections),
        "data_sha256": _data_digest(),
        "code_sha256": files.sha256_file(code) if code.is_file() else None,
        "libraries": {"mmpipe": __version__, **{name: metadata.version(name) for name in LIBRARIES}},
        "machine": machine.describe(),
        "weights": pretrained.identities(params, MODALITIES),
    }


def _data_digest() -> str:
    """sha256 over the hashes of every table the training reads."""
    inputs = [paths.SPLITS, *([paths.TOKENIZER] if paths.TOKENIZER.is_file() else [])]
    for modality in MODALITIES:
        if paths.features(modality).is_dir():
            inputs += tables.shards(paths.features(modality))
    lines = "".join(f"{files.sha256_file(path)}  {path.as_posix()}\n" for path in inputs)
    return hashlib.sha256(lines.encode()).hexdigest()


def _config(
    params: Params, decoding: Decoding, data: batches.Dataset, provenance: dict[str, Any]
) -> dict[str, Any]:
    return {
        **provenance,
        "libraries": provenance["libraries"] | _decoders(params, data.modalities),
        "task": params.model.task,
        "labels": decoding.labels,
        "temperature": decoding.temperature,
        "decoding": decoding.facts,
        "preprocessing": {m: pretrained.settings(m, getattr(params, m)) for m in data.modalities},
        "features": {m: data.facts[m].get("base", data.facts[m]) for m in data.modalities},
        "samples": {"train": len(data)},
    }


def _decoders(params: Params, modalities: Sequence[str]) -> dict[str, str]:
    """Versions of what made the features. They count by what they made: the key of the states has none."""
    resampler = "torchaudio" if params.audio.mode == "exact" else "soxr"
    used = {"image": ["opencv"], "audio": ["soundfile", resampler], "text": []}
    networks = {"image": ["timm", "transformers"]}
    used |= {
        m: [*used[m], *networks.get(m, ["transformers"])] for m in modalities if getattr(params, m).pretrained
    }
    names = [name for modality in modalities for name in used[modality]]
    found = {n: [d.version for one in DECODERS[n] for d in metadata.distributions(name=one)] for n in names}
    return {name: versions[0] for name, versions in found.items() if versions}


if __name__ == "__main__":
    run(main)
