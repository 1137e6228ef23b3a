"""Where a model lies in its workspace, by the `artifacts:` of dvc.yaml, which DVC and GTO read too."""

from pathlib import PurePosixPath

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError


def path_of(pipeline: str, name: str) -> str | None:
    """The path of the artifact `name`; None where the text of a dvc.yaml has none of that name."""
    try:
        tree = YAML(typ="safe", pure=True).load(pipeline)
    except YAMLError:
        return None
    artifacts = tree.get("artifacts") if isinstance(tree, dict) else None
    found = artifacts.get(name) if isinstance(artifacts, dict) else None
    path = found.get("path") if isinstance(found, dict) else None
    return PurePosixPath(path).as_posix() if isinstance(path, str) else None
