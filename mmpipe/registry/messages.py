"""The message of a tag: a sentence for people, then lines `Key: value` that are read again."""

import json
from collections.abc import Mapping
from typing import Any

from mmpipe.files import canonical_json

TEXTS = ("Bundle-SHA256", "Data-SHA256", "Version", "Action", "Signature")
"""Keys whose value stands there as it is; every other value is JSON on one line."""
VALUES = ("Metrics", "Gate", "Why")
VERDICTS = ("promote", "refuse", "none")
HEADLINES = {"accuracy": "accuracy", "micro_f1": "micro F1", "mae": "MAE", "mean_recall": "mean recall"}
"""The first figure of each task, and what people call it."""
SHOWN = (
    *(f"{name}{end}" for name in HEADLINES for end in ("", "_low", "_high")),
    *("macro_f1", "map", "rmse", "r2", "recall_at_1", "ece", "samples"),
)
"""The metrics that a version's tag records, as far as its task has them."""


def write(sentence: str, fields: Mapping[str, Any]) -> str:
    """The message; keys in the order given. Raises ValueError for NaN."""
    lines = [f"{key}: {value if key in TEXTS else _json(value)}" for key, value in fields.items()]
    return "\n".join([sentence, "", *lines, ""])


def read(message: str) -> tuple[str, dict[str, Any]]:
    """The sentence, and the fields of known keys; a value that cannot be read is left out."""
    sentence, _, rest = message.partition("\n")
    fields: dict[str, Any] = {}
    for line in rest.split("\n"):
        key, colon, text = line.partition(": ")
        if not colon:
            continue
        if key in TEXTS:
            fields[key] = text.strip()
        elif key in VALUES and (value := _checked(key, text)) is not None:
            fields[key] = value
    return sentence, fields


def chosen(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Of all metrics of a test split those that a tag records."""
    return {key: metrics[key] for key in SHOWN if _is_number(metrics.get(key))}


def told(metrics: Mapping[str, float]) -> str:
    """accuracy 0.606 [0.512, 0.688] on 132 test samples; empty without a headline."""
    name = next((name for name in HEADLINES if name in metrics), None)
    if name is None:
        return ""
    words = f"{HEADLINES[name]} {metrics[name]:.3f}"
    if {f"{name}_low", f"{name}_high"} <= metrics.keys():
        words += f" [{metrics[f'{name}_low']:.3f}, {metrics[f'{name}_high']:.3f}]"
    return words + (f" on {metrics['samples']:.0f} test samples" if "samples" in metrics else "")


def _json(value: Any) -> str:
    """On one line; what cannot be written as UTF-8 is replaced."""
    canonical = json.loads(canonical_json(value))
    return json.dumps(canonical, ensure_ascii=False).encode("utf-8", "replace").decode()


def _checked(key: str, text: str) -> Any:
    """The value if it is of its key's kind, else None: a tag's message is a stranger's text."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = text.strip()
    if key == "Why":
        return value if isinstance(value, str) else text.strip()
    if not isinstance(value, dict):
        return None
    if key == "Metrics":
        return {name: number for name, number in value.items() if _is_number(number)}
    verdict, reasons = value.get("verdict"), value.get("reasons", [])
    champion = value.get("champion")
    whole = isinstance(reasons, list) and all(isinstance(reason, str) for reason in reasons)
    if verdict not in VERDICTS or not whole or not isinstance(champion, str | None):
        return None
    return value


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < float("inf")
