"""Which values of `params.yaml` make no sense together: a task, its targets, its loss, its metrics."""

from collections.abc import Iterator, Mapping
from typing import Any

KINDS = {"classify": "label", "multilabel": "labels", "regress": "number", "retrieve": "none"}
"""Task → what `data.target` must be."""
METRICS = {
    "classify": ("accuracy", "macro_f1", "nll"),
    "multilabel": ("micro_f1", "macro_f1", "subset_accuracy"),
    "regress": ("mae", "rmse", "r2"),
    "retrieve": ("mean_recall", "recall_at_1", "recall_at_5", "recall_at_10"),
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
ALLOWED: dict[str, dict[tuple[str, str], tuple[Any, ...]]] = {
    "classify": NO_NUMBER,
    "multilabel": NO_NUMBER | NO_RARE | {("train", "class_weights"): ("none", "inverse")},
    "regress": NO_CLASSES,
    "retrieve": NO_CLASSES
    | NO_NUMBER
    | {
        ("train", "auxiliary"): (0.0,),
        ("model", "fusion"): ("concat",),
        ("objective", "contrastive"): (0.0,),
        ("objective", "weights"): ("fixed",),
    },
}
"""Task → the values that a key may have, where the file names it: all others ask for what there is not."""
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
    encoders = [m for m in ("audio", "image", "text") if params["model"][m] != "none"]
    if task == "retrieve" and len(encoders) < 2:
        yield ("model", "task"), f"model.task: retrieve needs two encoders, there is {encoders[0]} alone"
    yield from _of_losses(params, len(encoders))
    metric = params["gate"]["metric"]
    if metric != "auto" and metric not in METRICS[task]:
        others = ", ".join(("auto", *METRICS[task]))
        yield ("gate", "metric"), f"gate.metric: {metric} {with_task}, which has {others}"


def _of_losses(params: Mapping[str, Any], encoders: int) -> Iterator[tuple[Key, str]]:
    """Losses that have nothing to compare or to weigh, and corrections that come twice."""
    goal, loop = params["objective"], params["train"]
    if goal["contrastive"] and encoders < 2:
        yield ("objective", "contrastive"), "objective.contrastive needs two encoders, set it to 0"
    more = goal["contrastive"] or loop["auxiliary"] or params["model"]["fusion"] == "stacking"
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
    return f"{value:g}" if isinstance(value, float) else str(value)
