"""The command `cost`, on a real bundle."""

import json

import tiny_bundle
import tiny_frozen
from typer.testing import CliRunner

from mmpipe import paths
from mmpipe.cli import app
from mmpipe.model import complexity
from mmpipe.model.checkpoint import load_bundle


def call(*arguments):
    result = CliRunner().invoke(app, ["cost", *arguments], catch_exceptions=False)
    assert result.exit_code == 0
    return result.stdout


def test_frozen_backbones_count_and_are_timed(tmp_path, monkeypatch):
    """What a user waits for is the backbone, most of all: parameters, multiply-adds and time have it."""
    tiny_frozen.write(tmp_path / "b")
    monkeypatch.chdir(tmp_path)
    found = json.loads(
        call("--model", "b", "--batch-size", "1", "--batch-size", "16", "--threads", "1", "--json")
    )
    bundle = load_bundle(tmp_path / "b")
    assert sorted(bundle.backbones) == ["audio", "image", "text"]
    nets = (bundle.model, *bundle.backbones.values())
    assert found["parameters"] == sum(p.numel() for net in nets for p in net.parameters())
    parts = [
        complexity.measure(bundle.model, bundle.facts, {m: net})["multiply_adds"]
        for m, net in bundle.backbones.items()
    ]
    alone = complexity.measure(bundle.model, bundle.facts)["multiply_adds"]
    assert all(part > alone for part in parts)
    assert found["multiply_adds"] == alone + sum(part - alone for part in parts)
    few, many = found["batches"]
    without = complexity.load(bundle.model, bundle.facts, 16)
    assert 2 * without.latency_ms < many["latency_ms"] and few["latency_ms"] < many["latency_ms"]


def test_it_tells_time_and_memory_by_batch_size_and_writes_nothing(tmp_path, monkeypatch):
    tiny_bundle.write(tmp_path)
    monkeypatch.chdir(tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    found = json.loads(call("--batch-size", "64", "--batch-size", "2", "--threads", "1", "--json"))
    bundle = load_bundle(paths.BUNDLE)
    wanted = complexity.measure(bundle.model, bundle.facts, bundle.backbones)
    assert {name: found[name] for name in wanted} == wanted
    few, many = found["batches"]
    assert (few["batch_size"], many["batch_size"]) == (2, 64)
    assert 0 < few["latency_ms"] < many["latency_ms"] and few["memory_mb"] > 1
    head, _, columns, row = call("--batch-size", "3").splitlines()
    assert head.startswith(f"{wanted['parameters']:,} parameters")
    assert columns.split() == ["batch", "ms", "samples/s", "peak", "MB"] and row.split()[0] == "3"
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
