"""What came of one retraining: told to people by `summary`, to programs as JSON."""

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from mmpipe.retrain.stages import StageResult

Status = Literal["unchanged", "failed", "judged", "refused", "published", "promoted"]
"""`unchanged`: this very model was judged before. `judged`: by wish, nothing was committed."""
REFUSED = 5


@dataclass
class Outcome:
    """`started_at`: the commit that the run started from; `commit`, `branch`: what it made, if it did.

    `before` and `after`: the metrics files by name, of the commit and of the run. `samples`: what
    `compare.samples` says of the two sample tables; {} where they are the same. `verdict`: of the gate.
    `known`: the version or branch that has this very model already. `pushed`: the tags that an earlier run
    made and could not push.
    """

    run: str
    started_at: str
    status: Status = "failed"
    reason: str = ""
    seconds: float = 0.0
    values: dict[str, Any] = field(default_factory=dict)
    landed: dict[str, Any] = field(default_factory=dict)
    carried: list[str] = field(default_factory=list)
    updated: list[str] = field(default_factory=list)
    stages: list[StageResult] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    before: dict[str, Any] = field(default_factory=dict)
    after: dict[str, Any] = field(default_factory=dict)
    samples: dict[str, Any] = field(default_factory=dict)
    bundle_sha256: str = ""
    known: str | None = None
    pushed: list[str] = field(default_factory=list)
    verdict: dict[str, Any] | None = None
    branch: str | None = None
    commit: str | None = None
    published: dict[str, Any] | None = None
    promoted: dict[str, Any] | None = None
    stage_failed: str | None = None
    exit_status: int = 0

    def as_json(self) -> dict[str, Any]:
        """Names and numbers that JSON can hold."""
        return asdict(self)
