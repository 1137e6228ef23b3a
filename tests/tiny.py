"""Small feature tables of a made problem that each modality can solve alone."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa

from mmpipe import paths, schema, tables, targets
from mmpipe.features import text

SIZE, N_MELS, VOCAB = 16, 8, 300
LABELS = ["bass", "tenor"]
CODING = targets.Coding("label", tuple(LABELS))


def feature_table(ids, arrays, shape, dtype, **facts):
    """Values as bytes; None = error."""
    fixed = -1 not in shape
    width = int(np.prod(shape)) * np.dtype(dtype).itemsize
    kind = pa.binary(width) if fixed else pa.large_binary()
    metadata = {"dtype": dtype, "shape": json.dumps(shape), **{k: json.dumps(v) for k, v in facts.items()}}
    values = [None if a is None else np.ascontiguousarray(a, dtype).tobytes() for a in arrays]
    errors = ["worker-died" if a is None else None for a in arrays]
    columns = [pa.array(ids), pa.array(values, kind), pa.array(errors, pa.string())]
    return pa.table(columns, schema.feature(kind)).replace_schema_metadata(metadata)


def sample(rng, label):
    """Image (16, 16, 3), log-mel (T, 8), ids (T,), all told apart by the label 0 or 1."""
    image = rng.integers(0, 90, (SIZE, SIZE, 3)) + 150 * label
    mel = rng.normal(2 * label - 1, 1, (int(rng.integers(12, 40)), N_MELS))
    ids = rng.integers(0, 40, int(rng.integers(2, 9))) + 40 * label
    return {"audio": mel, "image": image, "text": ids}


def write(root: Path, *, n=40, shard=17, missing=0.2, seed=0):
    """`data/` of a workspace: features in several shards, splits, tokenizer. What lies in it, by id."""
    rng = np.random.default_rng(seed)
    ids = [f"s{i:03d}" for i in range(n)]
    targets = [i % 2 for i in range(n)]
    truth = {i: sample(rng, t) for i, t in zip(ids, targets, strict=True)}
    for i in ids[2:]:
        for m in schema.MODALITIES:
            if len(truth[i]) > 1 and rng.random() < missing:
                del truth[i][m]
    layout = {
        "audio": ([-1, N_MELS], "float16"),
        "image": ([SIZE, SIZE, 3], "uint8"),
        "text": ([-1], "int32"),
    }
    for m, (shape, dtype) in layout.items():
        having = [i for i in ids if m in truth[i]]
        for number, start in enumerate(range(0, max(len(having), 1), shard)):
            part = having[start : start + shard]
            table = feature_table(part, [truth[i][m] for i in part], shape, dtype)
            tables.write(root / paths.features(m) / f"part-{number:05d}.parquet", table, compression="lz4")
    split_of = ["val" if i % 5 == 4 else "test" if i % 5 == 3 else "train" for i in range(n)]
    rows = [
        {"id": i, "split": s, "group": i, "target": LABELS[t]}
        for i, s, t in zip(ids, split_of, targets, strict=True)
    ]
    tables.write_rows(root / paths.SPLITS, rows, schema.SPLIT)
    return truth, dict(zip(ids, rows, strict=True))


def tokenizer(root: Path):
    """A real one, fitted on a few words."""
    (root / paths.TOKENIZER).write_text(text.fit(["one two three"] * 3, vocab_size=VOCAB, lowercase=True))
