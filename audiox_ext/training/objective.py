"""The loss of a network on encoded clips. Either its own weights or LoRA matrices are trained.

B batch, C latent channels, L latent frames, N context tokens, D width.

The objectives are those that the models sample with. v: x_t = alpha x_0 + sigma noise, with alpha =
cos(t pi/2) and sigma = sin(t pi/2), and the network predicts alpha noise - sigma x_0 (Salimans and Ho 2022,
arXiv 2202.00512). Rectified flow: x_t = (1 - t) x_0 + t noise, and the network predicts noise - x_0 (Liu et
al. 2022, arXiv 2209.03003). Training draws t uniformly in [0, 1).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint as recompute

from ..config import ModelConfig, Objective
from ..errors import InputError
from ..model import Network
from .clip_dataset import ClipBatch
from .clip_encoder import EncodedClip
from .module import TrainingModule
from .settings import CHANGEABLE, TuningSettings

BaseModel = Callable[[Network], AbstractContextManager[None]]
"""A context in which the network computes what it did before the training."""

# Noise times of the clips to preserve, see `noise_times`: all levels at which a sound takes shape. Uniform
# times hardly visit many of them.
_PRESERVATION_SPREAD, _PRESERVATION_SHIFT = 1.3, 1.5
_GOLDEN_RATIO = 0.6180339887  # places the times of one validation batch between those of the others


class NetworkTraining(TrainingModule):
    """Trains the parameters of a network that require gradients.

    Attributes:
        network: the network that is trained.
        step_losses: loss of every step.
        validations: (finished steps, loss) of every validation.
        best: weights of the best validation, by name; empty without `patience`.
    """

    settings: TuningSettings
    changeable = TrainingModule.changeable | CHANGEABLE

    def __init__(
        self,
        network: Network,
        objective: Objective,
        settings: TuningSettings,
        identity: dict[str, str],
        base_model: BaseModel | None = None,
    ) -> None:
        """Prepare a training.

        Args:
            network: network whose trainable parameters are trained.
            objective: objective that the model samples with.
            settings: settings of the run.
            identity: values that a resumed training must share, by a name for the user. Checkpoints hold it.
            base_model: temporarily restores the untrained network; None if that is impossible. With it, the
                network learns preservation clips and clips without a prompt from its own earlier predictions
                (distillation), not from the noise of a single sound.
        """
        super().__init__(settings, identity)
        self.network = network
        self.objective = objective
        self._base_model = base_model
        self.strict_loading = False  # checkpoints hold the trained parameters alone
        self.step_losses: list[float] = []
        self.validations: list[tuple[int, float]] = []
        self.best: dict[str, Tensor] = {}
        if settings.gradient_checkpointing:
            for block in network.transformer.blocks():
                # torch has no hook for this.
                block.forward = partial(recompute, block.forward, use_reentrant=False)  # type: ignore[method-assign]
        self.start_averaging()

    def compute_losses(
        self, batch: ClipBatch, random: torch.Generator, *, training: bool
    ) -> dict[str, Tensor]:
        """Compute the mean squared error of the prediction.

        Validation uses every prompt and evenly spread times.
        """
        self.network.train(training)
        count = len(batch.clips)
        means, deviations = (
            torch.stack([getattr(clip, name) for clip in batch.clips]) for name in ("mean", "deviation")
        )
        latents = means + deviations * torch.randn(means.shape, generator=random)
        preserved = slice(count - batch.preserved_count, count)
        if training:
            times = torch.rand(count, generator=random)
            times[preserved] = noise_times(times[preserved], _PRESERVATION_SPREAD, _PRESERVATION_SHIFT)
        else:
            times = ((torch.arange(count) + 0.5) / count + _GOLDEN_RATIO * batch.step) % 1.0
        noise = torch.randn(latents.shape, generator=random)
        noisy, target = add_noise(self.objective, latents, noise, times)
        contexts, has_prompt = zip(
            *(self._draw_context(clip, random, training) for clip in batch.clips), strict=True
        )
        context = torch.stack(contexts)
        if training:
            distilled = ~torch.tensor(has_prompt)
            distilled[preserved] = True
            target = self._distil(target, noisy, times, context, distilled)
            # Dropout draws from torch's global generator, whose state a resumed training does not share.
            torch.manual_seed(int(torch.randint(2**62, (), generator=random)))
        prepared = self.network.prepare_context(context.to(self.device))
        prediction = self.network(noisy.to(self.device), times.to(self.device), prepared)
        return {"loss": F.mse_loss(prediction, target.to(self.device))}

    @torch.no_grad()
    def _distil(
        self, target: Tensor, noisy: Tensor, times: Tensor, context: Tensor, distilled: Tensor
    ) -> Tensor:
        """Replace rows of target (B, C, L), where distilled (B,) is True, by the base model's prediction."""
        rows = distilled.nonzero().flatten()
        if self._base_model is None or not len(rows):
            return target
        with self._base_model(self.network):
            prepared = self.network.prepare_context(context[rows].to(self.device))
            prediction = self.network(noisy[rows].to(self.device), times[rows].to(self.device), prepared)
        return target.index_copy(0, rows, prediction.to(target))

    def _draw_context(
        self, clip: EncodedClip, random: torch.Generator, training: bool
    ) -> tuple[Tensor, bool]:
        """Return (context (N, D), True), or (zeros, False) for a clip that is shown without a prompt."""
        draws = torch.rand(4, generator=random).tolist()
        settings = self.settings
        kind = "both" if clip.is_video else "text"
        if training and clip.is_video:
            if draws[0] < settings.text_with_video_dropout:
                kind = "video"
            elif draws[1] < settings.video_dropout:
                kind = "text"
        contexts = clip.contexts[kind]
        context = contexts[int(draws[2] * len(contexts))].unpack()
        has_prompt = not training or draws[3] >= settings.context_dropout
        return context if has_prompt else torch.zeros_like(context), has_prompt

    def record_validation(self, step: int, loss: float) -> bool:
        """Record a validation's loss. If it is the lowest and `patience` is set, keep the weights.

        Call it while the averaged weights are applied.

        Returns:
            Whether the loss is the lowest so far.
        """
        is_best = all(loss < earlier for _, earlier in self.validations)
        self.validations.append((step, loss))
        if is_best and self.settings.patience:
            self.best = {name: value.detach().cpu().clone() for name, value in self._trained()}
        return is_best

    @property
    def best_step(self) -> int:
        """Finished steps at the best validation so far."""
        return min(self.validations, key=lambda entry: entry[1])[0] if self.validations else 0

    @property
    def has_stalled(self) -> bool:
        """Whether `patience` validations in a row brought no lower loss."""
        later = sum(step > self.best_step for step, _ in self.validations)
        return bool(self.settings.patience) and later >= self.settings.patience

    @property
    def result_step(self) -> int:
        """Finished steps at the weights that are the result."""
        return self.best_step if self.best else len(self.step_losses)

    @contextmanager
    def apply_result(self) -> Iterator[None]:
        """Give the network the best weights, or else the averaged ones, while the context lasts."""
        with self.average.apply():
            with torch.no_grad():
                for name, value in self._trained():
                    if name in self.best:
                        value.copy_(self.best[name])
            self.network.eval()
            yield

    @property
    def checkpoint_bytes(self) -> int:
        """Approximate size of a checkpoint, with the best weights."""
        best = sum(value.numel() * value.element_size() for _, value in self._trained())
        return super().checkpoint_bytes + best * bool(self.settings.patience)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the history."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["tuning"] = {
            "step_losses": list(self.step_losses),
            "validations": list(self.validations),
            "best": self.best,
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the history.

        Raises:
            TrainingError: the checkpoint belongs to another training.
        """
        super().on_load_checkpoint(checkpoint)
        tuning = checkpoint["tuning"]
        self.step_losses = list(tuning["step_losses"])
        self._restore_validations(checkpoint)
        self.best = dict(tuning["best"])

    def keep_early_stop(self, checkpoint: Mapping[str, Any]) -> bool:
        """If the checkpoint's training stopped early, let this one end there, unless its patience was raised.

        Returns:
            Whether this training ends there, before `steps`.

        Raises:
            TrainingError: the checkpoint belongs to another training.
        """
        self.check_checkpoint(checkpoint)
        steps = int(checkpoint["global_step"])
        self._restore_validations(checkpoint)
        has_stalled, self.validations = self.has_stalled, []
        if has_stalled and steps < self.settings.steps:
            self.settings = replace(self.settings, steps=steps)
            return True
        return False

    def _restore_validations(self, checkpoint: Mapping[str, Any]) -> None:
        pairs = checkpoint["tuning"]["validations"]
        self.validations = [(int(step), float(loss)) for step, loss in pairs]

    def _trained(self) -> list[tuple[str, torch.nn.Parameter]]:
        return [(name, value) for name, value in self.named_parameters() if value.requires_grad]


def check_trainable(config: ModelConfig) -> None:
    """Raise `InputError` for a few-step model."""
    if config.few_step_count is not None:
        raise InputError(
            f"This model was distilled to sample in {config.few_step_count} steps. Training would undo "
            "that, and it would then need many steps. Choose the model it was distilled from, "
            "AudioX-MAF-MMDiT, or another model with many steps."
        )


def add_noise(objective: Objective, latents: Tensor, noise: Tensor, times: Tensor) -> tuple[Tensor, Tensor]:
    """Return (x_t, what the network is to predict).

    Args:
        objective: objective that defines both.
        latents: (B, C, L).
        noise: (B, C, L).
        times: (B,), 0 to 1.
    """
    t = times[:, None, None]
    if objective == "rectified_flow":
        return (1 - t) * latents + t * noise, noise - latents
    alpha, sigma = torch.cos(t * math.pi / 2), torch.sin(t * math.pi / 2)
    return alpha * latents + sigma * noise, alpha * noise - sigma * latents


def stratified_uniform(count: int, random: torch.Generator | None) -> Tensor:
    """Draw one number from each of `count` equal parts of [0, 1), in random order.

    Each is uniform, but a batch's loss varies less than with independent numbers. Without a generator, return
    the middles of the parts, in order.
    """
    if random is None:
        return (torch.arange(count) + 0.5) / count
    return (torch.randperm(count, generator=random) + torch.rand(count, generator=random)) / count


def noise_times(uniform: Tensor, spread: float, shift: float) -> Tensor:
    """Turn uniform numbers in [0, 1) into times at which the noise level is log-logistic.

    Args:
        uniform: numbers in [0, 1), any shape.
        spread: scale of the logarithm of the noise level tan(t pi / 2); 0 returns the numbers unchanged.
            Uniform times have a spread near 0.75 and a shift near 0.
        shift: its centre. Features that span hundreds of latents, such as a pitch, are decided at higher
            noise levels than uniform times reach.

    Source: the noise levels of Karras et al. 2022 (arXiv 2206.00364), section 5.
    """
    if spread == 0:
        return uniform
    level = (spread * torch.logit(uniform, eps=1e-4) + shift).exp()
    return torch.atan(level) * 2 / math.pi
