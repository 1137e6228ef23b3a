"""The whole life of published models in any order: real git, DVC and folders against a model of dicts."""

import os
import shutil
import tempfile
from contextlib import chdir
from pathlib import Path

import killed
import published
import pytest
from dvc.cli import main as dvc_command
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

from mmpipe import bundle, tags
from mmpipe.errors import MmpipeError, NotFoundError, VerificationError
from mmpipe.registry import audit, gto_tags, messages, tagged
from mmpipe.registry.promote import Terms, promote, rollback
from mmpipe.registry.pull import pull

BUNDLE = Path("models/fusion")
MODEL = Path("model")
STAGE = "stages:\n  bundle: {cmd: 'true', outs: [models/fusion]}\n"
TERMS = Terms(force=True, why="x")
ANY = st.integers(0, 99)
BROKEN = -1
"""In place of a bundle's number: one byte of it was changed."""
AWAY = "origin.git"
"""Has no cache of its own: all comes from the storage."""
OBJECTS = (".dir", bundle.MANIFEST, *sorted(published.contents(1)))
MOMENTS = 120
"""More often than a pull into a folder touches a file."""


@pytest.fixture(scope="module")
def pulls(tmp_path_factory):
    with killed.server(tmp_path_factory.mktemp("scratch")) as server:
        yield server


@pytest.fixture(scope="module")
def empty(tmp_path_factory):
    """A repository of git and DVC before its first model."""
    root = published.repository(tmp_path_factory.mktemp("empty") / "work")
    (root / "dvc.yaml").write_text(published.PIPELINE + STAGE)
    return root


def dvc(root: Path, *words: str) -> None:
    """DVC's command line, in this process."""
    with chdir(root):
        assert dvc_command([*words, "--quiet"]) == 0


def flip(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place % len(data)] ^= 1 << place % 8
    path.chmod(0o644)
    path.write_bytes(data)


