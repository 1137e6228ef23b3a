"""A new workspace: `dvc.yaml`, a commented `params.yaml` that fits the data, git and DVC set up."""

import difflib
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from mmpipe import guess, guess_task, manifest, params, paths, vcs
from mmpipe.errors import InvalidError, NotFoundError, SampleError, UsageError
from mmpipe.files import canonical_json, safe_join, write_bytes
from mmpipe.row import BadRow, Row

PREFECT = "prefect.yaml"
SCHEMA = Path("params.schema.json")
TABLES = (".csv", ".jsonl", ".ndjson", ".parquet")
LEARNT = {
    "regress": "the target is a number",
    "transcribe": "the target is what is said in the recording",
    "answer": "the target is an answer in words",
}
"""Task → what is said of its target."""
DVC_CONFIG = "[core]\n    analytics = false\n"


@dataclass(frozen=True)
class Made:
    """What `init` did: samples seen, files copied below `data/raw`, and what the user should know."""

    root: Path
    rows: int
    copied: int
    columns: Mapping[str, str | None]
    notes: Sequence[str]


def init(
    root: Path,
    *,
    source: Path | None = None,
    corpus: str = "none",
    recipe: str | None = None,
    target: str | None = None,
) -> Made:
    """Write a workspace. `source` is a table, or a folder with one subfolder a class, to be copied into it.

    `recipe`: one of `recipes()`, which names its corpus; a corpus that has a recipe of its name takes that.
    `dvc.yaml` is written last: without it the workspace is not one yet and the same call goes on.
    Raises UsageError, NotFoundError, or InvalidError for a workspace that is there or a table not understood.
    """
    given = {"--from": source, "--corpus": corpus != "none", "--recipe": recipe}
    if len(several := [option for option, value in given.items() if value]) > 1:
        raise UsageError("usage", f"{' and '.join(several)} exclude one another")
    if (root / paths.PIPELINE).exists():
        raise InvalidError("workspace-exists", "is a workspace already", where=str(root))
    named = recipe or (corpus if corpus in recipes() else None)
    chosen, made = _cooked(root, named) if named else _choose(root, source, corpus, target)
    _keep_foreign(root / paths.PARAMS, text := params.render(chosen))
    root.mkdir(parents=True, exist_ok=True)
    _version_control(root)
    for name in ("gitignore", "dvcignore"):
        _merge(root / f".{name}", template(name))
    if not any((root / paths.RAW).glob("*")):
        write_bytes(root / paths.RAW / ".gitkeep", b"")  # else `dvc add data/raw` is free to take it
    if not (root / PREFECT).exists():
        write_bytes(root / PREFECT, template(PREFECT).encode())
    write_bytes(root / SCHEMA, canonical_json(params.schema()).encode())
    write_bytes(root / paths.PARAMS, text.encode())
    write_bytes(root / paths.PIPELINE, template("pipeline.yaml").encode())
    return made


def template(name: str) -> str:
    """A file of the package's `templates`."""
    return (resources.files("mmpipe") / "templates" / name).read_text("utf-8")


def recipes() -> list[str]:
    """The names of the recipes, sorted."""
    folder = resources.files("mmpipe") / "templates" / "recipes"
    return sorted(file.name.removesuffix(".yaml") for file in folder.iterdir())


def _cooked(root: Path, recipe: str) -> tuple[params.Params, Made]:
    """A recipe's parameters, the defaults where it says nothing."""
    if recipe not in recipes():
        near = "".join(
            f", did you mean {name!r}?" for name in difflib.get_close_matches(recipe, recipes(), n=1)
        )
        raise UsageError("usage", f"--recipe is {', '.join(recipes())}, not {recipe!r}{near}")
    with resources.as_file(resources.files("mmpipe") / "templates" / "recipes" / f"{recipe}.yaml") as path:
        return params.load(path), Made(root, 0, 0, {}, [])


def _choose(root: Path, source: Path | None, corpus: str, target: str | None) -> tuple[params.Params, Made]:
    """Look at the source, copy it, and choose parameters that fit it."""
    values: dict[str, Any] = {"corpus": corpus}
    if source is None:
        manifests = ["data/corpus/manifest.csv" if corpus != "none" else "data/raw/samples.csv"]
        notes = [] if corpus != "none" else [f"put your table at {manifests[0]}, or change data.manifests"]
        return params.Params.model_validate(values | {"data": {"manifests": manifests}}), Made(
            root, 0, 0, {}, notes
        )
    table = _table(source)
    columns = _columns(table, target) if table.is_file() else {}
    found = manifest.read(table, columns or manifest.COLUMNS)
    rows = [row for row in found if isinstance(row, Row)]
    if not rows:
        raise InvalidError("manifest-empty", "has no rows", where=str(table))
    place, copied = _copy(root / paths.RAW, table, rows)
    learns = guess_task.sections(columns, [row.target for row in rows if row.target is not None])
    data: dict[str, Any] = {"manifests": [place.relative_to(root).as_posix()], **learns.pop("data", {})}
    sections = {**guess.sizes(rows), **learns, "data": data | ({"columns": columns} if columns else {})}
    chosen = params.Params.model_validate(values | sections)
    notes = [*_notes(rows, chosen.model.task), *_left_out(found)]
    return chosen, Made(root, len(rows), copied, columns, notes)


