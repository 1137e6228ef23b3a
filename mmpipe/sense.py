"""Which values of `params.yaml` make no sense together: a task and its targets, an encoder and its input."""

from collections.abc import Iterator, Mapping
from typing import Any

from mmpipe.writing import Decoder, Output

KINDS = {
    "classify": "label",
    "multilabel": "labels",
    "regress": "number",
    "retrieve": "none",
    "transcribe": "text",
    "answer": "text",
}
"""Task → what `data.target` must be."""
METRICS = {
    "classify": ("accuracy", "macro_f1", "nll"),
    "multilabel": ("micro_f1", "macro_f1", "subset_accuracy"),
    "regress": ("mae", "rmse", "r2"),
    "retrieve": ("mean_recall", "recall_at_1", "recall_at_5", "recall_at_10"),
    "transcribe": ("wer", "cer"),
    "answer": ("exact_match", "token_f1", "bleu"),
}
"""Task → what `gate.metric` may be, besides auto."""
NO_RARE: dict[tuple[str, str], tuple[Any, ...]] = {
    ("train", "sampling"): ("natural",),
    ("objective", "focal"): (0.0,),
    ("objective", "logit_adjustment"): (0.0,),
}
NO_CLASSES: dict[tuple[str, str], tuple[Any, ...]] = NO_RARE | {
    ("train", "class_weights"): ("none",),
    ("train", "label_smoothing"): (0.0,),
}
NO_NUMBER: dict[tuple[str, str], tuple[Any, ...]] = {("train", "regression"): ("huber",)}
NOT_FUSED: dict[tuple[str, str], tuple[Any, ...]] = {
    ("train", "auxiliary"): (0.0,),
    ("model", "fusion"): ("concat",),
    ("objective", "contrastive"): (0.0,),
    ("objective", "weights"): ("fixed",),
}
ALLOWED: dict[str, dict[tuple[str, str], tuple[Any, ...]]] = {
    "classify": NO_NUMBER,
    "multilabel": NO_NUMBER | NO_RARE | {("train", "class_weights"): ("none", "inverse")},
    "regress": NO_CLASSES,
    "retrieve": NO_CLASSES | NO_NUMBER | NOT_FUSED,
    "transcribe": NO_CLASSES | NO_NUMBER | NOT_FUSED | {("train", "modality_dropout"): (0.0,)},
    "answer": NO_CLASSES | NO_NUMBER | {("train", "auxiliary"): (0.0,)},
}
"""Task → the values that a key may have, where the file names it: all others ask for what there is not."""
EXPLAINED = ("classify", "multilabel", "regress")
"""Tasks whose answer is one number of the network's."""
OPINIONS = ("average", "weighted", "stacking")
"""Fusions of each modality's own answer."""
UNCHANGED = {
    "mfcc": ("audio_gain", "audio_mel_mask"),
    "stft": ("audio_gain",),
    "wave": ("audio_gain", "audio_mel_mask"),
}
"""Kind of audio feature → the keys of `augment` that have no meaning for it. A default counts, too."""
ONE_VECTOR = "frozen weights are stored as one vector a sample"
Key = tuple[str, ...]


def contradictions(params: Mapping[str, Any], given: Mapping[str, Any]) -> Iterator[tuple[Key, str]]:
    """Key and words of each. `params`: all values, by section; `given`: those that the file itself has."""
    task, kind = params["model"]["task"], params["data"]["target"]
    with_task = f"makes no sense with model.task: {task}"
    if kind != KINDS[task]:
        yield ("data", "target"), f"data.target: {kind} {with_task}, set it to {KINDS[task]}"
    for (section, key), allowed in ALLOWED[task].items():
        value = (given.get(section) or {}).get(key, allowed[0])
        if value not in allowed:
            others = " or ".join(_shown(one) for one in allowed)
            yield (section, key), f"{section}.{key}: {_shown(value)} {with_task}, set it to {others}"
    if params["report"]["saliency"] and task not in EXPLAINED:
        yield ("report", "saliency"), f"report.saliency {with_task}, set it to 0"
    encoders = [m for m in ("audio", "image", "text") if params["model"][m] != "none"]
    if task == "retrieve" and len(encoders) < 2:
        yield ("model", "task"), f"model.task: retrieve needs two encoders, there is {encoders[0]} alone"
    yield from _of_texts(params)
    yield from _of_losses(params, len(encoders))
    metric = params["gate"]["metric"]
    if metric != "auto" and metric not in METRICS[task]:
        others = ", ".join(("auto", *METRICS[task]))
        yield ("gate", "metric"), f"gate.metric: {metric} {with_task}, which has {others}"
    yield from _of_inputs(params)
    yield from _of_sequences(params, encoders)
    yield from _of_answers(params["model"])
    yield from _of_dialogues(params)


