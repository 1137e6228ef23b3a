"""`make setup` with real make, venv and pip, on a machine where opencv-python cannot be imported."""

import hashlib
import os
import shutil
import subprocess
import sys
import zipfile
from base64 import urlsafe_b64encode
from pathlib import Path

import pytest

from mmpipe import files

BACKEND = """
import shutil

def get_requires_for_build_editable(config_settings=None):
    return []

def build_editable(folder, config_settings=None, metadata_directory=None):
    shutil.copy("wheels/project-1-py3-none-any.whl", folder)
    return "project-1-py3-none-any.whl"
"""
PROJECT = """
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
[project]
name = "project"
version = "1"
"""


def wheel(folder: Path, name: str, contents: dict[str, str], *, requires: str = "") -> None:
    """A wheel as pip takes it, of version 1."""
    info = f"{name.replace('-', '_')}-1.dist-info"
    more = f"Requires-Dist: {requires}\n" if requires else ""
    extras = "Provides-Extra: stamps\nProvides-Extra: dev\n"
    whole = {
        **contents,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n{extras}{more}",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    lines = [f"{path},{_digest(text)},{len(text)}\n" for path, text in whole.items()]
    folder.mkdir(exist_ok=True)
    with zipfile.ZipFile(folder / f"{name.replace('-', '_')}-1-py3-none-any.whl", "w") as file:
        for path, text in whole.items():
            file.writestr(path, text)
        file.writestr(f"{info}/RECORD", "".join([*lines, f"{info}/RECORD,,\n"]))


def _digest(text: str) -> str:
    return "sha256=" + urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).decode().rstrip("=")


@pytest.fixture
def project(tmp_path, repository):
    """The repository's Makefile beside a project that needs opencv-python, which here lacks its libGL."""
    wheels = tmp_path / "wheels"
    wheel(wheels, "opencv-python", {"cv2/__init__.py": "raise ImportError('libGL.so.1')\n"})
    wheel(wheels, "opencv-python-headless", {"cv2/__init__.py": "headless = True\n"})
    wheel(wheels, "project", {"project.py": ""}, requires="opencv-python")
    shutil.copy(repository / "Makefile", tmp_path)
    files.write_bytes(tmp_path / "backend.py", BACKEND.encode())
    files.write_bytes(tmp_path / "pyproject.toml", PROJECT.encode())
    (tmp_path / "constraints.txt").touch()
    return tmp_path


def make(folder: Path) -> subprocess.CompletedProcess[str]:
    offline = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(folder / "wheels"), "PYTHONPATH": ""}
    command = ["make", "setup", f"PYTHON={sys.executable}"]
    return subprocess.run(
        command, cwd=folder, env={**os.environ, **offline}, capture_output=True, text=True, check=False
    )


def test_cv2_is_there_after_a_second_setup_too(project):
    python = project / ".venv/bin/python"
    for _ in range(2):
        (project / "constraints.txt").touch()
        done = make(project)
        assert done.returncode == 0, done.stderr
        assert "taking opencv-python-headless" in done.stdout
        assert subprocess.run([python, "-c", "import cv2; cv2.headless"], check=False).returncode == 0


def test_without_a_cv2_setup_is_not_done(project):
    wheel(
        project / "wheels", "opencv-python-headless", {"cv2/__init__.py": "raise ImportError('libz.so.1')\n"}
    )
    done = make(project)
    assert done.returncode != 0 and "libz.so.1" in done.stderr
    assert not (project / ".venv/.ready").exists()
