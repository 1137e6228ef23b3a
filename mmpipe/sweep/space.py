"""What a sweep may choose from: of each key of `params.yaml` a range or a few values."""

import difflib
import itertools
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pydantic import ValidationError

from mmpipe import trees
from mmpipe.errors import InvalidError, UsageError
from mmpipe.params import Params
from mmpipe.section import problems

_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_RANGE = re.compile(rf"({_NUMBER})\.\.({_NUMBER})(?::(.*))?")
MAX_POINTS = 10_000
Scalar = str | int | float | bool | None


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`, both among them; whole ones where `whole`.

    `log`: as many from 1 to 10 as from 10 to 100. `step`: only these; None = any.
    """

    low: float
    high: float
    whole: bool
    log: bool = False
    step: float | None = None

    @property
    def points(self) -> list[Scalar] | None:
        """All that there are; None where they are too many to tell."""
        if self.step is None and not self.whole:
            return None
        count = round((self.high - self.low) / (self.step or 1)) + 1
        found = [self.low + number * (self.step or 1) for number in range(min(count, MAX_POINTS + 1))]
        return [int(one) if self.whole else round(one, 12) for one in found]

    @property
    def ends(self) -> list[Scalar]:
        """The values that are checked: if both are allowed, so is what lies between."""
        return [int(end) if self.whole else end for end in (self.low, self.high)]


@dataclass(frozen=True)
class Choice:
    """One of these values; of a single one, always that."""

    values: tuple[Scalar, ...]

    @property
    def points(self) -> list[Scalar] | None:
        """All that there are."""
        return list(self.values)

    @property
    def ends(self) -> list[Scalar]:
        """The values that are checked: all."""
        return list(self.values)


Space = dict[str, Range | Choice]


def parse(given: Sequence[str], params: Params) -> Space:
    """`KEY=LOW..HIGH`, `KEY=LOW..HIGH:log`, `KEY=LOW..HIGH:STEP`, or `KEY=VALUE,VALUE,…`.

    Whether a range has whole numbers only is taken from what the key holds in `params`, else from its ends.
    Raises UsageError `sweep-space` for what is no such thing, InvalidError `params` for a key that
    params.yaml does not have, or a value that it does not take.
    """
    space: Space = {}
    for pair in given:
        key, equals, text = pair.partition("=")
        if not equals or not key or not text:
            raise UsageError("sweep-space", f"{pair!r} is not KEY=RANGE", where="--set")
        if key in space:
            raise UsageError("sweep-space", f"{key!r} is given twice", where="--set")
        held = trees.flat(params.model_dump()).get(key)
        space[key] = _range(pair, found, held) if (found := _RANGE.fullmatch(text)) else _choice(pair, text)
        _check(key, space[key])
    if not any(len(set(map(str, one.ends))) > 1 for one in space.values()):
        raise UsageError("sweep-space", "nothing is left to choose", where="--set")
    return space


def points(space: Mapping[str, Range | Choice]) -> list[dict[str, Scalar]] | None:
    """Every combination there is; None where they are more than `MAX_POINTS`."""
    each = [space[key].points for key in sorted(space)]
    known = [some for some in each if some is not None]
    if len(known) < len(each) or math.prod(map(len, known)) > MAX_POINTS:
        return None
    return [dict(zip(sorted(space), values, strict=True)) for values in itertools.product(*known)]


def describe(space: Mapping[str, Range | Choice]) -> dict[str, Any]:
    """The space as JSON holds it: equal for equal spaces."""
    described: dict[str, Any] = json.loads(json.dumps({key: asdict(space[key]) for key in sorted(space)}))
    return described


def _range(pair: str, found: re.Match[str], held: Any) -> Range:
    low, high, how = float(found[1]), float(found[2]), found[3]
    if not low < high:
        raise UsageError("sweep-space", f"{pair!r}: a range goes up, {low:g} to {high:g} does not")
    whole = not isinstance(held, float) and all(re.fullmatch(r"[-+]?\d+", found[side]) for side in (1, 2))
    if how is None:
        return Range(low, high, whole)
    if how == "log":
        if low <= 0:
            raise UsageError("sweep-space", f"{pair!r}: a log range begins above 0, not at {low:g}")
        return Range(low, high, whole, log=True)
    step = float(how) if re.fullmatch(_NUMBER, how) else 0.0
    if not 0 < step <= high - low or (whole and not step.is_integer()):
        what = f"{pair!r}: behind the colon comes log or a step of at most {high - low:g}, not {how!r}"
        raise UsageError("sweep-space", what)
    last = low + step * int((high - low) / step + 1e-9)
    return Range(low, round(last, 12), whole, step=step)


def _choice(pair: str, text: str) -> Choice:
    if re.match(r"[-+]?\.?\d[^,/]*\.\.", text):
        what = f"{pair!r} is no range: LOW..HIGH, LOW..HIGH:log or LOW..HIGH:STEP of two numbers"
        raise UsageError("sweep-space", what)
    values = tuple(_scalar(part) for part in text.split(","))
    if len(set(map(repr, values))) < len(values):
        raise UsageError("sweep-space", f"{pair!r} names a value twice")
    return Choice(values)


def _scalar(text: str) -> Scalar:
    """A value as JSON has it, else the text."""
    try:
        found = json.loads(text)
    except ValueError:
        return text
    return found if isinstance(found, Scalar) else text


def _check(key: str, one: Range | Choice) -> None:
    """Every end by itself, as far as its own field goes: what makes no sense together is for each trial."""
    parts = key.split(".")
    for value in one.ends:
        tree: Any = value
        for part in reversed(parts):
            tree = {part: tree}
        try:
            Params.model_validate(tree)
        except ValidationError as error:
            for item, (_, words) in zip(error.errors(), problems(Params, error), strict=True):
                if item["type"] != "value_error" or len(item["loc"]) >= len(parts):
                    fix = "see `mmpipe params` for the keys and what they take"
                    raise InvalidError("params", f"{words}{_meant(key)}", where="--set", fix=fix) from None


def _meant(key: str) -> str:
    """The key of that name in another section."""
    keys = list(trees.flat(Params().model_dump()))
    if "." in key or key in Params.model_fields:
        return ""
    same = [known for known in keys if known.rpartition(".")[2] == key]
    near = same or difflib.get_close_matches(key, keys, n=1)
    return f", did you mean {near[0]!r}?" if near else ""
