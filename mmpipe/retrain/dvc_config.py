"""DVC's configuration of a run's worktree: the workspace's own, with its cache, all paths absolute."""

import os
import re
from pathlib import Path
from typing import Any

import configobj

_PATHS = (
    "url",
    "credentialpath",
    "configpath",
    "keyfile",
    "cert_path",
    "key_path",
    "gdrive_user_credentials_file",
    "gdrive_service_account_json_file_path",
)
"""Options of a remote that DVC takes relative to the configuration's own folder."""


def render(workspace: Path, root: Path) -> str:
    """The `config.local` for the checkout at `root`: what its commit says, then what the workspace has local.

    DVC's index and locks stay within `root`, so that they go with it.
    """
    config = _read(root / ".dvc/config")
    config.merge(_read(workspace / ".dvc/config.local"))
    for name, section in config.items():
        for key in _PATHS if name.strip("'").startswith("remote ") else ():
            if key in section:
                section[key] = _whole(section[key], workspace / ".dvc")
    cache = config.setdefault("cache", {})
    cache["dir"] = _whole(cache.get("dir") or _cache(workspace), workspace / ".dvc")
    config.setdefault("core", {})["site_cache_dir"] = str(root / ".dvc/tmp/site")
    return "".join(f"{line}\n" for line in config.write())


def _read(path: Path) -> Any:
    return configobj.ConfigObj(path.read_text("utf-8").splitlines() if path.is_file() else [])


def _cache(workspace: Path) -> str:
    """Of all workspaces of this user or machine, else this one's."""
    from dvc.config import Config

    found = Config().get("cache", {}).get("dir")
    return str(found or workspace / ".dvc/cache")


def _whole(path: str, folder: Path) -> str:
    if re.match(r"\w+://", path) or path.startswith("~"):
        return path
    return os.path.normpath(folder / path)
