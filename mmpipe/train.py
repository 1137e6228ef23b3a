"""The optimisation loop: what it computes is a function of its arguments, however often it is interrupted."""

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mmpipe import augment, batches, objective, runtime, validation
from mmpipe.errors import MmpipeError
from mmpipe.interrupt import Interrupt
from mmpipe.model.network import Network
from mmpipe.resume import States
from mmpipe.tasks.task import Wishes

Row = dict[str, float]


@dataclass(frozen=True)
class Settings:
    """Meanings are those of `train` in params.yaml."""

    seed: int
    epochs: int
    patience: int | None
    batch_size: int
    lr: float
    pretrained_lr: float
    weight_decay: float
    warmup_fraction: float
    label_smoothing: float
    class_weights: str
    regression: str
    modality_dropout: float
    auxiliary: float
    ema: float
    max_grad_norm: float
    checkpoint_steps: int
    sampling: str = "natural"
    goal: objective.Settings = field(default_factory=objective.Settings)

    @property
    def wishes(self) -> Wishes:
        """What of it the task's loss takes."""
        rare = {"focal": self.goal.focal, "logit_adjustment": self.goal.logit_adjustment}
        return Wishes(self.class_weights, self.label_smoothing, self.regression, **rare)


@dataclass
class Progress:
    """Where a training stands: the next step to do, and a row for each epoch done."""

    epoch: int = 0
    step: int = 0
    history: list[Row] = field(default_factory=list)
    best_epoch: int = -1

    @property
    def stale(self) -> int:
        """Epochs done since the best one."""
        return self.epoch - 1 - self.best_epoch


def fit(  # noqa: PLR0913 (all that a training is a function of)
    network: Network,
    data: tuple[batches.Dataset, batches.Dataset],
    settings: Settings,
    *,
    augmentation: augment.Settings,
    machine: runtime.Runtime,
    states: States,
    on_epoch: Callable[[Row], None],
) -> Progress:
    """Train on `data[0]`, choose the epoch by the loss on `data[1]`, and leave its weights in `network`.

    Without `patience` every epoch is done and the last one is chosen. "Loss" is what the task chooses by: of
    labels, the cross-entropy at its own best temperature, as how sure a model is can be mended afterwards.
    Goes on from the newest state in `states`; `on_epoch` gets a row for every epoch, replayed ones too.
    SIGTERM and SIGINT save a state first. Raises MmpipeError `train-not-finite` at the first step without a
    finite loss or gradient.
    """
    run = _Training(network, data, settings, augmentation, machine, states)
    run.restore()
    for row in run.progress.history:
        on_epoch(row)
    with Interrupt() as interrupt:
        while not run.finished:
            run.epoch(interrupt)
            on_epoch(run.progress.history[-1])
    network.load_state_dict(run.best)
    return run.progress


def learning_rate(step: int, *, total: int, warmup: int, peak: float) -> float:
    """Linear to `peak` over `warmup` steps, then half a cosine to 0 at `total`."""
    if step < warmup:
        return peak * (step + 1) / warmup
    return peak * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup)))