def _of_dialogues(params: Mapping[str, Any]) -> Iterator[tuple[Key, str]]:
    """Earlier turns and how many of them are kept."""
    history, turns = params["data"]["columns"]["history"], params["text"]["turns"]
    if history is not None and turns is None and params["model"]["text"] != "none":
        words = "needs text.turns: without it a dialogue that is too long loses its end, the question"
        yield ("data", "columns", "history"), f"data.columns.history: {_shown(history)} {words}"
    if history is None and turns is not None:
        words = "has no earlier turns to keep: set data.columns.history, or text.turns to null"
        yield ("text", "turns"), f"text.turns: {turns} {words}"


def _of_answers(model: Mapping[str, Any]) -> Iterator[tuple[Key, str]]:
    """What a decoder writes has no mean, and it is decoded by its own keys, which no other task has."""
    if model["task"] != "answer":
        for key, usual in Decoder().model_dump().items():
            if (value := model["decoder"][key]) != usual:
                words = (
                    f"model.decoder.{key}: {_shown(value)} makes no sense with model.task: {model['task']}"
                )
                yield ("model", "decoder", key), f"{words}, which has no decoder, leave it out"
        return
    if model["fusion"] in OPINIONS:
        words = f"model.fusion: {model['fusion']} joins each modality's own answer, and answers in words"
        allowed = "concat, gated, attention or lowrank"
        yield ("model", "fusion"), f"{words} cannot be averaged: set it to {allowed}"
    if model["dim"] % model["decoder"]["heads"]:
        words = f"model.decoder.heads: {model['decoder']['heads']} does not divide model.dim, {model['dim']}"
        yield ("model", "decoder", "heads"), words
    for key, usual in Output().model_dump(exclude={"units", "max_units"}).items():
        if model["output"][key] != usual:
            words = f"model.output.{key}: means nothing to model.task: answer, which has model.decoder"
            yield ("model", "output", key), f"{words}: set it to {_shown(usual)}"


def _of_texts(params: Mapping[str, Any]) -> Iterator[tuple[Key, str]]:
    """What is heard, what is expected, and settings of texts where none are predicted."""
    model = params["model"]
    task, with_task = model["task"], f"makes no sense with model.task: {model['task']}"
    allowed = {"audio": ("cnn", "crnn", "pretrained"), "image": ("none",), "text": ("none", "words")}
    for modality, names in allowed.items() if task == "transcribe" else ():
        if model[modality] not in names:
            words = f"model.{modality}: {model[modality]} {with_task}, set it to {' or '.join(names)}"
            yield ("model", modality), words
    if task == "transcribe" and model["audio"] == "pretrained" and params["audio"]["frozen"]:
        words = f"audio.frozen: true {with_task}, which hears step by step: {ONE_VECTOR}"
        yield ("audio", "frozen"), f"{words}, set it to false"
    if model["text"] == "words" and task != "transcribe":
        yield ("model", "text"), f"model.text: words {with_task}, which does not decode with them"
    usual = Output().model_dump()
    for key, value in model["output"].items():
        if KINDS[task] != "text" and value != usual[key]:
            what = f"model.output.{key}: {_shown(value)} {with_task}, which predicts no text"
            yield ("model", "output", key), f"{what}, leave it out"
    if model["output"]["decoding"] == "greedy" and model["text"] == "words":
        what = "model.text: words is of no use to model.output.decoding: greedy"
        yield ("model", "text"), f"{what}, set one of them to none or beam"


