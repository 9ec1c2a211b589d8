"""What is done beside the steps when a model is tuned: a stop when it gets no better, sounds to listen to,
progress that somebody watches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer

from ..files import try_to_write
from .batches import Batch
from .callbacks import Report, Supervision
from .module import TrainingModule
from .objective import NetworkTraining

OnStep = Callable[[int, int], None]
"""(steps done, steps in all); may raise to end the training, which then goes on from there another time."""


class TuningSupervision(Supervision):
    """hear: makes a sound with the weights in place, of the training after so many steps."""

    def __init__(
        self,
        checkpoint: Path,
        validation: Callable[[], Iterable[Any]],
        report: Report,
        *,
        validated_on: str,
        hear: Callable[[int], None],
        on_step: OnStep,
    ) -> None:
        super().__init__(checkpoint, validation, report)
        self.validated_on = validated_on
        self._hear, self._on_step = hear, on_step

    def on_train_start(self, trainer: Trainer, module: TrainingModule) -> None:
        """Also says how good the model is before it is trained."""
        super().on_train_start(trainer, module)
        assert isinstance(module, NetworkTraining)
        if not trainer.global_step and module.settings.validation_items and not module.validations:
            self._report(self._validate(trainer, module, 0))

    def on_train_batch_end(
        self, trainer: Trainer, module: TrainingModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """After each step of the optimiser."""
        assert isinstance(module, NetworkTraining)
        module.step_losses.append(module.last_losses["loss"])
        super().on_train_batch_end(trainer, module, outputs, batch, batch_idx)
        settings, done = module.settings, batch.step + 1
        ends = done == settings.steps or trainer.should_stop
        try:
            if settings.sound_every and done % settings.sound_every == 0 and not ends:
                with module.average.in_place():
                    module.network.eval()
                    self._hear(done)
            self._on_step(done, settings.steps)
        except BaseException:
            # Whoever ends it may want to go on from here.
            try_to_write(self._checkpoint, trainer.save_checkpoint)
            raise

    def _validated(
        self, trainer: Trainer, module: TrainingModule, done: int, values: dict[str, float]
    ) -> str:
        assert isinstance(module, NetworkTraining)
        better = module.note_validation(done, values["loss"])
        if module.is_stale:
            trainer.should_stop = True
            return (
                f"; no better for {module.settings.patience} validations, so it ends here. The result is "
                f"that of step {module.best_step}"
            )
        return ", the best so far" if better and done else ""
