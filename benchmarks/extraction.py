"""Extraction (pictures, recordings, texts → Parquet) beside a Hugging Face `datasets.map` job of the same work.

    python benchmarks/extraction.py                    # 2,000 made samples: JPEG 500 × 375, WAV 44.1 kHz, captions
    python benchmarks/extraction.py --workspace DIR    # the samples of a workspace after `dvc repro ingest`

Every run is a fresh process tree: imports count, CPU time is that of all processes (a subreaper waits for each),
memory is the largest sum of their proportional set sizes. One computing thread a process, two processes.
"""  # noqa: E501

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from extraction_samples import prepare
from processes import measure

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OPENCV_FOR_THREADS_NUM")
ENVIRONMENT = {
    **dict.fromkeys(THREADS, "1"),
    "MMPIPE_WORKERS": "2",
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    "TOKENIZERS_PARALLELISM": "false",
}


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workspace", type=Path)
    parser.add_argument("--samples", type=int, default=2_000)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(prepare(Path(folder), options))
        report(Path.cwd(), options.repeats)


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
            found[job].append(run(job, root))
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


def run(job, root):
    """One job in a process tree of its own → CPU s, wall s, peak MB, and what it printed as JSON."""
    command = [sys.executable, str(Path(__file__).resolve().with_name("extraction_jobs.py")), job]
    found, printed = measure(command, root, {**ENVIRONMENT, "HF_HOME": f"{root}/hf"})
    return {**found, **json.loads(printed)} if printed.startswith("{") else found


if __name__ == "__main__":
    main()
