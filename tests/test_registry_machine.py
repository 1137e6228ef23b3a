"""Any order of publishing, promoting and rolling back: a real git repository against a model of lists."""

import shutil
import tempfile
from pathlib import Path

import gto.api
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from test_tagged import Repository

from mmpipe import tags
from mmpipe.errors import InvalidError, NotFoundError
from mmpipe.registry.history import events
from mmpipe.registry.promote import Terms, promote, rollback

VERDICTS = st.sampled_from(["promote", "refuse", "none"])
ANY = st.integers(0, 99)
LOCAL = Terms(push=False)
BY_FORCE = Terms(push=False, force=True, why="x")


class Registry(RuleBasedStateMachine):
    """`versions`: {number: (verdict, champion)}; `way`: those to go back through; `moves`: the log."""

    @initialize()
    def start(self):
        self.folder = Path(tempfile.mkdtemp(prefix="mmpipe-machine-"))
        self.repository = Repository(self.folder / "w")
        self.repository.git("commit", "--quiet", "--allow-empty", "--message", "start")
        self.versions: dict[str, tuple[str, str | None]] = {}
        self.way: list[str] = []
        self.moves: list[tuple[str, str]] = []

    def teardown(self):
        shutil.rmtree(self.folder)

    @property
    def holder(self):
        return self.way[-1] if self.way else None

    def nth(self, number):
        return list(self.versions)[number % len(self.versions)]

    @rule(part=st.sampled_from(["major", "minor", "patch"]), verdict=VERDICTS)
    def publish(self, part, verdict):
        version = tags.bump(next(reversed(self.versions), None), part)
        champion = f"fusion@{self.holder}" if self.holder else None
        gate = {"verdict": verdict, "reasons": [], "champion": champion}
        assert self.repository.publish(version, Gate=gate) == f"fusion@{version}"
        self.versions[version] = (verdict, champion)

    @precondition(lambda self: self.versions)
    @rule(number=ANY, force=st.booleans())
    def promote(self, number, force):
        version = self.nth(number)
        verdict, champion = self.versions[version]
        judged = verdict == "promote" and champion in (None, f"fusion@{self.holder}")
        if self.holder in (None, version) or force or judged:
            moved = promote(self.repository.root, f"fusion@{version}", BY_FORCE if force else LOCAL)
            assert (moved.before, moved.changed) == (self.holder, self.holder != version)
            if moved.changed:
                self.way.append(version)
                self.moves.append((version, "promote"))
        else:
            with pytest.raises(InvalidError, match="gate-refused"):
                promote(self.repository.root, f"fusion@{version}", LOCAL)

    @rule()
    def rollback(self):
        if len(self.way) < 2:
            with pytest.raises(NotFoundError, match="tag-missing"):
                rollback(self.repository.root, terms=LOCAL)
            return
        assert rollback(self.repository.root, terms=LOCAL).before == self.way.pop()
        self.moves.append((self.way[-1], "rollback"))

    @precondition(lambda self: self.versions)
    @rule(number=ANY)
    def rollback_to(self, number):
        version = self.nth(number)
        moved = rollback(self.repository.root, version, LOCAL)
        assert moved.changed == (version != self.holder)
        if moved.changed:
            self.moves.append((version, "rollback"))
            self.way = self.way[:-1]
            while version in self.way and self.way[-1] != version:
                self.way.pop()
            if not self.way or self.way[-1] != version:
                self.way.append(version)

    @invariant()
    def everybody_sees_the_same(self):
        registry = self.repository.read()
        assert [v.version for v in registry.of("fusion")] == list(self.versions)
        assert [(a.version, a.action) for a in registry.log("fusion", "prod")] == self.moves
        assert [a.n for a in registry.assignments] == list(range(1, len(self.moves) + 1))
        assert registry.problems == {} and len(events(registry)) == len(self.versions) + len(self.moves)
        holder = registry.holder("fusion", "prod")
        assert (holder.version if holder else None) == self.holder
        if self.versions:
            shown = gto.api.show(str(self.repository.root))["fusion"]
            assert (shown["version"], shown["stage"].get("prod")) == (list(self.versions)[-1], self.holder)


def run(examples, steps):
    quiet = [HealthCheck.too_slow, HealthCheck.filter_too_much]
    chosen = settings(
        max_examples=examples, stateful_step_count=steps, deadline=None, suppress_health_check=quiet
    )
    run_state_machine_as_test(Registry, settings=chosen)


def test_some_ways_of_a_registry():
    run(examples=4, steps=8)


@pytest.mark.slow
def test_many_ways_of_a_registry():
    run(examples=12, steps=20)
