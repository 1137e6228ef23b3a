"""Extraction (pictures, recordings, texts → Parquet) beside a Hugging Face `datasets.map` job of the same work.

    python benchmarks/extraction.py                    # 2,000 made samples: JPEG 500 × 375, WAV 44.1 kHz, captions
    python benchmarks/extraction.py --workspace DIR    # the samples of a workspace after `dvc repro ingest`

Every run is a fresh process tree: imports count, CPU time is that of all processes (a subreaper waits for each),
memory is the largest sum of their proportional set sizes. One computing thread a process, two processes.
"""  # noqa: E501

import argparse
import ctypes
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from resource import RUSAGE_CHILDREN, getrusage

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OPENCV_FOR_THREADS_NUM")
ENVIRONMENT = {
    **dict.fromkeys(THREADS, "1"),
    "MMPIPE_WORKERS": "2",
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    "TOKENIZERS_PARALLELISM": "false",
}
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
PR_SET_CHILD_SUBREAPER = 36


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workspace", type=Path)
    parser.add_argument("--samples", type=int, default=2_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--job", choices=sorted(JOBS), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.job:
        JOBS[options.job]()
        return
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(prepare(Path(folder), options))
        report(Path.cwd(), options.repeats)


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


def report(root, repeats):
    """Run everything in turn, `repeats` times, and print medians."""
    import pyarrow.parquet as pq

    jobs = ("ours", "none", "most", "new", "hf_torchaudio", "hf_librosa", "kernel")
    found = {job: [] for job in jobs}
    for _ in range(repeats):
        subprocess.run(["rm", "-rf", "store", "out", "hf"], check=True)
        for job in jobs:
            if job == "most":
                subprocess.run(["rm", "-rf", "store"], check=True)
            found[job].append(measure(job, root))
    count = pq.read_metadata("data/samples.parquet").num_rows
    middle = {j: {k: statistics.median(r[k] for r in runs) for k in runs[0]} for j, runs in found.items()}
    ours = middle["ours"]
    print(f"\n{count} samples, medians of {repeats} (least to most CPU s)\n")
    print("| job | CPU s | wall s | peak MB | CPU, as a multiple of ours |\n|---|---|---|---|---|")
    names = {
        "ours": "mmpipe, three stages, empty store",
        "hf_torchaudio": "datasets.map, cv2 + torchaudio, num_proc=2",
        "hf_librosa": "datasets.map, cv2 + librosa, num_proc=2",
        "none": "mmpipe, nothing new",
        "new": "mmpipe, 1 % new",
    }
    for job, name in names.items():
        m, cpu = middle[job], sorted(r["cpu_s"] for r in found[job])
        spread = f"{m['cpu_s']:.2f} ({cpu[0]:.2f} to {cpu[-1]:.2f})"
        multiple = m["cpu_s"] / ours["cpu_s"]
        print(f"| {name} | {spread} | {m['wall_s']:.1f} | {m['peak_mb']:.0f} | {multiple:.2f} |")
    kernel = middle["kernel"]["kernel_s"]
    print(f"\nkernels alone {kernel:.2f} CPU s: ours reaches {kernel / ours['cpu_s']:.2f} of that limit")
    beyond = middle["new"]["cpu_s"] - middle["none"]["cpu_s"]
    print(f"1 % new, beyond start-up: {beyond:.2f} CPU s, {beyond / ours['cpu_s']:.1%} of a clean extraction")


def measure(job, root):
    """One job in a process tree of its own → CPU s, wall s, peak MB, and what it printed as JSON."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)
    before, start = getrusage(RUSAGE_CHILDREN), time.monotonic()
    command = [sys.executable, str(Path(__file__).resolve()), "--job", job]
    child = subprocess.Popen(
        command, cwd=root, env={**os.environ, **ENVIRONMENT, "HF_HOME": f"{root}/hf"}, stdout=subprocess.PIPE
    )
    peak, wall = 0, 0.0
    while child.poll() is None:
        peak = max(peak, sum(map(proportional_kb, descendants(os.getpid()))))
        time.sleep(0.05)
    wall = time.monotonic() - start
    printed = child.stdout.read().decode()
    child.stdout.close()
    if child.returncode:
        raise SystemExit(f"{job} ended with {child.returncode}")
    while True:
        try:
            os.wait()
        except ChildProcessError:
            break
    after = getrusage(RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    found = {"cpu_s": cpu, "wall_s": wall, "peak_mb": peak / 1024}
    return {**found, **json.loads(printed)} if printed.startswith("{") else found


def descendants(root):
    """Process ids below `root`."""
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        parents[int(path.parent.name)] = int(fields[1])
    found = {root}
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return found - {root}


def proportional_kb(pid):
    """Memory of a process, shared pages divided among those who share them."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))


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
    main()
