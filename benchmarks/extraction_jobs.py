"""The jobs that are compared, each a process: `python extraction_jobs.py JOB` in a prepared folder."""

import json
import subprocess
import sys
import time
from pathlib import Path

IMAGE = {"size": 64, "mode": "fast"}
AUDIO = {
    "sample_rate": 16_000,
    "n_fft": 400,
    "hop_length": 160,
    "n_mels": 64,
    "max_duration_s": 10.0,
    "mode": "fast",
}
MAX_TOKENS = 64


def ours(samples="data/samples.parquet"):
    """The three extract stages, a process each."""
    script = (
        "import sys; from pathlib import Path; from mmpipe import schema, tables;"
        "from mmpipe.features.extract import extract; from mmpipe.features.extractor import Extractor;"
        f"settings = {{'image': {IMAGE!r}, 'audio': {AUDIO!r}, 'text': {{'max_tokens': {MAX_TOKENS},"
        "'tokenizer_json': Path('data/tokenizer.json').read_text()}}; m = sys.argv[1];"
        f"counts = extract(tables.read(Path({samples!r}), schema.SAMPLES), Extractor(m, settings[m]),"
        "out=Path('out') / m, store=Path('store')); print(counts, file=sys.stderr); counts.check()"
    )
    for modality in ("text", "image", "audio"):
        subprocess.run([sys.executable, "-c", script, modality], check=True)


def hf(load_audio):
    """What a competent user of `datasets` writes: one map over paths, binary columns, one Parquet file."""
    import cv2
    import datasets
    import numpy as np
    import pyarrow.parquet as pq
    from tokenizers import Tokenizer

    cv2.setNumThreads(1)
    tokenizer = Tokenizer.from_file("data/tokenizer.json")
    tokenizer.enable_truncation(MAX_TOKENS)
    size = IMAGE["size"]

    def features(row):
        pixels = cv2.cvtColor(cv2.imread(row["image_path"], cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
        scale = size / max(pixels.shape[:2])
        height, width = (max(1, round(side * scale)) for side in pixels.shape[:2])
        square = np.full((size, size, 3), 255, np.uint8)
        top, left = (size - height) // 2, (size - width) // 2
        square[top : top + height, left : left + width] = cv2.resize(
            pixels, (width, height), interpolation=cv2.INTER_AREA
        )
        mel = load_audio(row["audio_path"])
        ids = np.array(tokenizer.encode(row["text"]).ids, np.int32)
        return {"image": square.tobytes(), "audio": mel.tobytes(), "tokens": ids.tobytes()}

    table = pq.read_table("data/samples.parquet", columns=["id", "image_path", "audio_path", "text"])
    data = datasets.Dataset.from_dict(table.to_pydict())
    kinds = {
        "id": datasets.Value("string"),
        **{n: datasets.Value("binary") for n in ("image", "audio", "tokens")},
    }
    data = data.map(
        features,
        num_proc=2,
        remove_columns=["image_path", "audio_path", "text"],
        features=datasets.Features(kinds),
    )
    data.to_parquet("hf.parquet")


def hf_torchaudio():
    """soundfile, then torchaudio transforms that are built once."""
    from functools import cache

    import numpy as np
    import soundfile
    import torch
    from torchaudio.transforms import MelSpectrogram, Resample

    torch.set_num_threads(1)
    resampler = cache(lambda rate: Resample(rate, AUDIO["sample_rate"]))
    to_mel = MelSpectrogram(**{key: AUDIO[key] for key in ("sample_rate", "n_fft", "hop_length", "n_mels")})

    def load(path):
        samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
        wave = resampler(rate)(torch.from_numpy(samples.mean(axis=1)))
        return torch.log(to_mel(wave) + 1e-6).numpy().T.astype(np.float16)

    hf(load)


def hf_librosa():
    """librosa.load with its default resampler, librosa's melspectrogram."""
    import librosa
    import numpy as np

    names = {key: AUDIO[key] for key in ("n_fft", "hop_length", "n_mels")}

    def load(path):
        samples, rate = librosa.load(path, sr=AUDIO["sample_rate"])
        mel = librosa.feature.melspectrogram(y=samples, sr=rate, htk=True, norm=None, **names)
        return np.log(mel + 1e-6).T.astype(np.float16)

    hf(load)


def kernel():
    """Decode and transform alone, after imports: no reading, hashing, processes or tables."""
    import pyarrow.parquet as pq

    from mmpipe.features import audio, image, text

    table = pq.read_table("data/samples.parquet", columns=["image_path", "audio_path", "text"])
    pictures, sounds = (
        [Path(p).read_bytes() for p in table[n].to_pylist()] for n in ("image_path", "audio_path")
    )
    tokenizer = Path("data/tokenizer.json").read_text()
    start = time.process_time()
    for data in pictures:
        image.extract(data, **IMAGE)
    for data in sounds:
        audio.extract(data, **AUDIO)
    text.encode(table["text"].to_pylist(), tokenizer, max_tokens=MAX_TOKENS)
    print(json.dumps({"kernel_s": time.process_time() - start}))


JOBS = {
    "ours": ours,
    "none": ours,
    "most": lambda: ours("most.parquet"),
    "new": ours,
    "hf_torchaudio": hf_torchaudio,
    "hf_librosa": hf_librosa,
    "kernel": kernel,
}


if __name__ == "__main__":
    JOBS[sys.argv[1]]()