class Life(RuleBasedStateMachine):
    """`versions`: {number: that of its contents}; `here`: the same of `.mmpipe/models`; `model`: of `model`.

    `way`: the versions that held prod, to go back through; `damaged`: (contents, object, its good bytes), and
    `objects` all of these contents.
    """

    empty: Path
    pulls: killed.Pulls

    @initialize()
    def start(self):
        self.folder, self.before = Path(tempfile.mkdtemp(prefix="mmpipe-life-")), Path.cwd()
        self.root, self.store = self.folder / "work", self.folder / "store"
        shutil.copytree(self.empty, self.root)
        self.store.mkdir()
        settings = "[core]\n    analytics = false\n    check_update = false\n    remote = store\n"
        (self.root / ".dvc/config").write_text(f"{settings}['remote \"store\"']\n    url = {self.store}\n")
        published.run(self.folder, "git", "init", "-q", "--bare", "-b", "main", AWAY)
        self.git("remote", "add", "origin", str(self.folder / AWAY))
        self.versions: dict[str, int] = {}
        self.abandoned: list[int] = []
        self.way: list[str] = []
        self.here: dict[str, int] = {}
        self.model: int | None = None
        self.damaged: tuple[int, Path, bytes] | None = None
        (self.folder / "away").mkdir()
        os.chdir(self.folder / "away")
        self.publish(again=False, abandon=False)

    def teardown(self):
        os.chdir(self.before)
        shutil.rmtree(self.folder)

    def git(self, *words):
        published.run(self.root, "git", *words)

    def nth(self, number):
        return list(self.versions)[number % len(self.versions)]

    def place(self, version):
        return Path(f".mmpipe/models/fusion@{version}")

    def source(self, place):
        return str(self.folder / place)

    def reachable(self, version, place=AWAY):
        """Whether the storage, or the cache of the folder, has all of a version whole."""
        if self.damaged is None or self.damaged[0] != self.versions[version]:
            return True
        name = self.damaged[1].relative_to(self.store)
        return place == "work" and (self.root / ".dvc/cache" / name).exists()

    def commit(self, number):
        bundle.write(self.root / BUNDLE, published.contents(number))
        dvc(self.root, "commit", "--force")
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message", f"model {number}")
        dvc(self.root, "push")

    @rule(again=st.booleans(), abandon=st.booleans())
    def publish(self, again, abandon):
        """A new model, or (`again`) the first one's bytes; `abandon`: one before it stays without a tag."""
        number = 1 + max([0, *self.versions.values(), *self.abandoned])
        if abandon:
            self.commit(number)
            self.abandoned.append(number)
            number += 1
        if again:
            number = min(self.versions.values(), default=number)
        self.commit(number)
        version = tags.bump(next(reversed(self.versions), None), "minor")
        digest = bundle.read(self.root / BUNDLE).digest
        message = messages.write(f"fusion {version}", {"Bundle-SHA256": digest})
        gto_tags.register(self.root, "fusion", version, commit="HEAD", message=message)
        self.git("push", "--quiet", "origin", "main", f"fusion@{version}")
        self.versions[version] = number

    @rule(number=ANY)
    def promote(self, number):
        version = self.nth(number)
        changed = self.way[-1:] != [version]
        assert promote(self.root, f"fusion@{version}", TERMS).changed == changed
        self.way += [version] * changed

    @rule()
    def roll_back(self):
        if len(self.way) < 2:
            with pytest.raises(NotFoundError, match="tag-missing"):
                rollback(self.root, terms=TERMS)
        else:
            assert rollback(self.root, terms=TERMS).before == self.way.pop()

    @rule(number=ANY, by=st.sampled_from(["version", "stage", "latest"]), into=st.booleans(), near=ANY)
    def pull(self, number, by, into, near):
        """From the bare repository, or one time in four from the folder that has a cache."""
        version, place = self.nth(number), AWAY if near % 4 else "work"
        spec = {"version": f"fusion@{version}", "stage": "fusion#prod", "latest": "fusion@latest"}[by]
        if by == "stage" and not self.way:
            with pytest.raises(NotFoundError, match="tag-missing"):
                pull(spec, source=self.source(place))
            return
        version = {"stage": self.way[-1:], "latest": list(self.versions)}.get(by, [version])[-1]
        wanted, target = self.versions[version], MODEL if into else None
        whole = self.here.get(version) == wanted
        if not whole and not self.reachable(version, place):
            with pytest.raises(MmpipeError, match="object-"):
                pull(spec, source=self.source(place), into=target)
            return
        found = pull(spec, source=self.source(place), into=target)
        assert (found.origin.version, found.fetched) == (version, not whole)
        assert found.folder == (target or self.place(version))
        self.here[version] = wanted
        if into:
            self.model = wanted
            assert {path.name for path in Path().iterdir()} == {".mmpipe", "model"}

    @rule(number=ANY, moment=st.integers(0, MOMENTS))
    def kill(self, number, moment):
        """A pull into `model`, at one of its touches of a file: each folder is as before, or as after."""
        version = self.nth(number)
        ended = self.pulls(f"fusion@{version}", self.folder / AWAY, Path.cwd(), moment)
        possible = self.here.get(version) == self.versions[version] or self.reachable(version)
        assert ended in ((killed.FINISHED, -9) if possible else (killed.FAILED, -9))
        for folder, known in ((self.place(version), self.here.get(version)), (MODEL, self.model)):
            if possible and self.found(folder, known) != known:
                known = self.versions[version]
            assert self.found(folder, known) == known
            assert ended == -9 or not possible or known == self.versions[version]
            if folder == MODEL:
                self.model = known
            elif known is not None:
                self.here[version] = known

    @rule(number=ANY, model=st.booleans(), file=ANY, place=ANY)
    def damage_a_folder(self, number, model, file, place):
        version = self.nth(number)
        folder, known = (MODEL, self.model) if model else (self.place(version), self.here.get(version))
        if known in (None, BROKEN):
            return
        files = sorted(folder.iterdir())
        flip(files[file % len(files)], place)
        if model:
            self.model = BROKEN
        else:
            self.here[version] = BROKEN

    @rule()
    def clear(self):
        shutil.rmtree(".mmpipe/models", ignore_errors=True)
        self.here.clear()

    @rule(number=ANY, name=st.sampled_from(OBJECTS), place=ANY)
    def damage_the_storage(self, number, name, place):
        if self.damaged is None:
            contents = self.versions[self.nth(number)]
            self.objects = published.objects(self.store, contents)
            path = self.objects[name]
            self.damaged = contents, path, path.read_bytes()
            flip(path, place)

    @precondition(lambda self: self.damaged)
    @rule(push=st.booleans())
    def repair(self, push):
        """By the good bytes, or (`push`) as the error's fix says, where the cache still has them."""
        contents, path, good = self.damaged
        cache = self.root / ".dvc/cache"
        cached = all((cache / one.relative_to(self.store)).exists() for one in self.objects.values())
        if push and cached:
            path.unlink()
            self.objects[".dir"].unlink(missing_ok=True)
            dvc(self.root, "push", "--all-tags")
        else:
            path.write_bytes(good)
        self.damaged = None
        for version in [version for version, number in self.versions.items() if number == contents]:
            self.audit(list(self.versions).index(version))

    @precondition(lambda self: not self.damaged)
    @rule(cloud=st.booleans(), fresh=st.booleans())
    def collect_garbage(self, cloud, fresh):
        """`fresh`: as in a new clone, without a cache."""
        if fresh:
            shutil.rmtree(self.root / ".dvc/cache")
        dvc(self.root, "gc", "--workspace", "--all-tags", "--force", *(["--cloud"] if cloud else []))
        for number in self.versions.values():
            published.objects(self.store, number)
        for number in self.abandoned if cloud else ():
            with pytest.raises(AssertionError):
                published.objects(self.store, number)
        if cloud:
            self.abandoned.clear()

    @rule(number=ANY)
    def audit(self, number):
        version = self.nth(number)
        checked = audit.tag(f"fusion@{version}", self.source(AWAY))
        assert [one.fault is None for one in checked] == [self.reachable(version)] * 2

    def found(self, folder, known):
        """The contents that lie in a folder: those that are known to, else of any version."""
        if not folder.exists():
            return None
        try:
            files = bundle.read(folder).files
        except VerificationError:
            return BROKEN
        numbers = [n for n in (known, *self.versions.values()) if n and n > 0]
        return next(number for number in numbers if published.contents(number) == files)

    @invariant()
    def each_folder_is_one_published_version(self):
        for folder, known in ((MODEL, self.model), *((self.place(v), n) for v, n in self.here.items())):
            assert self.found(folder, known) == known
            if known not in (None, BROKEN):
                assert not [one for one in audit.folder(folder) if one.fault]
        holder = tagged.read(self.folder / AWAY).holder("fusion", "prod")
        assert (holder.version if holder else None) == (self.way[-1] if self.way else None)