class _Training:
    """The moving parts of one run, and how they are saved and restored."""

    def __init__(
        self,
        network: Network,
        data: tuple[batches.Dataset, batches.Dataset],
        settings: Settings,
        augmentation: augment.Settings,
        machine: runtime.Runtime,
        states: States,
    ) -> None:
        self.settings, self.augmentation, self.machine, self.states = settings, augmentation, machine, states
        self.network = network.to(machine.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = copy.deepcopy(network) if settings.ema else None
        self.train, self.val = (part.to(machine.device) for part in data)
        self.objective = objective.build(
            network.modalities,
            joint=network.fusion.trained,
            auxiliary=settings.auxiliary if network.task.fuses else 0.0,
            settings=settings.goal,
        ).to(machine.device)
        self.optimizer = _optimizer(self._parameters(), settings)
        self.steps = len(batches.chunks(np.arange(len(self.train)), settings.batch_size))
        self.losses = torch.zeros(self.steps, device=machine.device)
        self.progress = Progress()
        self.best = _clone(network)
        self.targets = data[0].target.cpu().numpy()
        self.rule = network.task.rule(self.train.target, settings.wishes, outputs=network.outputs)

    @property
    def model(self) -> Network:
        """What is evaluated and kept."""
        return self.average if self.average is not None else self.network

    @property
    def finished(self) -> bool:
        """All epochs are done, or validation has not improved for `patience` of them."""
        stale = self.settings.patience is not None and self.progress.stale >= self.settings.patience
        return stale or self.progress.epoch >= self.settings.epochs

    def epoch(self, interrupt: Interrupt) -> None:
        """Do the rest of the epoch that progress stands in, validate, and save."""
        balanced = self.targets if self.settings.sampling == "balanced" else None
        rows = batches.order(
            len(self.train), seed=self.settings.seed, epoch=self.progress.epoch, balanced=balanced
        )
        parts = batches.chunks(rows, self.settings.batch_size)
        while self.progress.step < self.steps:
            self._step(parts[self.progress.step])
            self.progress.step += 1
            due = self.progress.step % self.settings.checkpoint_steps == 0
            if interrupt.pending or (due and self.progress.step < self.steps):
                self.save()
            interrupt.deliver()
        self._check_finite()
        self._close_epoch()
        self.save()
        interrupt.deliver()

    def save(self) -> None:
        """Write all that the next step depends on."""
        self._check_finite()
        tensors = {f"model.{name}": value for name, value in self.network.state_dict().items()}
        tensors |= {f"best.{name}": value for name, value in self.best.items()}
        if self.average is not None:
            tensors |= {f"ema.{name}": value for name, value in self.average.state_dict().items()}
        tensors |= {f"objective.{name}": value for name, value in self.objective.state_dict().items()}
        for name, parameter in self._parameters():
            tensors |= {f"adam.{key}.{name}": value for key, value in self.optimizer.state[parameter].items()}
        self.states.save({**tensors, "losses": self.losses}, asdict(self.progress))

    def restore(self) -> None:
        """Go back to the newest saved state, if there is one."""
        if (found := self.states.load()) is None:
            return
        tensors, progress = found
        self.progress = Progress(**progress)
        self.losses.copy_(tensors["losses"])
        self.network.load_state_dict(_under("model.", tensors))
        self.best = _under("best.", tensors)
        if self.average is not None:
            self.average.load_state_dict(_under("ema.", tensors))
        self.objective.load_state_dict(_under("objective.", tensors))
        for name, parameter in self._parameters():
            for key in ("step", "exp_avg", "exp_avg_sq"):
                if (saved := tensors.get(f"adam.{key}.{name}")) is not None:
                    self.optimizer.state[parameter][key] = _like_fresh(saved, parameter)

    def _parameters(self) -> list[tuple[str, nn.Parameter]]:
        """All that are learned, by names of their own."""
        return [*self.network.named_parameters(), *self.objective.named_parameters(prefix="objective")]

    def _step(self, rows: NDArray[np.int64]) -> None:
        """One update of the weights. All chance in it comes from (seed, epoch, step)."""
        settings, progress = self.settings, self.progress
        runtime.seed_all(settings.seed, progress.epoch, progress.step)
        done, total = progress.epoch * self.steps + progress.step, settings.epochs * self.steps
        warmup = int(settings.warmup_fraction * total)
        for group in self.optimizer.param_groups:
            peak = settings.lr * group["share"]
            group["lr"] = learning_rate(done, total=total, warmup=warmup, peak=peak)
        self.network.train()
        loss = self._loss(self.train.batch(rows).to(self.machine.device))
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), settings.max_grad_norm)
        self.optimizer.step()
        if self.average is not None:
            _average(self.average, self.network, min(settings.ema, (1 + done) / (10 + done)))
        self.losses[progress.step] = loss.detach() + 0 * norm  # not finite if either is not
        if self.machine.device.type == "cpu":
            self._check_finite(last=progress.step)

    def _loss(self, batch: batches.Batch) -> Tensor:
        settings = self.settings
        batch = augment.apply(batch, self.augmentation)
        hidden = 0.0 if self.network.task.needs else settings.modality_dropout
        present = augment.drop_modalities(batch.present, hidden)
        with self.machine.autocast():
            encoded = self.network.encode(batch)
            output = self.network.decode(encoded, present, batch.target)
        losses = self.network.task.losses(output, batch.target, batch.present, self.rule)
        if objective.CONTRASTIVE in self.objective.fixed:
            temperature = settings.goal.temperature
            losses[objective.CONTRASTIVE] = objective.contrastive(encoded, batch.present, temperature)
        return self.objective(losses)  # type: ignore[no-any-return]

    def _check_finite(self, last: int | None = None) -> None:
        """Raise at the first step of this epoch whose loss or gradient is NaN or infinite."""
        steps = self.progress.step if last is None else last + 1
        bad = (~self.losses[:steps].isfinite()).nonzero()
        if len(bad):
            place = f"epoch {self.progress.epoch}, step {int(bad[0])}"
            what = f"the loss or its gradient is not finite at {place}"
            done = f"stopped; the last good state is kept in {self.states.folder}"
            raise MmpipeError("train-not-finite", what, done=done)

    def _close_epoch(self) -> None:
        """Validate, note the row, keep the weights if they are to be chosen."""
        progress = self.progress
        row: Row = {"epoch": progress.epoch, "train_loss": round(float(self.losses.double().mean()), 6)}
        row["learning_rate"] = float(f"{self.optimizer.param_groups[0]['lr']:.6g}")
        row |= {f"weight_{name}": round(weight, 6) for name, weight in self.objective.now().items()}
        if len(self.val):
            held = validation.score(self.model, self.val, self.machine)
            row |= validation.measure(self.model.task, held)
        chosen_by = self.model.task.chooses
        past = [old[chosen_by] for old in progress.history if chosen_by in old]
        better = chosen_by not in row or row[chosen_by] < min(past, default=math.inf)
        if better or self.settings.patience is None:
            progress.best_epoch = progress.epoch
            self.best = _clone(self.model)
        progress.history.append(row)
        progress.epoch, progress.step = progress.epoch + 1, 0
        self.losses.zero_()


