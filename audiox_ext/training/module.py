"""Base of all trainings: loss, optimizer, learning rate, averaged weights. Lightning drives it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any, ClassVar

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn

from ..errors import TrainingError
from .settings import RunSettings
from .trainer import Batch

_CHANGEABLE = {
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
_RATE_FACTOR = "rate_factor"  # key of a parameter group
_SLOW = 0.05
_MORE_BYTES = 2**17  # of a checkpoint beside its tensors


class TrainingModule(LightningModule):
    """A training. Subclasses define `compute_losses`, and call `start_averaging` once they are built.

    All randomness in a step follows from the seed and the number of the step.

    Attributes:
        settings: settings of the run.
        identity: values that a resumed training must share, by a name for the user. Checkpoints hold it.
        average: moving average of the trained weights.
        changeable: settings that a resumed training may change: how long and how fast it learns, but not
            what it learns from.
        last_losses: terms of the last step's loss, by name.
    """

    average: WeightAverage
    changeable: ClassVar[frozenset[str]] = frozenset(_CHANGEABLE)

    def __init__(self, settings: RunSettings, identity: Mapping[str, str] | None = None) -> None:
        """Keep the settings of the run, and what identifies it."""
        super().__init__()
        self.settings = settings
        self.identity = dict(identity or {})
        self.last_losses: dict[str, float] = {}

    def start_averaging(self) -> None:
        """Begin the average with the present weights. Call it when all parameters exist."""
        self.average = WeightAverage(self, self.settings.ema_decay)

    def compute_losses(self, batch: Any, random: torch.Generator, *, training: bool) -> dict[str, Tensor]:
        """Compute the terms to report. The one called "loss" is minimised.

        Args:
            batch: a batch of the subclass's kind.
            random: source of every random number in the step, on the CPU.
            training: False for validation.
        """
        raise NotImplementedError

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        """Compute the loss of a step.

        Raises:
            TrainingError: the loss is not finite, or this is not the step that is due.
        """
        if batch.step != self.trainer.global_step:
            raise TrainingError(
                f"Step {batch.step + 1} came after {self.trainer.global_step} finished steps. This release "
                "of lightning is not supported: install the one that constraints-dev.txt names."
            )
        for group in self.optimizers().param_groups:
            group["lr"] = compute_learning_rate(self.settings, batch.step) * group.get(_RATE_FACTOR, 1.0)
        terms = self.compute_losses(batch, self.make_generator(batch.step), training=True)
        self.last_losses = {name: float(value.detach()) for name, value in terms.items()}
        if not all(map(math.isfinite, self.last_losses.values())):
            raise self._describe_divergence("the loss is not finite", batch)
        self._batch = batch
        return terms["loss"]

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Clip the gradients.

        Raises:
            TrainingError: the gradients are not finite. The weights are unchanged by this step.
        """
        norm = float(nn.utils.clip_grad_norm_(self.parameters(), self.settings.gradient_clip))
        self.last_losses["gradient"] = norm
        if not math.isfinite(norm):
            raise self._describe_divergence("the gradients are not finite", self._batch)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Make the optimizer of all trained parameters."""
        return self.adamw(value for value in self.parameters() if value.requires_grad)

    def adamw(
        self, parameters: Iterable[nn.Parameter], *, slow: Iterable[nn.Parameter] = ()
    ) -> torch.optim.Optimizer:
        """Make AdamW, in which matrices decay and vectors do not.

        Args:
            parameters: trained at the full learning rate.
            slow: trained at a twentieth of it.
        """
        groups = []
        for values, factor in ((list(parameters), 1.0), (list(slow), _SLOW)):
            for group, decay in (
                ([v for v in values if v.dim() > 1], self.settings.weight_decay),
                ([v for v in values if v.dim() <= 1], 0.0),
            ):
                if group:
                    groups.append({"params": group, "weight_decay": decay, _RATE_FACTOR: factor})
        return torch.optim.AdamW(groups, lr=self.settings.learning_rate, betas=(0.9, 0.99))

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        """Move a batch; Lightning does not know our classes."""
        return batch.to(device)

    def make_generator(self, step: int) -> torch.Generator:
        """Make the generator of a step's random numbers."""
        return torch.Generator().manual_seed(self.settings.seed * 2**32 + step)

    @property
    def checkpoint_bytes(self) -> int:
        """Approximate size of a checkpoint: the weights, their average, and two moments of the optimizer."""
        saved, trained = self._saved_state().values(), self.average.state_dict().values()
        return _count_bytes(saved) + 3 * _count_bytes(trained) + _MORE_BYTES

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the averaged weights, the settings and the identity."""
        checkpoint["state_dict"] = self._saved_state()
        checkpoint["average"] = self.average.state_dict()
        checkpoint["identity"] = self.identity
        checkpoint["settings"] = {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in asdict(self.settings).items()
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the averaged weights.

        Raises:
            TrainingError: the checkpoint belongs to another training, see `check_checkpoint`.
        """
        self.check_checkpoint(checkpoint)
        self.average.load_state_dict(checkpoint["average"])

    def check_checkpoint(self, checkpoint: Mapping[str, Any]) -> None:
        """Check that this training can be resumed from a checkpoint.

        Raises:
            TrainingError: the identity, settings or parameters differ, or more steps are finished than the
                settings allow.
        """
        if not {"settings", "average", "state_dict", "global_step"} <= checkpoint.keys():
            raise TrainingError(
                "last.ckpt comes from another program. Move it, or train into another folder."
            )
        # Checkpoints of earlier versions have no identity.
        before = checkpoint.get("identity", self.identity)
        changed = [
            name for name in {**self.identity, **before} if before.get(name) != self.identity.get(name)
        ]
        if changed:
            raise TrainingError(
                f"This training was started with another {' and another '.join(changed)}. Use the same as "
                "before, delete last.ckpt to start over, or train into another folder."
            )
        fixed = {name: value for name, value in asdict(self.settings).items() if name not in self.changeable}
        for name, value in fixed.items():
            earlier = checkpoint["settings"].get(name)
            if earlier != (list(value) if isinstance(value, tuple) else value):
                raise TrainingError(
                    f"This training was started with {name} {earlier}, but the settings now say {value}. "
                    "Set it back, or train into another folder."
                )
        stored = (checkpoint["average"], checkpoint["state_dict"])
        if list(map(_list_shapes, stored)) != list(
            map(_list_shapes, (self.average.state_dict(), self._saved_state()))
        ):
            raise TrainingError(
                "This training was started with different parameters. Start it with the same options as "
                "before, --initial-model included, or train into another folder."
            )
        if checkpoint["global_step"] > self.settings.steps:
            raise TrainingError(
                f"This training has finished {checkpoint['global_step']} steps already, but steps is "
                f"{self.settings.steps}. Set steps to {checkpoint['global_step']} or more, delete last.ckpt "
                "to start over, or train into another folder."
            )

    def _saved_state(self) -> dict[str, Tensor]:
        """Return the weights that a checkpoint holds: all, or without strict loading the trained ones."""
        state = self.state_dict()
        return state if self.strict_loading else {name: state[name] for name in self.average.state_dict()}

    def _describe_divergence(self, problem: str, batch: Batch) -> TrainingError:
        terms = ", ".join(f"{name} {value:.4g}" for name, value in self.last_losses.items())
        return TrainingError(
            f"Step {batch.step + 1}: {problem} ({terms}). The batch held the items "
            f"{', '.join(map(str, batch.numbers))}. The last checkpoint is intact: resume from it with a "
            "lower learning_rate or gradient_clip, or with precision 32."
        )


