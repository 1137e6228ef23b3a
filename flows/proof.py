"""The flow `reproduce-champion`: train the champion again from its own commit, and compare every byte."""

from pathlib import Path
from typing import Any

from prefect.states import Completed

from flows.retrain import Shown, end_with_runner, run_name
from flows.speaking import tell
from flows.sturdy import sturdy
from mmpipe.errors import LockedError, VerificationError
from mmpipe.retrain import registering, run
from mmpipe.retrain.options import Options
from mmpipe.retrain.run import Steps


@sturdy("reproduce-champion")
async def reproduce_champion(champion: str = registering.CHAMPION) -> Any:
    """Run every stage anew at the champion's commit: the model must have the very hash that its tag says.

    Nothing is committed. Raises VerificationError `hash-differs` for another model.
    """
    from mmpipe.registry import tagged

    end_with_runner()
    root = Path.cwd()
    version = tagged.read(root).resolve(champion)
    options = Options(start=version.commit, publish="no", promote=False, force_run=True)
    shown = Shown()
    steps = Steps(plan=shown.plan, stage=shown.stage, known=lambda _tree, _digest: None, judge=_unjudged)
    try:
        outcome = await run.retrain(options, root=root, name=run_name(options), steps=steps, tell=tell)
    except LockedError as error:
        return Completed(name="Skipped", message=error.what)
    if outcome.bundle_sha256 != version.bundle_sha256:
        found = outcome.bundle_sha256[:12] or outcome.reason
        what = f"gave {found}, its tag says {version.bundle_sha256[:12]}"
        raise VerificationError("not-reproduced", what, where=version.tag)
    return Completed(name="Reproduced", message=f"{version.tag} is {outcome.bundle_sha256[:12]} again")


async def _unjudged(*_: object) -> dict[str, Any]:
    """No gate: this is a proof, no candidate."""
    return {"verdict": "none", "reasons": ["only reproduced, not judged"]}
