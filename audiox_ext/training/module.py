"""What both trainings have in common: the optimiser, the average of the weights, and a stop at what is no
number. Lightning drives it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any, ClassVar

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn

from ..errors import TrainingError
from .batches import Batch
from .settings import RunSettings
from .weight_average import WeightAverage

# What may differ when a training goes on: how long and how it is led on, but not what is learnt from what.
_MAY_CHANGE = {
    "steps",
    "learning_rate",
    "gradient_clip",
    "precision",
    "workers",
    "checkpoint_every",
    "validate_every",
    "validation_items",
    "report_every",
}
_RATE_SHARE = "rate_share"  # of a group of parameters
_CAREFUL = 0.05


class TrainingModule(LightningModule):
    """Base of the trainings. A subclass gives `losses` and calls `finish_building` when it is built.

    Whatever is drawn at random in a step follows from the seed and the number of the step alone.
    """

    average: WeightAverage
    may_change: ClassVar[frozenset[str]] = frozenset(_MAY_CHANGE)

    def __init__(self, settings: RunSettings) -> None:
        super().__init__()
        self.settings = settings
        self.last_losses: dict[str, float] = {}

    def finish_building(self) -> None:
        """Call it when all parameters are there."""
        self.average = WeightAverage(self, self.settings.ema_decay)

    def losses(self, batch: Batch, random: torch.Generator, *, training: bool) -> dict[str, Tensor]:
        """The terms to be told, of which "loss" is what is minimised. random: on the CPU, for all draws."""
        raise NotImplementedError

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        """One step; raises `TrainingError` where the loss is not a number."""
        for group in self.optimizers().param_groups:
            group["lr"] = learning_rate(self.settings, batch.step) * group.get(_RATE_SHARE, 1.0)
        terms = self.losses(batch, self.random_of(batch.step), training=True)
        self.last_losses = {name: float(value.detach()) for name, value in terms.items()}
        if not all(map(math.isfinite, self.last_losses.values())):
            raise self._not_finite("the loss is not a number", batch)
        self._batch = batch
        return terms["loss"]

    def on_before_optimizer_step(self, optimizer: Any) -> None:
        """Clip the gradients, before anything that is no number reaches the weights."""
        size = nn.utils.clip_grad_norm_(self.parameters(), self.settings.gradient_clip)
        self.last_losses["gradient"] = float(size)
        if not math.isfinite(float(size)):
            raise self._not_finite("the gradients are not numbers", self._batch)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """AdamW."""
        return self.adamw(value for value in self.parameters() if value.requires_grad)

    def adamw(
        self, parameters: Iterable[nn.Parameter], *, careful: Iterable[nn.Parameter] = ()
    ) -> torch.optim.Optimizer:
        """Of some parameters; only matrices decay. careful: others, at a small share of the rate."""
        groups = []
        for values, share in ((list(parameters), 1.0), (list(careful), _CAREFUL)):
            for some, decay in (
                ([v for v in values if v.dim() > 1], self.settings.weight_decay),
                ([v for v in values if v.dim() <= 1], 0.0),
            ):
                if some:
                    groups.append({"params": some, "weight_decay": decay, _RATE_SHARE: share})
        return torch.optim.AdamW(groups, lr=self.settings.learning_rate, betas=(0.9, 0.99))

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        """Lightning knows nothing of ours."""
        return batch.to(device)

    def random_of(self, step: int) -> torch.Generator:
        """The random numbers of a step."""
        return torch.Generator().manual_seed(self.settings.seed * 2**32 + step)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds the average and the settings."""
        checkpoint["average"] = self.average.state_dict()
        checkpoint["settings"] = {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in asdict(self.settings).items()
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Takes them back. Raises `TrainingError` where a setting would make another training of it."""
        now = {name: value for name, value in asdict(self.settings).items() if name not in self.may_change}
        for name, value in now.items():
            then = checkpoint["settings"].get(name)
            if then != (list(value) if isinstance(value, tuple) else value):
                raise TrainingError(
                    f"This training was begun with {name} {then}, and the configuration now says {value}. "
                    "Set it back, or train into another folder."
                )
        if checkpoint["average"].keys() != self.average.state_dict().keys():
            raise TrainingError(
                "This training was begun with other parts to train: call it as it was begun, with or without "
                "--begin-with, or train into another folder."
            )
        self.average.load_state_dict(checkpoint["average"])

    def _not_finite(self, what: str, batch: Batch) -> TrainingError:
        terms = ", ".join(f"{name} {value:.4g}" for name, value in self.last_losses.items())
        return TrainingError(
            f"Step {batch.step + 1}: {what} ({terms}). The batch held the items "
            f"{', '.join(map(str, batch.numbers))}. The last checkpoint is as it was: go on from it with a "
            "lower learning_rate or gradient_clip, or with precision 32."
        )


def learning_rate(settings: RunSettings, step: int) -> float:
    """Of a step, the first being 0."""
    return rate_at(settings.learning_rate, step, settings.steps, settings.warmup_steps)


def rate_at(highest: float, step: int, steps: int, warmup: int) -> float:
    """Up in a line, then down to a tenth along half a cosine."""
    if step < warmup:
        return highest * (step + 1) / warmup
    done = min(1.0, (step - warmup) / max(1, steps - warmup))
    return highest * (0.55 + 0.45 * math.cos(math.pi * done))
