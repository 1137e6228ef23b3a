"""The registry as git's annotated tags have it: versions of models, and which of them holds which stage."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from mmpipe import tags, vcs
from mmpipe.errors import NotFoundError, VerificationError
from mmpipe.registry import raw_tags, records
from mmpipe.registry.records import Assignment, Version
from mmpipe.tags import Spec

__all__ = ["Assignment", "Registry", "Version", "read"]


@dataclass(frozen=True)
class Registry:
    """Versions in the order of Semantic Versioning, assignments in that of their counters; never by clock.

    `folder`: of the workspace within its git repository, "" at the top. `problems`: {tag: what is wrong}.
    A model's name may be given without the folder that it has in a repository with several workspaces.
    """

    source: str
    folder: str = ""
    versions: tuple[Version, ...] = ()
    assignments: tuple[Assignment, ...] = ()
    problems: dict[str, str] = field(default_factory=dict)

    @cached_property
    def names(self) -> list[str]:
        """Of all models with a version."""
        return sorted({version.name for version in self.versions})

    def full_name(self, name: str) -> str:
        """The model that a short name means: this workspace's, else the only one so called."""
        own = f"{self.folder}:{name}" if self.folder and ":" not in name else name
        others = [other for other in self.names if other.rpartition(":")[2] == name]
        return others[0] if own not in self.names and len(others) == 1 else own

    def of(self, name: str) -> list[Version]:
        """A model's versions that were not withdrawn, the latest last."""
        full = self.full_name(name)
        return [v for v in self.versions if v.name == full and not v.withdrawn]

    def find(self, name: str, version: str) -> Version | None:
        """A version by its number, a withdrawn one as well."""
        return self._by_number.get((self.full_name(name), version))

    def log(self, name: str, stage: str) -> list[Assignment]:
        """What was put into a stage and taken out, in order."""
        return self._logs.get((self.full_name(name), stage), [])

    def holder(self, name: str, stage: str) -> Assignment | None:
        """The assignment that counts: the newest of those that no later one of its version took back."""
        return self._holders.get((self.full_name(name), stage))

    def stages(self, version: Version) -> list[str]:
        """The stages that a version holds."""
        this = (version.name, version.version)
        return sorted(a.stage for a in self._holders.values() if (a.name, a.version) == this)

    def resolve(self, spec: Spec | str) -> Version:
        """The version that a spec means.

        Raises NotFoundError `tag-missing` naming the nearest, VerificationError `tag-moved` where a tag that
        counts was moved or is no annotated one, UsageError `tag-name`.
        """
        spec = tags.parse_spec(spec) if isinstance(spec, str) else spec
        if spec.stage is not None:
            found = self._of_stage(spec)
        elif spec.version is not None:
            self.check(tags.version_tag(self.full_name(spec.name), spec.version))
            found = self.find(spec.name, spec.version)
        else:
            found = next(reversed(self.of(spec.name)), None)
            self._refuse_newer(spec, found)
        if found is None or found.withdrawn:
            raise self._missing(spec, "was withdrawn" if found else "is not there")
        self.check(found.tag)
        return found

    def check(self, *names: str) -> None:
        """Raise VerificationError `tag-moved` where one of these tags has a problem."""
        for name in names:
            if name in self.problems:
                raise VerificationError("tag-moved", self.problems[name], where=name)

    def _of_stage(self, spec: Spec) -> Version | None:
        stage = spec.stage or ""
        if spec.n is None:
            chosen = self.holder(spec.name, stage)
            self._refuse_newer_stage(spec, chosen)
        else:
            given = (a for a in self.log(spec.name, stage) if a.n == spec.n and a.action != "unassign")
            chosen = next(given, None)
        if chosen is None:
            return None
        self.check(chosen.tag)
        return self.find(chosen.name, chosen.version)

    def _refuse_newer(self, spec: Spec, latest: Version | None) -> None:
        """A tag that is no sound version, yet would be the latest."""
        for tag, meaning in self._unsound(spec):
            if meaning.version and not (latest and tags.order(meaning.version) < tags.order(latest.version)):
                self.check(tag)

    def _refuse_newer_stage(self, spec: Spec, holder: Assignment | None) -> None:
        for tag, meaning in self._unsound(spec):
            if meaning.stage == spec.stage and (holder is None or meaning.n >= holder.n):
                self.check(tag)

    def _unsound(self, spec: Spec) -> Iterator[tuple[str, tags.Tag]]:
        for tag in self.problems:
            meaning = tags.parse_tag(tag)
            if meaning is not None and meaning.name == self.full_name(spec.name):
                yield tag, meaning

    def _missing(self, spec: Spec, what: str) -> NotFoundError:
        versions = self.of(spec.name)
        if not versions:
            near = tags.nearest(spec.name, self.names)
            rest = f"of {_count(len(self.names), 'model')} the nearest is {near}" if near else "no model is"
            return NotFoundError("tag-missing", f"{what}: {rest}", where=str(spec))
        numbered = {f"{spec.name}@{v.version}" for v in versions}
        held = {f"{spec.name}#{stage}" for v in versions for stage in self.stages(v)}
        near = tags.nearest(str(spec), held if spec.stage and held else numbered)
        what = f"{what}: of {_count(len(versions), 'version')} of {spec.name} the nearest is {near}"
        return NotFoundError("tag-missing", what, where=str(spec))

    @cached_property
    def _by_number(self) -> dict[tuple[str, str], Version]:
        return {(version.name, version.version): version for version in self.versions}

    @cached_property
    def _logs(self) -> dict[tuple[str, str], list[Assignment]]:
        logs: dict[tuple[str, str], list[Assignment]] = {}
        for assignment in self.assignments:
            logs.setdefault((assignment.name, assignment.stage), []).append(assignment)
        return logs

    @cached_property
    def _holders(self) -> dict[tuple[str, str], Assignment]:
        found = {}
        for key, log in self._logs.items():
            last = {assignment.version: assignment for assignment in log}
            if standing := [a for a in last.values() if a.action != "unassign"]:
                found[key] = max(standing, key=lambda a: a.n)
        return found


def read(source: str | Path = ".") -> Registry:
    """The registry of a work tree, a bare repository or a git URL.

    Raises NotFoundError `remote-missing`, TemporaryError `remote-failed`.
    """
    problems: dict[str, str] = {}
    sound = list(records.sound(raw_tags.read(str(source)), problems))
    versions = records.versions(raw for raw in sound if raw.meaning.version)
    stages = (raw for raw in sound if raw.meaning.stage)
    assignments = records.assignments(stages, versions, problems)
    local = Path(source).is_dir()
    folder = (vcs.ask_git("rev-parse", "--show-prefix", cwd=Path(source)) or "") if local else ""
    return Registry(str(source), folder.strip("/"), tuple(versions), tuple(assignments), problems)


def _count(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"