def _table(source: Path) -> Path:
    """A table; or a folder: its only table, else the folder itself with its subfolders as classes."""
    if not source.exists():
        raise NotFoundError("manifest-missing", "does not exist", where=str(source), fix="correct --from")
    inside = sorted(source.iterdir()) if source.is_dir() else []
    tables = [path for path in inside if path.suffix.lower() in TABLES]
    if len(tables) > 1:
        names = ", ".join(path.name for path in tables)
        raise UsageError("usage", f"holds several tables ({names}): name one of them", where=str(source))
    table = tables[0] if tables else source
    if any("\ud800" <= letter <= "\udfff" for letter in table.name):
        raise UsageError("usage", "its name is not UTF-8", where=str(table), fix="rename it")
    return table


def _columns(table: Path, target: str | None) -> dict[str, str | None]:
    cells = guess.cells(table)
    if not any(cells.values()):
        raise InvalidError("manifest-empty", "has no rows", where=str(table))
    return guess.columns(cells, table.parent, target=target)


def _copy(raw: Path, table: Path, rows: Sequence[Row]) -> tuple[Path, int]:
    """Copy a manifest and the files it names below `raw`; what lies there already stays as it is."""
    if table.resolve().is_relative_to(raw.resolve()):
        return raw / table.resolve().relative_to(raw.resolve()), 0
    origin, goal = (table, raw / table.name) if table.is_dir() else (table.parent, raw)
    if _place(raw, table.name) is None:
        what = "is a link out of the workspace"
        raise InvalidError("workspace-exists", what, where=str(raw / table.name), fix="remove it")
    names = sorted({*_names(rows), *([] if table.is_dir() else [table.name])})
    copies = {name: place for name in names if (place := _place(goal, name)) is not None}
    for name, place in copies.items():
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(origin / name, place)
    return raw / table.name, len(copies)


def _place(folder: Path, name: str) -> Path | None:
    """Where a copy goes; None where the name, harmless where it comes from, leads out of `folder`."""
    try:
        return safe_join(folder, name)
    except SampleError:
        return None  # ingest will put the row aside and say why


def _names(rows: Sequence[Row]) -> Iterator[str]:
    """The files that rows name, of those that are there and lie below the manifest's folder."""
    for row in rows:
        for name in (row.image, row.audio, row.text_path):
            try:
                if name and row.path_of(name).is_file():
                    yield name
            except (SampleError, OSError):
                continue  # ingest will put the row aside and say why


def _notes(rows: Sequence[Row], task: str) -> list[str]:
    """How many samples have which modality, and how many classes there are, or what else is learnt."""
    counts = {
        "image": sum(row.image is not None for row in rows),
        "text": sum((row.text or row.text_path) is not None for row in rows),
        "audio": sum(row.audio is not None for row in rows),
    }
    classes = len({row.target for row in rows if row.target is not None})
    had = ", ".join(f"{count} with {name}" for name, count in counts.items() if count)
    learnt = LEARNT.get(task, f"{classes} different labels")
    return [f"{len(rows)} rows: {had}; {learnt}"]


def _left_out(found: Sequence[Row | BadRow]) -> list[str]:
    """Rows that ingest would put aside at once; of a folder, they are not copied."""
    bad = [row for row in found if isinstance(row, BadRow)]
    return [f"{len(bad)} more are no samples, such as {bad[0].id}: {bad[0].what}"] if bad else []


def _keep_foreign(path: Path, text: str) -> None:
    """Refuse to overwrite a file that `init` did not write."""
    if path.exists() and path.read_text("utf-8", "replace") != text:
        raise InvalidError("workspace-exists", "is there already", where=str(path), fix="move it away")


def _version_control(root: Path) -> None:
    """`git init` unless within a work tree; `dvc init` unless done."""
    top = vcs.git_root(root)
    if top is None:
        vcs.git("init", "--quiet", "--initial-branch", "main", cwd=root)
        top = root
    if not (root / ".dvc/config").exists():
        subfolder = ["--subdir"] if top.resolve() != root.resolve() else []
        vcs.dvc("init", "--quiet", "--force", *subfolder, cwd=root)
    config = root / ".dvc/config"
    if not config.read_text("utf-8").strip():
        write_bytes(config, DVC_CONFIG.encode())


def _merge(path: Path, wanted: str) -> None:
    """Append the lines that a file lacks."""
    old = path.read_text("utf-8") if path.exists() else ""
    lines = [line for line in wanted.splitlines() if line not in old.splitlines()]
    if lines:
        write_bytes(
            path,
            (old + ("\n" if old and not old.endswith("\n") else "")).encode()
            + "\n".join([*lines, ""]).encode(),
        )
