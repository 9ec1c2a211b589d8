"""Work between the steps of a training: averaging, progress, validation, checkpoints; in this order."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer

from ..files import try_to_write
from .module import TrainingModule, compute_learning_rate
from .objective import NetworkTraining
from .results import TrainingSpace
from .trainer import Batch, Report

OnStep = Callable[[int, int], None]
"""Receives (finished steps, all steps). It may raise to end the training, which can be resumed later."""

_VALIDATION_SEED = 2**63  # far from the seeds of the steps


class TrainingCallback(Callback):
    """Follows a training: averages its weights, reports, validates, and writes checkpoints.

    Attributes:
        validation_name: name of the validation data in the report.
    """

    validation_name = "held-out items"

    def __init__(self, space: TrainingSpace, validation: Callable[[], Iterable[Any]], report: Report) -> None:
        """Follow one training.

        Args:
            space: folder of the training, for its checkpoint.
            validation: returns the batches to validate with, the same each time.
            report: receives the progress.
        """
        self._space, self._validation, self._report = space, validation, report
        self._recent_losses: list[float] = []
        self._since = 0.0
        self._first_step = 0
        self._planned_steps: int | None = None  # of the training before it was resumed

    def on_load_checkpoint(
        self, trainer: Trainer, module: TrainingModule, checkpoint: dict[str, Any]
    ) -> None:
        """Report a training that has no steps left."""
        self._planned_steps = int(checkpoint["settings"]["steps"])
        if checkpoint["global_step"] == module.settings.steps:
            self._report(f"All {module.settings.steps} steps are finished. Writing the result.")

    def on_train_start(self, trainer: Trainer, module: TrainingModule) -> None:
        """Report whether the training is resumed."""
        if trainer.global_step:
            self._report(f"Resuming after step {trainer.global_step} of {module.settings.steps}.")
            if self._planned_steps != module.settings.steps:
                self._report(
                    f"The training was started with steps {self._planned_steps}, so its learning rate fell "
                    f"differently until now than in a training of {module.settings.steps} steps."
                )
        self._restart_clock(trainer.global_step)

    def on_train_batch_end(
        self, trainer: Trainer, module: TrainingModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """Report, validate or write a checkpoint where it is due after an optimizer step."""
        settings, step = module.settings, batch.step + 1
        module.average.update(step)
        self._recent_losses.append(module.last_losses["loss"])
        is_last = step == settings.steps
        if step % settings.report_every == 0 or is_last:
            rate = compute_learning_rate(settings, batch.step)
            self._log(trainer, {**module.last_losses, "learning_rate": rate}, step)
            self._report(self._describe_progress(step, settings.steps))
        if (step % settings.validate_every == 0 or is_last) and settings.validation_items:
            self._report(self._validate(trainer, module, step))
        if step % settings.checkpoint_every == 0 or is_last or trainer.should_stop:
            self._write_checkpoint(trainer)

    def _write_checkpoint(self, trainer: Trainer) -> None:
        with self._space.lend():
            try_to_write(self._space.checkpoint, trainer.save_checkpoint)

    def _describe_progress(self, step: int, steps: int) -> str:
        seconds = (time.monotonic() - self._since) / max(1, step - self._first_step)
        loss = _mean(self._recent_losses)
        self._restart_clock(step)
        return (
            f"step {step} of {steps}: loss {loss:.4f}, {seconds:.2f} s per step, "
            f"{format_duration(seconds * (steps - step))} left"
        )

    @torch.no_grad()
    def _validate(self, trainer: Trainer, module: TrainingModule, step: int) -> str:
        started = time.monotonic()
        with module.average.apply():
            losses = compute_validation_losses(module, self._validation())
            verdict = self._judge_validation(trainer, module, step, losses)
        self._log(trainer, {f"validation_{name}": value for name, value in losses.items()}, step)
        self._since += time.monotonic() - started  # validation is not part of a step's time
        terms = ", ".join(f"{name} {value:.4f}" for name, value in losses.items())
        return f"step {step}: on {self.validation_name} {terms}{verdict}"

    def _judge_validation(
        self, trainer: Trainer, module: TrainingModule, step: int, losses: dict[str, float]
    ) -> str:
        """Return what to add to the report. Called while the averaged weights are applied."""
        return ""

    def _log(self, trainer: Trainer, values: dict[str, float], step: int) -> None:
        if trainer.logger is not None:
            trainer.logger.log_metrics(values, step)

    def _restart_clock(self, step: int) -> None:
        self._since, self._first_step = time.monotonic(), step
        self._recent_losses = []


class TuningCallback(TrainingCallback):
    """Follows the training of an existing model: early stop, preview sounds, an observer of each step."""

    def __init__(
        self,
        space: TrainingSpace,
        validation: Callable[[], Iterable[Any]],
        report: Report,
        *,
        validation_name: str,
        make_preview: Callable[[int], None],
        on_step: OnStep,
    ) -> None:
        """Follow one training.

        Args:
            space: folder of the training, for its checkpoint.
            validation: returns the batches to validate with, the same each time.
            report: receives the progress.
            validation_name: name of the validation data in the report.
            make_preview: makes a sound with the present weights; receives the number of finished steps.
            on_step: called after every step.
        """
        super().__init__(space, validation, report)
        self.validation_name = validation_name
        self._make_preview, self._on_step = make_preview, on_step

    def on_train_start(self, trainer: Trainer, module: TrainingModule) -> None:
        """Validate the model once before it is trained."""
        super().on_train_start(trainer, module)
        module = _require_network_training(module)
        if not trainer.global_step and module.settings.validation_items and not module.validations:
            self._report(self._validate(trainer, module, 0))

    def on_train_batch_end(
        self, trainer: Trainer, module: TrainingModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """Do the work that is due after an optimizer step. If it raises, a checkpoint is written first."""
        module = _require_network_training(module)
        module.step_losses.append(module.last_losses["loss"])
        super().on_train_batch_end(trainer, module, outputs, batch, batch_idx)
        settings, step = module.settings, batch.step + 1
        is_last = step == settings.steps or trainer.should_stop
        try:
            if settings.preview_every and step % settings.preview_every == 0 and not is_last:
                with module.average.apply():
                    module.network.eval()
                    self._make_preview(step)
            self._on_step(step, settings.steps)
        except BaseException:
            # Cancelling must not lose the steps since the last checkpoint.
            self._write_checkpoint(trainer)
            raise

    def _judge_validation(
        self, trainer: Trainer, module: TrainingModule, step: int, losses: dict[str, float]
    ) -> str:
        module = _require_network_training(module)
        is_best = module.record_validation(step, losses["loss"])
        if module.has_stalled:
            trainer.should_stop = True
            return (
                f"; no lower loss for {module.settings.patience} validations, so training stops here. "
                f"The result is that of step {module.best_step}"
            )
        return ", the best so far" if is_best and step else ""


@torch.no_grad()
def compute_validation_losses(module: TrainingModule, batches: Iterable[Any]) -> dict[str, float]:
    """Return each loss term's mean over the batches, with the same random numbers each time."""
    rows: list[dict[str, float]] = []
    for batch in batches:
        random = torch.Generator().manual_seed(_VALIDATION_SEED + batch.step)
        terms = module.compute_losses(batch.to(module.device), random, training=False)
        rows.append({name: float(value) for name, value in terms.items()})
    return {name: _mean([row[name] for row in rows]) for name in rows[0]}


def format_duration(seconds: float) -> str:
    """Write a duration as 3 h 20 min, 12 min or 40 s."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"


def _require_network_training(module: TrainingModule) -> NetworkTraining:
    assert isinstance(module, NetworkTraining)
    return module


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
