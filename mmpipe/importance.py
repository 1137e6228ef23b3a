"""How much each modality matters over a split: Shapley values of the figure, and what shuffling it costs.

Of the task's own figure, the higher the better (errors negated), on samples that can be scored. Shapley:
exact, over the model's answers with every subset of modalities shown. Shuffled: among the samples that have
the modality it is dealt out anew (Breiman 2001), so that it is there and says what is true of another.
Intervals are of a bootstrap over groups. And whether fusion beats the best single modality, paired.
Modalities without which there is no answer are always shown: only of the others is it asked.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmpipe import contribution, findings, metrics, paired
from mmpipe.metrics import Floats
from mmpipe.scorecard import Numbers, Scores
from mmpipe.tasks.task import Decoding, Task

ALPHA = 0.025
"""Largest chance of saying that fusion beats a single modality where it does not; half of 5 %, one-sided."""


TEXTS = 500
"""Texts that are written to see what shuffling a modality costs, or one a sample where there are more: each
is searched for."""


@dataclass(frozen=True)
class Evidence:
    """Outputs besides those of `scores`: (N, …) of `nothing` shown, and {modality: (R, N, …)} `shuffled`.

    Of a task that reads texts as words, R times those `words` of each sample, shuffled; it needs a recording,
    so that of nothing there is no output.
    """

    scores: Scores
    nothing: Floats | None = None
    shuffled: Mapping[str, Floats] = field(default_factory=dict)
    words: Sequence[Sequence[str]] = ()


@dataclass(frozen=True)
class _Judge:
    """A figure of the samples that can be scored: what to sum of answers, what is true of them, groups."""

    task: Task
    decoding: Decoding
    scores: Scores
    wanted: NDArray[Any]
    labels: list[str]

    @property
    def measure(self) -> paired.Measure:
        return self.task.rules.measures[self.task.rules.headline]

    def answers(self, logits: Floats, words: Sequence[str] = ()) -> Floats:
        """(N, …) of outputs (N, …), as the task's rules read them. `words`: of each sample, to help it."""
        names, here = sorted(self.scores.present), self.scores.present
        given = [tuple(m for m in names if here[m][row]) for row in range(len(logits))]
        said = self.task.says({self.scores.full: logits}, given, self.decoding, words)
        used = {"model": "", "bundle_sha256": ""}
        found = [
            self.task.answer(**one, modalities=some, **used) for one, some in zip(said, given, strict=True)
        ]
        return self.task.rules.clean(self.task.given(found, self.labels))

    def estimates(
        self, parts: Sequence[Floats], rows: NDArray[np.bool_], mix: Floats, *, resamples: int
    ) -> list[metrics.Estimate]:
        """Of the figures of `parts`, (N, …) answers each, the sums that the columns of `mix` weigh."""
        columns = [self.measure.columns(part[rows], self.wanted[rows]) for part in parts]

        def statistic(sums: Floats) -> Floats:
            values = [self.measure.value(own) for own in np.split(sums, len(parts), axis=1)]
            return np.asarray(np.stack(values, axis=1) @ mix)

        table = np.concatenate(columns, axis=1)
        return metrics.estimates(table, self.scores.group[rows], statistic, resamples=resamples)


def measure(
    task: Task, decoding: Decoding, evidence: Evidence, cells: Mapping[str, str], *, resamples: int
) -> Numbers:
    """`importance`, a row a modality, and `single_gain`; nothing of a task that has none, or of one modality.

    Where there is no answer without some modality, no single one is fusion's rival, and there is no gain.
    `cells`: {id: the target as it is stored} of the samples that can be scored. Numbers rounded to 6 digits.
    """
    scores = evidence.scores
    names = sorted(scores.present.keys() - task.needs)
    if not task.weighed or not names or len(scores.present) < 2:
        return {}
    inside = answerable(task, scores)
    some = next(iter(cells.values()))
    rows = [{"target": cells[name] if good else some} for name, good in zip(scores.ids, inside, strict=True)]
    judge = _Judge(task, decoding, scores, *task.truth(rows, [decoding]))
    answers = _answers(judge, evidence, names)
    everything = answers["+".join(names)]
    shares = _shapley(judge, answers, names, inside, resamples=resamples)
    found = []
    for m in names:
        having = scores.present[m] & inside
        row = {"modality": m, "figure": task.rules.headline, **shares[m].paired("shapley")}
        row["samples"] = int(having.sum())
        if (others := _repeats(judge, evidence, m)) and having.any():
            row |= _drop(judge, everything, others, having, resamples)
        found.append(row)
    single = {} if task.needs else {"single_gain": _single(judge, answers, resamples)}
    told: Numbers = metrics.rounded({"importance": found, **single})
    return told