def _optimizer(parameters: list[tuple[str, nn.Parameter]], settings: Settings) -> torch.optim.AdamW:
    """No weight decay on biases, norms and other vectors; pretrained weights get a `share` of the rate."""
    groups = []
    for share, known in ((1.0, False), (settings.pretrained_lr, True)):
        some = [p for name, p in parameters if (".backbone." in name) is known]
        decay = {"params": [p for p in some if p.ndim > 1], "weight_decay": settings.weight_decay}
        plain = {"params": [p for p in some if p.ndim <= 1], "weight_decay": 0.0}
        groups += [one | {"share": share} for one in (decay, plain) if some]
    return torch.optim.AdamW(groups, lr=settings.lr, betas=(0.9, 0.99), fused=True)


def _like_fresh(saved: Tensor, parameter: Tensor) -> Tensor:
    """A saved part of the optimiser's state as a fused optimiser has it: all on the parameter's device.

    A moment has the parameter's layout in memory too, on which the order of sums may depend.
    """
    if saved.ndim == 0:  # the step
        return saved.to(parameter.device)
    return torch.empty_like(parameter.detach()).copy_(saved)


def _average(average: Network, network: Network, decay: float) -> None:
    """Move the running mean of weights and buffers towards the present ones."""
    with torch.no_grad():
        for mean, now in zip(average.state_dict().values(), network.state_dict().values(), strict=True):
            if mean.is_floating_point():
                mean.lerp_(now, 1 - decay)
            else:
                mean.copy_(now)


def _clone(network: Network) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in network.state_dict().items()}


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
