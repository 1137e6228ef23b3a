"""What one retraining is asked to do, as a form: every field has its description."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mmpipe.errors import UsageError


class GateWishes(BaseModel):
    """What the gate asks in this run, where it is to differ from params.yaml; empty = as there."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    metric: str | None = None
    """What must be better on the test samples: accuracy, macro_f1, nll, or another figure of the task."""
    rule: Literal["better", "not_worse"] | None = None
    """`better`: shown to gain more than min_gain; `not_worse`: not shown to lose."""
    min_gain: float | None = None
    """A share (of nll: nats); below 0, a loss that is allowed."""
    alpha: Annotated[float, Field(gt=0, lt=0.5)] | None = None
    """Largest chance that the rule shows what is not so."""
    max_recall_drop: Annotated[float, Field(ge=0, le=1)] | None = None
    """No class's recall may fall by more, where chance does not explain it."""

    def wishes(self) -> dict[str, Any]:
        """Those that were made; a form sends the empty ones along."""
        return self.model_dump(exclude_none=True)


class Options(BaseModel):
    """One retraining: from which commit, with which data and parameters, and what becomes of the result."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    set: dict[str, Any] = Field(default={}, examples=[{"train.lr": 0.001, "train.epochs": 40}])
    """Parameters of params.yaml for this run, by their names with dots."""
    landing: str | None = None
    """Folder with new samples: tables like the workspace's own manifest with their files, or one folder a
    class. Relative to the workspace. Samples that an earlier run took are known and not taken again."""
    update_imports: bool = False
    """Bring what `dvc import` or `dvc import-url` tracks below data/raw up to date first."""
    start: str = "HEAD"
    """Commit or branch to start from. From HEAD, samples that landed in earlier runs come along; from any
    other, exactly that commit is taken."""
    branch: str | None = None
    """Branch that gets the commit, which then also is what the run starts from; empty: a new branch
    `retrain/<number>`. It must not be checked out anywhere."""
    gate: GateWishes = GateWishes()
    """What the new model must show to take the champion's place."""
    publish: Literal["yes", "no", "dry-run"] = "yes"
    """`yes`: commit, and if the gate lets the model pass, tag and push. `dry-run`: say what would be done.
    `no`: only train and judge."""
    promote: bool = True
    """Give a model that was published the stage `prod`."""
    force_run: bool = False
    """Run every stage, also those that did not change, and judge a model that was judged before."""
    wait_s: Annotated[float, Field(ge=0)] = 0.0
    """If another run is in progress, wait so many seconds for its end."""

    def overrides(self) -> dict[str, Any]:
        """All that differs from the params.yaml of the commit."""
        return {**self.set, **{f"gate.{name}": value for name, value in self.gate.wishes().items()}}


def parsed(wishes: Mapping[str, Any]) -> Options:
    """The options with these values. Raises UsageError `usage` for those that are not allowed."""
    try:
        return Options.model_validate(dict(wishes))
    except ValidationError as error:
        told = (f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors())
        raise UsageError("usage", "; ".join(told)) from None
