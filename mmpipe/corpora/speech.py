"""Spoken descriptions of Tux Paint's stamps (GPL-2) in nine languages, each with its own text.

From the package of `stamps`. Of each language, a recording counts once and a text counts once. `group` joins
what says the same: the descriptions of one stamp in all languages, and those with the same text. `words` are
those that may be expected: of all descriptions, in the language, of the stamps in the same folder.
"""

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mmpipe import files, groups
from mmpipe.corpora import apt, deb, package
from mmpipe.corpora.stamps import COPYRIGHT, PACKAGE, STAMPS
from mmpipe.transcripts.form import normalise

LANGUAGES = ("be", "bg", "ca", "da", "el", "es", "fr", "ro", "ru")
"""Those that are spoken by hundreds of recordings."""
COLUMNS = ("id", "audio", "transcript", "text", "topic", "group", "words")


@dataclass(frozen=True)
class _Utterance:
    """`stem`: path of the stamp without its ending."""

    language: str
    stem: str
    transcript: str
    english: str
    recording: bytes

    @property
    def id(self) -> str:
        return f"{self.language}/{self.stem}"

    @property
    def folder(self) -> str:
        return self.stem.rpartition("/")[0]


def write(folder: Path, *, downloads: Path) -> int:
    """Write a manifest a language (fr.csv, …), audio/ and LICENSE below an existing folder; how many samples.

    Columns: the recording, its transcript, the English text, the stamp's top folder, the group, and the words
    that may be expected. Raises MmpipeError `corpus-client` or `corpus-hash`.
    """
    members = deb.read(package.fetch(PACKAGE, downloads, apt.bring), _is_wanted)
    (folder / "LICENSE").write_bytes(members[COPYRIGHT])
    found = {language: _once(_utterances(members, language)) for language in LANGUAGES}
    names = _groups([one for utterances in found.values() for one in utterances])
    for language, utterances in found.items():
        words = _words(utterances)
        with (folder / f"{language}.csv").open("w", encoding="utf-8", newline="") as file:
            table = csv.writer(file, lineterminator="\n")
            table.writerow(COLUMNS)
            for one in utterances:
                path = f"audio/{one.id}.ogg"
                (folder / path).parent.mkdir(parents=True, exist_ok=True)
                (folder / path).write_bytes(one.recording)
                topic = one.stem.split("/")[0]
                table.writerow(
                    [one.id, path, one.transcript, one.english, topic, names[one.id], words[one.folder]]
                )
    return len(names)


def _is_wanted(name: str) -> bool:
    ends = (".txt", ".png", ".svg", *(f"_desc_{language}.ogg" for language in LANGUAGES))
    return name == COPYRIGHT or (name.startswith(STAMPS) and name.endswith(ends))


def _utterances(members: dict[str, bytes], language: str) -> Iterator[_Utterance]:
    """Those of stamps that have a picture and a text in the language."""
    ending = f"_desc_{language}.ogg"
    for name in sorted(members):
        base = name.removesuffix(ending)
        if name == base or f"{base}.txt" not in members:
            continue
        lines = members[f"{base}.txt"].decode("utf-8").splitlines()
        own = [line.partition("=")[2].strip() for line in lines if line.startswith(f"{language}.utf8=")]
        if any(own) and (f"{base}.png" in members or f"{base}.svg" in members):
            yield _Utterance(language, base.removeprefix(STAMPS), own[0], lines[0].strip(), members[name])


def _once(utterances: Iterator[_Utterance]) -> list[_Utterance]:
    """The first of each recording and of each text; no recording whose texts differ in more than case."""
    by_bytes: dict[str, list[_Utterance]] = {}
    for one in utterances:
        by_bytes.setdefault(files.sha256(one.recording), []).append(one)
    clear = [same[0] for same in by_bytes.values() if len({normalise(one.transcript) for one in same}) == 1]
    return list({one.transcript: one for one in reversed(clear)}.values())[::-1]


def _words(utterances: list[_Utterance]) -> dict[str, str]:
    """Folder of stamps → the words of all its descriptions, sorted."""
    found: dict[str, set[str]] = {}
    for one in utterances:
        found.setdefault(one.folder, set()).update(normalise(one.transcript).split())
    return {folder: " ".join(sorted(words)) for folder, words in found.items()}


def _groups(utterances: list[_Utterance]) -> dict[str, str]:
    """Id → the smallest id of its group."""
    ids = [one.id for one in utterances]
    shared = [[one.stem for one in utterances], [normalise(one.transcript) for one in utterances]]
    found = groups.find(ids, shared=shared, hashes=[None] * len(ids), near_duplicate_bits=-1)
    return dict(zip(ids, found.names, strict=True))
