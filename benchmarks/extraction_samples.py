"""The samples to extract: those of a workspace, or made ones."""

from pathlib import Path


def prepare(folder, options):
    """A folder with data/samples.parquet, most.parquet (99 of 100 of them) and data/tokenizer.json."""
    import pyarrow.parquet as pq

    from mmpipe import schema, tables
    from mmpipe.features import text

    if options.workspace:
        source = options.workspace.resolve()
        (folder / "data").mkdir()
        samples = tables.read(source / "data/samples.parquet", schema.SAMPLES)
        for entry in sorted((source / "data").iterdir()):
            if entry.name in ("corpus", "raw"):
                (folder / "data" / entry.name).symlink_to(entry)
    else:
        samples = make(folder, options.samples)
    for modality in schema.MODALITIES:
        samples = samples.filter(samples[f"{modality}_sha256"].is_valid())
    tables.write(folder / "data/samples.parquet", samples)
    pq.write_table(samples.filter([row % 100 != 50 for row in range(len(samples))]), folder / "most.parquet")
    tokenizer = text.fit(samples["text"].drop_null().to_pylist(), vocab_size=1_000, lowercase=True)
    (folder / "data/tokenizer.json").write_text(tokenizer)
    return folder


def make(folder, count):
    """Photos (smooth noise, JPEG quality 90), two seconds of sound, captions."""
    import cv2
    import numpy as np
    import pyarrow as pa
    import soundfile

    from mmpipe import files, schema

    random = np.random.default_rng(0)
    words = [bytes(random.integers(97, 123, random.integers(2, 9), np.uint8)).decode() for _ in range(3_000)]
    (folder / "data/raw").mkdir(parents=True)
    rows = []
    for number in range(count):
        coarse = random.integers(0, 256, (48, 64, 3), np.uint8)
        pixels = cv2.resize(coarse, (500, 375), interpolation=cv2.INTER_CUBIC)
        pixels = cv2.add(pixels, random.integers(0, 24, pixels.shape, np.uint8))
        cv2.imwrite(picture := f"{folder}/data/raw/{number}.jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 90])
        soundfile.write(sound := f"{folder}/data/raw/{number}.wav", random.normal(0, 0.1, 88_200), 44_100)
        caption = " ".join(random.choice(words, 12))
        row = {
            "id": f"{number:06}",
            "source": f"made:{number}",
            "target": "none",
            "text": caption,
            "warnings": [],
        }
        row["text_sha256"] = files.sha256(caption.encode())
        for modality, path in (("image", picture), ("audio", sound)):
            row[f"{modality}_path"] = str(Path(path).relative_to(folder))
            row[f"{modality}_sha256"] = files.sha256_file(Path(path))
        rows.append(row)
    return pa.Table.from_pylist(rows, schema=schema.SAMPLES)
