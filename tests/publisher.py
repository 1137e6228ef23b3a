"""A tiny workspace for the registry: real git, real DVC, a pipeline of one `cp`, a bundle made by hand."""

import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmpipe import bundle

PIPELINE = """
artifacts:
  fusion: {path: models/fusion, type: model}
stages:
  code:
    cmd: mkdir -p data && echo {} > data/code.json
    always_changed: true
    outs: [data/code.json]
  bundle:
    cmd: mkdir -p models && cp -r source models/fusion
    deps: [source]
    outs: [models/fusion]
"""
CONFIG: dict[str, Any] = {
    "labels": ["cat", "dog"],
    "task": "classify",
    "architecture": {"modalities": ["image", "text"], "dim": 8},
    "params": {"train": {"lr": 0.1}},
    "data_sha256": "d" * 64,
}
TEST = {
    "accuracy": 0.6,
    "accuracy_low": 0.5,
    "accuracy_high": 0.7,
    "macro_f1": 0.55,
    "ece": 0.04,
    "samples": 132,
    "nll": 1.2,
}


@dataclass(frozen=True)
class Site:
    """`root`: the workspace; beside it `origin.git`, bare, and `store`, DVC's remote."""

    root: Path

    @property
    def origin(self) -> Path:
        return self.root.parent / "origin.git"

    @property
    def store(self) -> Path:
        return self.root.parent / "store"

    def git(self, *words: str, cwd: Path | None = None) -> str:
        return run("git", *words, cwd=cwd or self.root)

    def dvc(self, *words: str) -> str:
        return run(sys.executable, "-m", "dvc", *words, cwd=self.root)

    def tags(self, where: Path | None = None) -> list[str]:
        return self.git("tag", "--list", cwd=where).split()

    def message(self, tag: str) -> str:
        return self.git("tag", "--list", "--format=%(contents)", tag)

    def train(self, weights: str, *, test: dict[str, Any] | None = None, **config: Any) -> str:
        """Another model, reproduced and committed; its digest."""
        digest = source(self.root, weights, test=test, **config)
        self.dvc("repro", "--quiet")
        self.commit(weights)
        return digest

    def commit(self, words: str) -> None:
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message", words)


def run(*command: str, cwd: Path) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


def source(root: Path, weights: str, *, test: dict[str, Any] | None = None, **config: Any) -> str:
    """What the stage copies."""
    contents = {
        "model.safetensors": weights.encode(),
        "config.json": json.dumps(CONFIG | config).encode(),
        "metrics.json": json.dumps({"test": TEST | (test or {}), "validation": {}}).encode(),
    }
    return bundle.write(root / "source", contents)


def make(folder: Path, *, remotes: bool = True) -> Site:
    """A first model, reproduced and committed; with `remotes`, empty ones for git and for DVC."""
    site = Site(folder / "w")
    site.root.mkdir(parents=True)
    repository(site.root)
    site.dvc("init", "--quiet")
    (site.root / "dvc.yaml").write_text(PIPELINE)
    (site.root / ".gitignore").write_text("/models/\n/data/\n")
    if remotes:
        site.store.mkdir()
        site.git("init", "--quiet", "--bare", "--initial-branch", "main", str(site.origin))
        site.git("remote", "add", "origin", "../origin.git")
        site.dvc("remote", "add", "--quiet", "--default", "store", "../store")
    site.train("first")
    return site


def repository(root: Path) -> None:
    run("git", "init", "--quiet", "--initial-branch", "main", cwd=root)
    run("git", "config", "user.name", "Ada", cwd=root)
    run("git", "config", "user.email", "ada@example.com", cwd=root)


def copy(site: Site, folder: Path) -> Site:
    """Made once, changed by one test."""
    shutil.copytree(site.root.parent, folder, symlinks=True)
    return Site(folder / site.root.name)
