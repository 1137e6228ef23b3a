"""One training as `params.yaml` asks for it: its network, its loop, and what is fitted across folds."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from mmpipe import (
    augment,
    batches,
    objective,
    paths,
    runtime,
    schema,
    split,
    stacking,
    tables,
    targets,
    train,
)
from mmpipe.epochs import Epochs
from mmpipe.model.fusions.opinions import Stacking
from mmpipe.model.network import Network, build_model
from mmpipe.params import Params
from mmpipe.resume import States
from mmpipe.stages import backbones
from mmpipe.tasks.task import Loss

Data = tuple[batches.Dataset, batches.Dataset]
"""Train and validation."""
ELSEWHERE = {"precision", "threads", "deterministic", "stacking_folds", "budget"}
"""Of the section `train`: what the loop itself does not take."""


@dataclass(frozen=True)
class Job:
    """What a training is made with, the samples aside. `architecture`: the arguments of `build_model`."""

    params: Params
    architecture: dict[str, Any]
    machine: runtime.Runtime
    states: States

    @property
    def settings(self) -> train.Settings:
        """Of the loop."""
        loop = self.params.train.model_dump(exclude=ELSEWHERE)
        return train.Settings(**loop, goal=objective.Settings(**self.params.objective.model_dump()))

    def network(self, data: batches.Dataset, *more: int) -> Network:
        """Fresh but for pretrained weights, knowing the statistics of `data`. `more`: of its seed."""
        runtime.seed_all(self.params.train.seed, *more)
        network = build_model(**self.architecture)
        backbones.start(network, self.params)
        network.fit_statistics(data)
        return network.to(self.machine.device)

    def fit(
        self, network: Network, data: Data, states: States, on_epoch: Callable[[train.Row], None]
    ) -> train.Progress:
        """Train `network` as the parameters say."""
        return train.fit(
            network,
            data,
            self.settings,
            augmentation=augment.Settings(**self.params.augment.model_dump()),
            machine=self.machine,
            states=states,
            on_epoch=on_epoch,
        )

    def loss(self, network: Network, data: batches.Dataset) -> Loss:
        """By which opinions of held-out samples are joined: rare classes count as in training on `data`."""
        wishes = self.settings.wishes.corrections(balanced=self.settings.sampling == "balanced")
        each: Loss = network.task.rule(data.target, wishes, outputs=network.outputs).each
        return each

    def folds(self, data: batches.Dataset, kind: str) -> list[int]:
        """Which fold each train sample is of, by the groups and targets of the split. `kind`: of targets.

        Raises InvalidError `split-too-few` where the groups do not fill the folds.
        """
        rows = {row["id"]: row for row in tables.read(paths.SPLITS, schema.SPLIT).to_pylist()}
        mine, on = [rows[name] for name in data.ids], self.params.train
        strata = targets.strata(kind, [row["target"] for row in mine])
        groups = [row["group"] for row in mine]
        return split.folds(data.ids, strata, groups, count=on.stacking_folds, seed=on.seed)

    def stack(self, network: Network, data: Data, folds: Sequence[int]) -> dict[str, float]:
        """Fit the combiner of `network` on out-of-fold opinions; killed, it goes on in its fold."""
        on = self.params.train

        def train_on(fold: int, some: batches.Dataset) -> Network:
            apart = self.network(some, 1 + fold)
            with Epochs(on.epochs, f"fold {fold + 1} of {on.stacking_folds}") as epochs:
                self.fit(apart, (some, data[1]), self.states.inner(f"fold-{fold}"), epochs.show)
            return apart

        assert isinstance(network.fusion, Stacking)
        found = stacking.out_of_fold(data[0], folds, train_on)
        return stacking.fit(network.fusion, found, data[0].target, each=self.loss(network, data[0]))