def answerable(task: Task, scores: Scores) -> NDArray[np.bool_]:
    """(N,): the samples that have a modality of the model, and all that the task cannot do without."""
    inside = scores.scored(scores.full)
    for m in sorted(task.needs):
        inside = inside & scores.present[m]
    return inside


def repeats(task: Task, asked: int, samples: int) -> int:
    """How often to shuffle each modality where `evaluate.permutations` asks for so many: of texts fewer."""
    return min(asked, max(1, TEXTS // samples)) if task.kind == "text" else asked


def warnings(found: Mapping[str, Any]) -> list[str]:
    """What a person should look at, in sentences: a fusion that is not shown to beat a single modality."""
    gain = found.get("single_gain")
    if not gain or gain["p"] <= ALPHA:
        return []
    interval = f"[{findings.signed(gain['low'])}, {findings.signed(gain['high'])}]"
    words = f"{gain['figure']} {findings.signed(gain['gain'])} {interval}, p = {gain['p']:.2g}"
    what = f"fusion is not shown to beat its best single modality, {gain['over']}: {words}"
    return [f"{what}; the other modalities may add nothing"]


def table(found: Mapping[str, Any]) -> list[findings.Block]:
    """For a page: a row a modality."""
    rows = [
        [
            one["modality"],
            one["shapley"],
            one["shapley_95"],
            one.get("drop"),
            one.get("drop_95"),
            one["samples"],
        ]
        for one in found.get("importance", [])
    ]
    if not rows:
        return []
    figure = found["importance"][0]["figure"].replace("_", " ")
    caption = (
        f"What each modality does for the {figure}: its Shapley value, which is what it adds on joining the "
        "others, averaged over every order of joining; and what is lost when it is shuffled among the samples"
        " that have it, on these samples. Better is positive, of errors, too."
    )
    columns = [("modality", "words"), ("adds", "signed"), ("95 %", "numbers")]
    columns += [("lost when shuffled", "signed"), ("95 %", "numbers"), ("samples that have it", "count")]
    return [findings.table(caption, columns, rows)]


def _answers(judge: _Judge, evidence: Evidence, names: Sequence[str]) -> dict[str, Floats]:
    """{subset of `names`: answers}, beside what the task cannot do without."""
    found, scores = {}, judge.scores
    for game in contribution.games(names):
        shown = sorted({*judge.task.needs, *filter(None, game.split("+"))})
        logits = scores.logits["+".join(shown)] if shown else evidence.nothing
        assert logits is not None  # where nothing is needed
        found[game] = judge.answers(logits, scores.words if "text" in shown else ())
    return found


def _repeats(judge: _Judge, evidence: Evidence, modality: str) -> list[Floats]:
    """Answers where the modality is another sample's."""
    if modality == "text" and evidence.words:
        heard = judge.scores.logits[judge.scores.full]
        return [judge.answers(heard, words) for words in evidence.words]
    return [judge.answers(of) for of in evidence.shuffled.get(modality, ())]


def _shapley(
    judge: _Judge,
    answers: Mapping[str, Floats],
    names: Sequence[str],
    inside: NDArray[np.bool_],
    *,
    resamples: int,
) -> dict[str, metrics.Estimate]:
    games = contribution.games(names)
    units = [contribution.shapley({game: float(game == one) for game in games}, names) for one in games]
    mix = np.array([[unit[m] for m in names] for unit in units])
    parts = [answers[game] for game in games]
    return dict(zip(names, judge.estimates(parts, inside, mix, resamples=resamples), strict=True))


def _drop(
    judge: _Judge, before: Floats, repeats: Sequence[Floats], having: NDArray[np.bool_], resamples: int
) -> Numbers:
    """The figure less the mean of those of the repeats."""
    mix = np.array([[1.0], *[[-1 / len(repeats)]] * len(repeats)])
    [drop] = judge.estimates([before, *repeats], having, mix, resamples=resamples)
    return drop.paired("drop")


def _single(judge: _Judge, answers: Mapping[str, Floats], resamples: int) -> Numbers | None:
    """Fusion against the modality that is best alone, among those that half of the samples have, or more.

    It is chosen on the samples that it is then measured on, which flatters it: fusion has the harder side.
    """
    scores, few = judge.scores, judge.scores.scored(judge.scores.full).sum() / 2
    values = {
        m: judge.measure.of(answers[m][here], judge.wanted[here])
        for m, here in scores.present.items()
        if here.any() and here.sum() >= few
    }
    if not values:
        return None
    best = max(sorted(values), key=lambda m: values[m])
    here = scores.present[best]
    pair = answers[best][here], answers[scores.full][here]
    gain = paired.gain(
        judge.measure, pair, judge.wanted[here], scores.group[here], alpha=ALPHA, resamples=resamples
    )
    return {
        "over": best,
        "figure": judge.task.rules.headline,
        "gain": gain.value,
        "low": gain.low,
        "high": gain.high,
        "p": gain.p_no_more,
        "samples": int(here.sum()),
    }
