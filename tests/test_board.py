"""What a training leaves for TensorBoard, asked of TensorBoard itself: over HTTP, and in a real browser."""

import json
import socket
import subprocess
import sys
import time
from contextlib import contextmanager

import browser
import httpx
import numpy as np
import pytest
import tiny
from tensorboard.backend.event_processing.event_accumulator import TENSORS, EventAccumulator

from mmpipe import board, paths
from mmpipe.stages import train as train_stage


def trained(root, monkeypatch, **train):
    """The folder of the run's events, after the stage `train` of a workspace."""
    root.mkdir()
    tiny.write(root, n=60)
    tiny.tokenizer(root)
    settings = {"epochs": 2, "batch_size": 12, "threads": 1, **train}
    (root / paths.PARAMS).write_text(json.dumps({"train": settings, "model": {"dim": 8}}))
    monkeypatch.chdir(root)
    train_stage.main()
    (folder,) = (root / paths.TENSORBOARD).iterdir()
    return folder


def words(events, tag):
    (one,) = events.Tensors(tag)
    return one.tensor_proto.string_val[0].decode()


def test_a_training_leaves_curves_parameters_and_samples(tmp_path, monkeypatch):
    folder = trained(tmp_path / "w", monkeypatch, lr=0.003)
    events = EventAccumulator(str(folder), size_guidance={TENSORS: 0}).Reload()
    tags = events.Tags()
    assert {"train_loss", "val_accuracy", "final/val_accuracy", "final/val_loss_calibrated"} <= set(
        tags["scalars"]
    )
    found = json.loads((tmp_path / "w" / paths.METRICS / "train.json").read_text())
    (last,) = events.Scalars("final/val_accuracy")
    assert (last.step, last.value) == (found["best_epoch"], pytest.approx(found["val_accuracy"], abs=1e-6))
    assert "_hparams_/session_start_info" in events.summary_metadata
    told = [words(events, f"samples/{number}/text_summary") for number in range(1, board.COUNT + 1)]
    assert all("**truth** `" in one and "**said** `" in one for one in told)
    assert sum("**text** `" in one for one in told) > 0
    kinds = {tag.rpartition("/")[2] for tag in tags["images"]}
    assert kinds == {"image", "audio"}


def test_what_strangers_wrote_means_nothing_in_markdown():
    told = board._told("a`![x](http://h/x.png)`", None, "b\x1b[31m\n# `c`", ["said", "  50 %  d"])
    assert told.splitlines()[::2] == [
        "**id** `a'![x](http://h/x.png)'`",
        "**truth** none",
        "**said** `said`",
        "- `50 %  d`",
        "**text** `b\\x1b[31m\\n# 'c'`",
    ]


def test_a_spectrogram_has_low_bands_below_and_is_never_divided_by_nothing():
    frames = np.array([[0.0, 1.0], [0.0, 2.0], [0.0, 4.0]], np.float32)  # three frames of two bands
    assert board._spectrogram(frames)[:, :, 0].tolist() == [[64, 128, 255], [0, 0, 0]]
    assert not board._spectrogram(np.full((3, 2), 7, np.float32)).any()


@contextmanager
def tensorboard(folder):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(folder), "--port", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
                yield client
        finally:
            process.terminate()


def until(ask):
    """What `ask` returns as soon as it is something."""
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        try:
            if found := ask():
                return found
        except httpx.TransportError:
            pass
        time.sleep(0.3)
    raise AssertionError("nothing came")


@pytest.mark.slow
def test_tensorboard_serves_and_shows_them(tmp_path, monkeypatch):
    runs = [trained(tmp_path / name, monkeypatch, lr=lr).name for name, lr in (("a", 0.003), ("b", 0.006))]
    together = tmp_path / "logs"
    together.mkdir()
    for name, run in zip(("a", "b"), runs, strict=True):
        (tmp_path / name / paths.TENSORBOARD / run).rename(together / run)
    with tensorboard(together) as client:
        scalars = until(lambda: _all(client.get("/data/plugin/scalars/tags").json(), runs))
        assert {"train_loss", "val_loss", "learning_rate"} <= set(scalars[runs[0]])
        ask = {"tag": "samples/1/text_summary", "run": runs[0]}
        (text,) = client.get("/data/plugin/text/text", params=ask).json()
        assert "<strong>truth</strong> <code>" in text["text"]
        images = client.get("/data/plugin/images/tags").json()[runs[0]]
        assert {tag.split("/")[2] for tag in images} == {"image", "audio"}
        experiment = client.post("/data/plugin/hparams/experiment", json={}).json()
        infos = {info["name"]: info for info in experiment["hparamInfos"]}
        assert infos["train.lr"]["differs"] and not infos["train.epochs"]["differs"]
        assert infos["model.fusion"]["domainDiscrete"] == ["concat"]
        groups = client.post("/data/plugin/hparams/session_groups", json=_question(experiment)).json()
        rates = sorted(group["hparams"]["train.lr"] for group in groups["sessionGroups"])
        assert rates == [0.003, 0.006]
        metrics = [one["name"]["tag"] for one in groups["sessionGroups"][0]["metricValues"]]
        assert "final/val_loss_calibrated" in metrics
        if browser.CHROMIUM and browser.DRIVER:
            _look(str(client.base_url), tmp_path / "profile", runs)


def _all(found, runs):
    return found if all("final/val_accuracy" in found.get(run, {}) for run in runs) else None


def _question(experiment):
    wanted = [{"metric": info["name"]} for info in experiment["metricInfos"]]
    wanted += [{"hparam": info["name"]} for info in experiment["hparamInfos"]]
    statuses = ["STATUS_SUCCESS", "STATUS_RUNNING", "STATUS_UNKNOWN", "STATUS_FAILURE"]
    return {"colParams": wanted, "allowedStatuses": statuses, "startIndex": 0, "sliceSize": 10}


def _look(url, profile, runs):
    """Each view draws what it is asked for; the page's own components hide it in shadow roots."""
    script = """
    const all = [];
    const walk = (root) => root.querySelectorAll('*').forEach((one) => {
      if (one.shadowRoot) walk(one.shadowRoot);
      if (one.tagName !== 'SCRIPT' && one.tagName !== 'STYLE')
        for (const part of one.childNodes) if (part.nodeType === 3) all.push(part.data.trim());
      if (one.tagName === 'IMG' && one.naturalWidth) all.push(`picture ${one.naturalWidth}`);
    });
    walk(document);
    return all.filter(Boolean);
    """
    views = {
        "hparams": ["model.fusion", "final/val_accuracy"],
        "text": ["samples/1/text_summary", "truth"],
        "images": ["samples/1/image", "picture 16"],
        "timeseries": ["final", "val_accuracy", runs[1]],
    }
    with browser.chromium(profile) as window:
        window.size(1500, 1200)
        for view, wanted in views.items():
            window.open(f"{url}/#{view}")
            window.do("POST", "refresh")
            until(lambda wanted=wanted: set(wanted) <= set(window.run(script)))
