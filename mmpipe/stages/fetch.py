"""The corpus that params.yaml names → data/corpus."""

from pathlib import Path

from mmpipe import files, paths
from mmpipe.corpora import dialogue, emoji, shapes, speech, stamps
from mmpipe.params import load
from mmpipe.stages.process import run

FETCHED = {
    "stamps": stamps.write,
    "speech": speech.write,
    "dialogue": dialogue.write,
    "emoji": emoji.write,
}


def main() -> None:
    """Write the corpus whole or not at all."""
    name = load(paths.PARAMS).corpus
    with files.atomic_folder(paths.CORPUS) as folder:
        count = _write(name, folder)
    print(f"fetch: {count} samples of corpus {name}")  # noqa: T201


def _write(name: str, folder: Path) -> int:
    if name in FETCHED:
        return FETCHED[name](folder, downloads=paths.DOWNLOADS)
    if name == "shapes":
        return shapes.write(folder)
    files.write_json(folder / "source.json", {"corpus": name})
    return 0


if __name__ == "__main__":
    run(main)
