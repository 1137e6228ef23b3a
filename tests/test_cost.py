"""The command `cost`, on a real bundle."""

import json

import tiny_bundle
from typer.testing import CliRunner

from mmpipe import paths
from mmpipe.cli import app
from mmpipe.model import complexity
from mmpipe.model.checkpoint import load_bundle


def call(*arguments):
    result = CliRunner().invoke(app, ["cost", *arguments], catch_exceptions=False)
    assert result.exit_code == 0
    return result.stdout


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