def machine(empty, pulls):
    return type("Life", (Life,), {"empty": empty, "pulls": pulls})


def run(made, examples, steps):
    quiet = [HealthCheck.too_slow, HealthCheck.filter_too_much]
    chosen = settings(
        max_examples=examples, stateful_step_count=steps, deadline=None, suppress_health_check=quiet
    )
    run_state_machine_as_test(made, settings=chosen)


def test_a_life_with_all_that_happens(empty, pulls):
    life = machine(empty, pulls)()
    try:
        life.start()
        life.publish(again=False, abandon=True)
        for moment in (0, 20, 57, 90):  # nothing yet; half a bundle; half placed; swapped
            life.kill(1, moment)
            life.each_folder_is_one_published_version()
        for number in (0, 1):
            life.promote(number)
        life.roll_back()
        life.pull(0, "stage", into=True, near=1)
        for name in (".dir", "model.safetensors"):  # repaired by pushing them again
            life.clear()
            life.damage_the_storage(1, name, place=0)
            life.pull(0, "latest", into=True, near=1)
            life.audit(1)
            life.each_folder_is_one_published_version()
            life.repair(push=True)
        life.damage_a_folder(1, model=True, file=1, place=3)
        life.each_folder_is_one_published_version()
        life.collect_garbage(cloud=True, fresh=True)
        life.pull(0, "version", into=True, near=0)
        life.each_folder_is_one_published_version()
        assert (life.model, life.way, len(life.versions), life.here) == (1, ["v1.0.0"], 2, {"v1.0.0": 1})
    finally:
        life.teardown()


def test_some_lives_of_published_models(empty, pulls):
    run(machine(empty, pulls), examples=3, steps=8)


@pytest.mark.slow
def test_many_lives_of_published_models(empty, pulls):
    run(machine(empty, pulls), examples=12, steps=25)
