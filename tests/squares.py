"""Pictures of one square, of which a dialogue asks the colour or the size: the turn before says which."""

import json
from itertools import product
from pathlib import Path

import numpy as np
import tasked

from mmpipe import paths
from mmpipe.media import image

COLORS = {"red": (220, 30, 30), "light green": (90, 220, 90), "blue": (40, 40, 200)}
SIZES = {"small": 4, "very large": 11}
TOPICS = {"color": "its color", "size": "its size"}
QUESTION = "what is it?"


def write(root: Path, *, copies: int = 6, seed: int = 0) -> list[dict[str, object]]:
    """`data/raw/manifest.jsonl`: every colour × size × topic, `copies` times, of which two are held out."""
    raw, rng = root / paths.RAW, np.random.default_rng(seed)
    raw.mkdir(parents=True)
    rows = []
    for (color, rgb), (size, side), copy in product(COLORS.items(), SIZES.items(), range(copies)):
        name = f"{color}-{size}-{copy}.png".replace(" ", "-")
        (raw / name).write_bytes(image.encode(_picture(rgb, side, rng), ".png"))
        for topic, answer in TOPICS.items():
            row = {"id": f"{name}-{topic}", "image": name, "group": name, "text": QUESTION}
            row |= {"history": [["what do we talk about?", answer]]}
            row |= {"answer": {"color": color, "size": size}[topic]}
            rows.append(row | {"split": {0: "val", 1: "test"}.get(copy, "train")})
    (raw / "manifest.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return rows


def params(root: Path, **decoder: object) -> None:
    """A `params.yaml` with which these are learnt by heart; `decoder`: of that section."""
    still = ("image_flip", "image_crop", "image_rotate", "image_color", "image_hue", "token_dropout")
    columns = {"target": "answer", "history": "history", "audio": None, "split": "split", "group": "group"}
    tasked.params(
        root,
        data={"manifests": ["data/raw/manifest.jsonl"], "target": "text", "columns": columns},
        split={"near_duplicate_bits": -1, "group_identical_text": False},
        image={"size": 16},
        text={"vocab_size": 400, "max_tokens": 48, "turns": 1},
        model={
            **{"task": "answer", "audio": "none", "dim": 32, "dropout": 0.0, "output": {"units": "bpe"}},
            "decoder": {"longest": 8, "layers": 1, "search": "beam", "width": 3} | decoder,
        },
        augment=dict.fromkeys(still, 0.0),
        train={"epochs": 50, "lr": 0.005, "ema": 0.9, "modality_dropout": 0.0, "patience": None},
    )


def _picture(rgb: tuple[int, int, int], side: int, rng: np.random.Generator) -> np.ndarray:
    pixels = np.full((16, 16, 3), 255, np.uint8)
    top, left = rng.integers(0, 16 - side, 2)
    pixels[top : top + side, left : left + side] = np.clip(np.array(rgb) + rng.integers(-15, 16, 3), 0, 255)
    return pixels
