"""The one place where a run asks the gate and the registry: judge, publish, promote, what is known."""

import json
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mmpipe import bundle, paths
from mmpipe.errors import MmpipeError, NotFoundError
from mmpipe.retrain.apart import call, program
from mmpipe.retrain.children import Say, stream
from mmpipe.retrain.worktree import Worktree

CHAMPION = "fusion#prod"
BOT = {
    "GIT_AUTHOR_NAME": "mmpipe bot",
    "GIT_AUTHOR_EMAIL": "mmpipe-bot@localhost",
    "GIT_COMMITTER_NAME": "mmpipe bot",
    "GIT_COMMITTER_EMAIL": "mmpipe-bot@localhost",
}
_REFUSED = 5


def bundle_sha256(root: Path) -> str:
    """Of the model that the stages left, every file of it checked."""
    return bundle.read(root / paths.BUNDLE).digest


def version_of(root: Path, digest: str) -> str | None:
    """The tag of the version that has this very bundle."""
    from mmpipe.registry import tagged

    found = [version.tag for version in tagged.read(root).versions if version.bundle_sha256 == digest]
    return found[-1] if found else None


def champion(root: Path) -> str | None:
    """The tag of the version that holds the stage `prod`."""
    from mmpipe.registry import tagged

    try:
        return tagged.read(root).resolve(CHAMPION).tag
    except NotFoundError:
        return None


def unpromoted(root: Path, tag: str) -> bool:
    """Whether a run published this version, the gate let it pass, and no stage was ever given to it."""
    from mmpipe.registry import tagged

    registry = tagged.read(root)
    version = next((version for version in registry.versions if version.tag == tag), None)
    if version is None or version.who != BOT["GIT_COMMITTER_NAME"]:
        return False
    passed = (version.gate or {}).get("verdict") in ("promote", "none")
    return passed and not any(a.version == version.version for a in registry.assignments)


async def judge(tree: Worktree, say: Say) -> dict[str, Any]:
    """`mmpipe gate` on the new model: {verdict: promote or refuse, champion, reasons, figures}."""
    words: list[str] = []

    def hear(line: str) -> None:
        words.append(line)
        say(line)

    with tempfile.TemporaryDirectory(prefix="mmpipe-") as scratch:
        answer = Path(scratch, "verdict.json")
        command = program("gate", "--json", "--champion", CHAMPION)
        environment = tree.environment
        status = await stream(command, cwd=tree.root, environment=environment, say=hear, output=answer)
        text = answer.read_text("utf-8")
    if status not in (0, _REFUSED) or not text.strip():
        raise MmpipeError(
            "step-failed", f"ended with {status}: {' / '.join(words[-5:])}", where="mmpipe gate"
        )
    verdict: dict[str, Any] = json.loads(text)
    return verdict


async def publish_apart(
    tree: Worktree, verdict: Mapping[str, Any], say: Say, *, dry_run: bool
) -> dict[str, Any]:
    """`publish` in a process of its own, by the bot."""
    arguments = {"verdict": dict(verdict), "dry_run": dry_run}
    variables = {**tree.environment, **BOT}
    found: dict[str, Any] = await call("publish", arguments, cwd=tree.root, variables=variables, say=say)
    return found


async def promote_apart(tree: Worktree, tag: str, why: str, say: Say) -> dict[str, Any]:
    """`promote` in a process of its own, by the bot."""
    arguments = {"spec": tag.replace("=", ":"), "why": why}
    variables = {**tree.environment, **BOT}
    found: dict[str, Any] = await call("promote", arguments, cwd=tree.root, variables=variables, say=say)
    return found


async def push_apart(tree: Worktree, say: Say) -> list[str]:
    """`push` in a process of its own."""
    variables = {**tree.environment, **BOT}
    found: list[str] = await call("push", {}, cwd=tree.root, variables=variables, say=say)
    return found


def push() -> list[str]:
    """Push the bot's tags that the git remote lacks."""
    from mmpipe.registry import backlog

    return backlog.push(Path(), who=BOT["GIT_COMMITTER_NAME"])


def publish(*, verdict: Mapping[str, Any], dry_run: bool) -> dict[str, Any]:
    """Give the model of the current folder its version, the verdict in its tag; data and tag are pushed."""
    from mmpipe.registry.publish import Wishes
    from mmpipe.registry.publish import publish as publish_model

    return asdict(publish_model(Path(), Wishes(dry_run=dry_run, detached=dry_run), judge=lambda *_: verdict))


def promote(*, spec: str, why: str) -> dict[str, Any]:
    """Give the stage `prod` to a version."""
    from mmpipe.registry.promote import Terms
    from mmpipe.registry.promote import promote as promote_version

    return asdict(promote_version(Path(), spec, Terms(why=why)))