def _of_sequences(params: Mapping[str, Any], encoders: list[str]) -> Iterator[tuple[Key, str]]:
    """Attention over single vectors has nothing to choose between."""
    frozen = [m for m in encoders if params["model"][m] == "pretrained" and params[m]["frozen"]]
    if params["model"]["fusion"] == "attention" and frozen == encoders:
        words = f"model.fusion: attention needs the steps of a modality: {ONE_VECTOR}, set it to concat"
        thawed = " or ".join(f"{m}.frozen" for m in frozen)
        yield ("model", "fusion"), f"{words} or {thawed} to false"


def _of_inputs(params: Mapping[str, Any]) -> Iterator[tuple[Key, str]]:
    """Encoders and what they read."""
    for modality in ("image", "text", "audio"):
        encoder, source = params["model"][modality], params[modality]["pretrained"]
        if encoder == "pretrained" and source is None:
            words = f"model.{modality}: pretrained needs weights, set {modality}.pretrained"
            yield ("model", modality), words
        if encoder not in ("pretrained", "none") and source is not None:
            words = f"{modality}.pretrained: is of no use to the encoder {encoder}, set it to null"
            yield (modality, "pretrained"), f"{words} or model.{modality} to pretrained"
    if params["text"]["pretrained"] is not None and params["text"]["max_tokens"] < 3:
        yield ("text", "max_tokens"), "text.max_tokens: must be 3 at least, the marks around a text are two"
    yield from _of_changes(params)


def _of_changes(params: Mapping[str, Any]) -> Iterator[tuple[Key, str]]:
    """Random changes that mean nothing to what an encoder of sound reads."""
    kind, read = params["audio"]["kind"], f"audio.kind is {params['audio']['kind']}"
    if params["model"]["audio"] == "pretrained":
        kind = "frozen" if params["audio"]["frozen"] else "wave"
        read = "audio.frozen is false, as the weights read the wave"
    for key in UNCHANGED.get(kind, ()) if params["model"]["audio"] != "none" else ():
        if params["augment"][key]:
            words = f"augment.{key}: must be 0 where {read}, for which it means nothing"
            yield ("augment", key), words


def _of_losses(params: Mapping[str, Any], encoders: int) -> Iterator[tuple[Key, str]]:
    """Losses that have nothing to compare or to weigh, and corrections that come twice."""
    goal, loop = params["objective"], params["train"]
    if goal["contrastive"] and encoders < 2:
        yield ("objective", "contrastive"), "objective.contrastive needs two encoders, set it to 0"
    own = loop["auxiliary"] and params["model"]["task"] != "answer"  # whose modalities have no answer each
    more = goal["contrastive"] or own or params["model"]["fusion"] == "stacking"
    if goal["weights"] == "uncertainty" and (encoders < 2 or not more):
        what = "objective.weights: uncertainty has but one loss to weigh"
        yield (
            ("objective", "weights"),
            f"{what}: set it to fixed, or train.auxiliary or objective.contrastive above 0",
        )
    balances = {
        ("train", "class_weights"): loop["class_weights"] != "none",
        ("train", "sampling"): loop["sampling"] == "balanced",
        ("objective", "logit_adjustment"): goal["logit_adjustment"] > 0,
    }
    chosen = [key for key, on in balances.items() if on]
    if len(chosen) > 1:
        told = " and ".join(f"{'.'.join(key)}: {_shown(params[key[0]][key[1]])}" for key in chosen)
        yield chosen[-1], f"{told} correct the same twice, keep one of them"


def _shown(value: Any) -> str:
    if value is None:
        return "null"
    return f"{value:g}" if isinstance(value, float) else str(value)
