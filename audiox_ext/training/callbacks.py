"""What is done beside the steps: averaging, telling how far it is, validation, checkpoints; in this order."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer

from ..files import try_to_write
from .batches import Batch
from .module import TrainingModule, learning_rate

Report = Callable[[str], None]
"""Takes a line for the user."""

_VALIDATION = 2**63  # the seed of validation, far from those of the steps


class Supervision(Callback):
    """One of a training. checkpoint: where the last one lies. validation: gives the batches to validate with,
    the same each time.
    """

    validated_on = "held-out items"

    def __init__(self, checkpoint: Path, validation: Callable[[], Iterable[Batch]], report: Report) -> None:
        self._checkpoint, self._validation, self._report = checkpoint, validation, report
        self._recent: list[float] = []
        self._since = 0.0
        self._steps_since = 0

    def on_train_start(self, trainer: Trainer, module: TrainingModule) -> None:
        """Says where the training stands."""
        if trainer.global_step:
            self._report(f"Going on after step {trainer.global_step} of {module.settings.steps}.")
        self._restart_clock(trainer.global_step)

    def on_train_batch_end(
        self, trainer: Trainer, module: TrainingModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """After each step of the optimiser."""
        settings, done = module.settings, batch.step + 1
        module.average.update(done)
        self._recent.append(module.last_losses["loss"])
        last = done == settings.steps
        if done % settings.report_every == 0 or last:
            rate = learning_rate(settings, batch.step)
            self._log(trainer, {**module.last_losses, "learning_rate": rate}, done)
            self._report(self._progress(done, settings.steps))
        if (done % settings.validate_every == 0 or last) and settings.validation_items:
            self._report(self._validate(trainer, module, done))
        if done % settings.checkpoint_every == 0 or last or trainer.should_stop:
            try_to_write(self._checkpoint, trainer.save_checkpoint)

    def _progress(self, done: int, steps: int) -> str:
        seconds = (time.monotonic() - self._since) / max(1, done - self._steps_since)
        loss = sum(self._recent) / len(self._recent)
        self._restart_clock(done)
        return (
            f"step {done} of {steps}: loss {loss:.4f}, {seconds:.2f} s a step, "
            f"{spoken_time(seconds * (steps - done))} left"
        )

    @torch.no_grad()
    def _validate(self, trainer: Trainer, module: TrainingModule, done: int) -> str:
        begun = time.monotonic()
        with module.average.in_place():
            values = validation_losses(module, self._validation())
            more = self._validated(trainer, module, done, values)
        self._log(trainer, {f"validation_{name}": value for name, value in values.items()}, done)
        self._since += time.monotonic() - begun  # not the steps' time
        told = ", ".join(f"{name} {value:.4f}" for name, value in values.items())
        return f"step {done}: on {self.validated_on} {told}{more}"

    def _validated(
        self, trainer: Trainer, module: TrainingModule, done: int, values: dict[str, float]
    ) -> str:
        """For subclasses: called while the averaged weights are in place; returns what else is to be told."""
        return ""

    def _log(self, trainer: Trainer, values: dict[str, float], step: int) -> None:
        if trainer.logger is not None:
            trainer.logger.log_metrics(values, step)

    def _restart_clock(self, done: int) -> None:
        self._since, self._steps_since = time.monotonic(), done
        self._recent = []


@torch.no_grad()
def validation_losses(module: TrainingModule, batches: Iterable[Batch]) -> dict[str, float]:
    """Means over the batches, with the same random numbers each time."""
    found: list[dict[str, float]] = []
    for batch in batches:
        random = torch.Generator().manual_seed(_VALIDATION + batch.step)
        terms = module.losses(batch.to(module.device), random, training=False)
        found.append({name: float(value) for name, value in terms.items()})
    return {name: _mean([values[name] for values in found]) for name in found[0]}


def spoken_time(seconds: float) -> str:
    """Such as 3 h 20 min, 12 min, 40 s."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
