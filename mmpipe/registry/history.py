"""What was published, promoted and rolled back, by whom, when and why: the registry as a log."""

from dataclasses import dataclass
from datetime import UTC, datetime

from mmpipe.registry.records import Assignment, Version
from mmpipe.registry.tagged import Registry

WORDS = {
    "publish": "published",
    "promote": "promoted",
    "rollback": "rolled back",
    "assign": "assigned",
    "unassign": "unassigned",
}
_LONG_AGO = datetime(1, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Event:
    """One tag. `n`: the counter of an assignment, None of a version. `metrics`: those of the version."""

    n: int | None
    when: datetime | None
    who: str
    email: str
    what: str
    tag: str
    name: str
    version: str
    stage: str | None
    why: str
    metrics: dict[str, float]
    problem: str | None


def events(registry: Registry, *, stage: str | None = None) -> list[Event]:
    """The oldest first; with `stage`, only what happened to that stage.

    Versions come in their order and assignments in theirs; the clock says only how the two interlock, and a
    version always comes before what was done with it.
    """
    if stage is not None:
        return [_assigned(registry, a) for a in registry.assignments if a.stage == stage]
    place = {version.tag: number for number, version in enumerate(registry.versions)}
    log: list[Event] = []
    told = 0
    for assignment in sorted(registry.assignments, key=lambda a: (a.n, a.name)):
        version = registry.find(assignment.name, assignment.version)
        least = place[version.tag] + 1 if version else 0
        for waiting in registry.versions[told:]:
            if told >= least and not _before(waiting, assignment):
                break
            log.append(_published(registry, waiting))
            told += 1
        log.append(_assigned(registry, assignment))
    return log + [_published(registry, version) for version in registry.versions[told:]]


def _before(version: Version, assignment: Assignment) -> bool:
    return (version.when or _LONG_AGO) < (assignment.when or _LONG_AGO)


def _published(registry: Registry, v: Version) -> Event:
    problem = registry.problems.get(v.tag)
    return Event(
        None, v.when, v.who, v.email, "publish", v.tag, v.name, v.version, None, "", v.metrics, problem
    )


def _assigned(registry: Registry, a: Assignment) -> Event:
    version = registry.find(a.name, a.version)
    metrics = version.metrics if version else {}
    problem = registry.problems.get(a.tag)
    return Event(
        a.n, a.when, a.who, a.email, a.action, a.tag, a.name, a.version, a.stage, a.why, metrics, problem
    )