class WeightAverage:
    """Exponential moving average of a module's trained parameters.

    Averaged weights make better sounds than those of the last step. The decay of a step is the smaller of
    `decay` and (1 + n) / (10 + n) after n steps; otherwise the random first weights would linger.

    Lightning's WeightAveraging callback is not used. It copies the whole module, and during LoRA training
    that includes the frozen network (AudioX-MAF: 1.05 billion parameters). This class keeps only the
    trained parameters, in memory and in checkpoints.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        """Begin with the present weights.

        Args:
            module: module whose trainable parameters are averaged.
            decay: in [0, 1).
        """
        self._module, self._decay = module, decay
        self._average = {name: value.detach().clone() for name, value in self._trained()}

    @torch.no_grad()
    def update(self, steps: int) -> None:
        """Add the present weights, reached after `steps` steps, to the average."""
        decay = min(self._decay, (1 + steps) / (10 + steps))
        for name, value in self._trained():
            # The average may have been started before the module moved to its device.
            average = self._average[name] = self._average[name].to(value.device)
            average.lerp_(value.detach(), 1 - decay)

    @contextmanager
    def apply(self) -> Iterator[None]:
        """Give the module the averaged weights while the context lasts."""
        present = {name: value.detach().clone() for name, value in self._trained()}
        self._copy(self._average)
        try:
            yield
        finally:
            self._copy(present)

    def state_dict(self) -> dict[str, Tensor]:
        """Return the averaged weights by name, for a checkpoint."""
        return dict(self._average)

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Take the averaged weights from a checkpoint. Raises KeyError if one is missing."""
        self._average = {name: state[name].to(value.device).clone() for name, value in self._trained()}

    def _trained(self) -> Iterator[tuple[str, nn.Parameter]]:
        return ((name, value) for name, value in self._module.named_parameters() if value.requires_grad)

    @torch.no_grad()
    def _copy(self, weights: Mapping[str, Tensor]) -> None:
        for name, value in self._trained():
            value.copy_(weights[name])


def _count_bytes(tensors: Iterable[Tensor]) -> int:
    return sum(value.numel() * value.element_size() for value in tensors)


def _list_shapes(state: Mapping[str, Tensor]) -> dict[str, torch.Size]:
    return {name: value.shape for name, value in state.items()}


def compute_learning_rate(settings: RunSettings, step: int) -> float:
    """Return the learning rate of a step; the first step is 0."""
    return schedule_rate(settings.learning_rate, step, settings.steps, settings.warmup_steps)


def schedule_rate(highest: float, step: int, steps: int, warmup: int) -> float:
    """Rise linearly over `warmup` steps, then fall to a tenth along half a cosine."""
    if step < warmup:
        return highest * (step + 1) / warmup
    progress = min(1.0, (step - warmup) / max(1, steps - warmup))
    return highest * (0.55 + 0.45 * math.cos(math.pi * progress))
