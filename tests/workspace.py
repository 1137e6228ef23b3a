"""A real workspace for tests: real git, real DVC, mmpipe installed as a package."""

import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parents[1]
RESULTS = ("data", "models", "metrics", "plots", "reports")


@dataclass(frozen=True)
class Workspace:
    """A folder with `dvc.yaml`, and the environment its stages run in."""

    root: Path
    environment: dict[str, str] = field(default_factory=dict)

    def run(self, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command of the environment's own `bin` folder in the workspace."""
        done = subprocess.run(
            command, cwd=self.root, env=self._env(), text=True, capture_output=True, timeout=900
        )
        if check and done.returncode:
            raise AssertionError(f"{command} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}")
        return done

    def repro(self, *arguments: str) -> tuple[list[str], str]:
        """`dvc repro` → the stages that ran, in order, without the always-run `code`, and all it printed."""
        done = self.run("dvc", "repro", *arguments)
        output = done.stdout + done.stderr
        return [s for s in re.findall(r"Running stage '([^']+)'", output) if s != "code"], output

    def start(self, *command: str) -> subprocess.Popen[str]:
        """Start a command as the leader of its own process group."""
        return subprocess.Popen(
            command,
            cwd=self.root,
            env=self._env(),
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def hashes(self) -> dict[str, str]:
        """sha256 of every result file, code fingerprints aside."""
        found = {
            str(path.relative_to(self.root)): hashlib.sha256(path.read_bytes()).hexdigest()
            for folder in RESULTS
            for path in sorted((self.root / folder).rglob("*"))
            if path.is_file() and path.name != ".gitignore" and path.parent.name != "code"
        }
        assert len(found) > 20, found
        return found

    def computed(self, output: str) -> dict[str, int]:
        """How many samples each modality's extraction computed (the rest came from the store)."""
        return {m: int(n) for m, n in re.findall(r"extract (\w+):.*computed (\d+)", output)}

    def _env(self) -> dict[str, str]:
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        quiet = {"DVC_NO_ANALYTICS": "1", "PYTHONWARNINGS": "default"}
        return {**os.environ, "PATH": path, **quiet, **self.environment}


def kill_group(process: subprocess.Popen[str]) -> None:
    """SIGKILL to a process and all of its group."""
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def make(root: Path, *, environment: dict[str, str] | None = None) -> Workspace:
    """`mmpipe init --corpus shapes` with parameters small enough for a test."""
    workspace = Workspace(root, environment or {})
    root.parent.mkdir(parents=True, exist_ok=True)
    Workspace(root.parent, workspace.environment).run("mmpipe", "init", root.name, "--corpus", "shapes")
    set_params(workspace, {"image.size": 32, "train.epochs": 3, "train.threads": 1, "evaluate.bootstrap": 50})
    return workspace


def set_params(workspace: Workspace, values: dict[str, object]) -> None:
    """Change keys of `params.yaml`, keeping its comments."""
    with _params(workspace) as tree:
        for key, value in values.items():
            *sections, name = key.split(".")
            section = tree
            for part in sections:
                section = section.setdefault(part, {})
            section[name] = value


def drop_param(workspace: Workspace, key: str) -> None:
    """Leave a key of `params.yaml` to its default."""
    section, name = key.split(".")
    with _params(workspace) as tree:
        del tree[section][name]


@contextmanager
def _params(workspace: Workspace) -> Iterator[dict[str, Any]]:
    from ruamel.yaml import YAML

    yaml = YAML(typ="rt")
    path = workspace.root / "params.yaml"
    tree = yaml.load(path)
    yield tree
    with path.open("w") as file:
        yaml.dump(tree, file)


def copy_package(site: Path) -> Path:
    """A copy of the package that a test may edit; put `site` on PYTHONPATH to use it."""
    return Path(
        shutil.copytree(REPOSITORY / "mmpipe", site / "mmpipe", ignore=shutil.ignore_patterns("__pycache__"))
    )


def edit(site, name, old, new, package="pack"):
    """Change a file of a package that lies in `site`."""
    path = site / package / name
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
