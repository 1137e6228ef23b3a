"""The Arrow schemas of every table that one stage writes and another reads."""

import pyarrow as pa

MODALITIES = ("audio", "image", "text")
"""In sorted order, as everywhere."""
SPLITS = ("train", "val", "test")

SAMPLES = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),  # manifest:row, for a person to find it
        pa.field("target", pa.string()),  # as `targets.canonical` has it; null where there is none
        pa.field("group", pa.string()),  # as declared by the manifest
        pa.field("split", pa.string()),  # as declared by the manifest
        pa.field("image_path", pa.string()),  # relative to the workspace root
        pa.field("image_sha256", pa.string()),
        pa.field("image_width", pa.int32()),
        pa.field("image_height", pa.int32()),
        pa.field("image_phash", pa.uint64()),  # perceptual hash, for near-duplicates
        pa.field("text", pa.string()),  # the text itself, as read
        pa.field("text_sha256", pa.string()),  # of its UTF-8 bytes
        pa.field("audio_path", pa.string()),
        pa.field("audio_sha256", pa.string()),
        pa.field("audio_duration_s", pa.float64()),
        pa.field("audio_sample_rate", pa.int32()),
        pa.field("warnings", pa.list_(pa.string()), nullable=False),  # e.g. "image: a PNG named .jpg"
    ]
)
"""Good samples, sorted by id; a missing modality is null in all of its columns."""

QUARANTINE = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("row", pa.int64(), nullable=False),  # 1 = the first row of data
        pa.field("modality", pa.string()),
        pa.field("code", pa.string(), nullable=False),
        pa.field("message", pa.string(), nullable=False),
        pa.field("sha256", pa.string()),  # of the file, where it could be read
    ]
)
"""Rows that were put aside, sorted by source and row; code `row-duplicate` marks the harmless ones."""

SPLIT = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("split", pa.string(), nullable=False),
        pa.field("group", pa.string(), nullable=False),  # the smallest id of its connected component
        pa.field("target", pa.string()),
    ]
)
"""One row a sample of `SAMPLES`, in the same order."""

FEATURE_KEYS = ("dtype", "shape")
"""Keys of a feature table's schema metadata: numpy dtype; JSON list, -1 = varies from row to row."""


def feature(value: pa.DataType) -> pa.Schema:
    """A feature table: `value` is fixed_size_binary for a fixed shape, large_binary for a varying one.

    One row a sample that has the modality, sorted by id; value is null where error is not.
    """
    return pa.schema(
        [
            pa.field("id", pa.string(), nullable=False),
            pa.field("value", value),
            pa.field("error", pa.string()),
        ]
    )


def predictions(labels: list[str]) -> pa.Schema:
    """One row a sample: target (null when unknown), prediction, confidence and a probability a label."""
    return pa.schema(
        [
            pa.field("id", pa.string(), nullable=False),
            pa.field("split", pa.string()),
            pa.field("target", pa.string()),
            pa.field("prediction", pa.string(), nullable=False),
            pa.field("confidence", pa.float32(), nullable=False),
            pa.field("modalities", pa.string(), nullable=False),  # those used, joined by "+"
            pa.field("probabilities", pa.list_(pa.float32(), len(labels)), nullable=False),
        ],
        metadata={"labels": "\n".join(labels)},
    )
