"""Further training of a model's network, its own weights or matrices beside them, on encoded clips.

B batch, C latent channels, L latents, N context tokens, D their width. The objectives are those that the
models are sampled with: v (see `diffusion_training`), and rectified flow, where x_t = (1 - t) x_0 + t noise
and the network predicts noise - x_0; t uniform in [0, 1) (Liu et al. 2022, arXiv 2209.03003).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint as recomputed

from ..config import Objective
from ..errors import TrainingError
from ..model import Network
from .clip_dataset import EncodedClip
from .module import TrainingModule
from .settings import MAY_CHANGE, TuningSettings
from .times import times_at
from .tuning_data import ClipBatch

AsBefore = Callable[[Network], AbstractContextManager[None]]
_KEPT_SPREAD, _KEPT_SHIFT = 1.3, 1.5  # of the times of what is to stay, see `times_at`
_GOLDEN = 0.6180339887  # spreads the times of one validation batch between those of the others


class NetworkTraining(TrainingModule):
    """Trains what of a network wants gradients. about: what else a training that goes on must agree with, by
    name; it is kept in its checkpoints, which hold only what is trained.

    as_before: while it lasts the network is what it was before the training, where that can be had. Sounds
    that the model is to go on making, and what is shown without any prompt, then learn from what that says,
    which is no change at all, instead of from the noise that a single sound is of all that it might make.
    """

    settings: TuningSettings
    may_change = TrainingModule.may_change | MAY_CHANGE

    def __init__(
        self,
        network: Network,
        objective: Objective,
        settings: TuningSettings,
        about: dict[str, str],
        as_before: AsBefore | None = None,
    ) -> None:
        super().__init__(settings)
        self.network = network
        self._as_before = as_before
        self.objective = objective
        self.about = about
        self.strict_loading = False  # of a checkpoint without the rest of the network
        self.step_losses: list[float] = []
        self.validations: list[tuple[int, float]] = []
        self.best: dict[str, Tensor] = {}
        if settings.gradient_checkpointing:
            for block in network.transformer.blocks():
                block.forward = partial(recomputed, block.forward, use_reentrant=False)  # type: ignore[method-assign]
        self.finish_building()

    def losses(  # type: ignore[override]  # batches of another kind
        self, batch: ClipBatch, random: torch.Generator, *, training: bool
    ) -> dict[str, Tensor]:
        """Validation shows every prompt, and spreads the times evenly."""
        self.network.train(training)
        count = len(batch.clips)
        means, deviations = (
            torch.stack([getattr(clip, name) for clip in batch.clips]) for name in ("mean", "deviation")
        )
        latents = means + deviations * torch.randn(means.shape, generator=random)
        if training:
            times = torch.rand(count, generator=random)
            # All levels at which a sound takes shape, of which even times see little.
            kept = slice(count - batch.kept, count)
            times[kept] = times_at(times[kept], _KEPT_SPREAD, _KEPT_SHIFT)
        else:
            times = ((torch.arange(count) + 0.5) / count + _GOLDEN * batch.step) % 1.0
        noise = torch.randn(latents.shape, generator=random)
        noisy, wanted = noised(self.objective, latents, noise, times)
        contexts, shown = zip(*(self._context(clip, random, training) for clip in batch.clips), strict=True)
        context, device = torch.stack(contexts), self.device
        if training:
            stays = ~torch.tensor(shown)
            stays[count - batch.kept :] = True
            wanted = self._with_what_stays(wanted, noisy, times, context, stays)
            # Dropout draws from torch's own generator, which a training that goes on finds elsewhere.
            torch.manual_seed(int(torch.randint(2**62, (), generator=random)))
        prepared = self.network.prepare_context(context.to(device))
        made = self.network(noisy.to(device), times.to(device), prepared)
        return {"loss": F.mse_loss(made, wanted.to(device))}

    @torch.no_grad()
    def _with_what_stays(
        self, wanted: Tensor, noisy: Tensor, times: Tensor, context: Tensor, stays: Tensor
    ) -> Tensor:
        """What is to be predicted (B, C, L): in the rows of stays (B,) bool what was before the training."""
        rows = stays.nonzero().flatten()
        if self._as_before is None or not len(rows):
            return wanted
        with self._as_before(self.network):
            prepared = self.network.prepare_context(context[rows].to(self.device))
            said = self.network(noisy[rows].to(self.device), times[rows].to(self.device), prepared)
        return wanted.index_copy(0, rows, said.to(wanted))

    def _context(self, clip: EncodedClip, random: torch.Generator, training: bool) -> tuple[Tensor, bool]:
        """((N, D) of what is shown of a clip's prompts, True), or (zeros, False) where nothing is."""
        drawn = torch.rand(4, generator=random).tolist()
        settings = self.settings
        kind = "both" if clip.is_video else "text"
        if training and clip.is_video:
            if drawn[0] < settings.text_with_video_dropout:
                kind = "video"
            elif drawn[1] < settings.video_dropout:
                kind = "text"
        draws = clip.contexts[kind]
        context = draws[int(drawn[2] * len(draws))].whole()
        is_shown = not training or drawn[3] >= settings.context_dropout
        return context if is_shown else torch.zeros_like(context), is_shown

    def note_validation(self, step: int, loss: float) -> bool:
        """Call it while the averaged weights are in place. Returns whether these are the best so far, which
        are then kept, if training waits for better ones.
        """
        better = all(loss < earlier for _, earlier in self.validations)
        self.validations.append((step, loss))
        if better and self.settings.patience:
            self.best = {name: value.detach().cpu().clone() for name, value in self._trained()}
        return better

    @property
    def best_step(self) -> int:
        """Of the best validation so far."""
        return min(self.validations, key=lambda found: found[1])[0] if self.validations else 0

    @property
    def is_stale(self) -> bool:
        """Whether so many validations were no better that training is to stop."""
        since = sum(step > self.best_step for step, _ in self.validations)
        return bool(self.settings.patience) and since >= self.settings.patience

    @property
    def result_step(self) -> int:
        """After how many steps the result was there."""
        return self.best_step if self.best else len(self.step_losses)

    @contextmanager
    def result_in_place(self) -> Iterator[None]:
        """The network has the weights that are the result: the best, or the average of the last."""
        with self.average.in_place():
            with torch.no_grad():
                for name, value in self._trained():
                    if name in self.best:
                        value.copy_(self.best[name])
            self.network.eval()
            yield

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Only what is trained, and how it went."""
        super().on_save_checkpoint(checkpoint)
        trained = {name for name, _ in self._trained()}
        state = checkpoint["state_dict"]
        checkpoint["state_dict"] = {name: value for name, value in state.items() if name in trained}
        checkpoint["tuning"] = {
            "about": self.about,
            "step_losses": list(self.step_losses),
            "validations": list(self.validations),
            "best": self.best,
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Raises `TrainingError` for one of other data, or of another model."""
        self.check_about(checkpoint)
        super().on_load_checkpoint(checkpoint)
        tuning = checkpoint["tuning"]
        self.step_losses = list(tuning["step_losses"])
        self.validations = [(int(step), float(loss)) for step, loss in tuning["validations"]]
        self.best = dict(tuning["best"])

    def check_about(self, checkpoint: dict[str, Any]) -> None:
        """Raises `TrainingError` where the model or the sounds are not those of the checkpoint."""
        then = checkpoint.get("tuning", {}).get("about", {})
        changed = [name for name, value in self.about.items() if then.get(name) != value]
        trained = {name for name, _ in self._trained()}
        if not changed and checkpoint["state_dict"].keys() != trained:
            changed = ["layers that are trained"]
        if changed:
            raise TrainingError(
                f"This training was begun with another {' and another '.join(changed)}. Go on with what it "
                "was, begin anew, or train into another folder."
            )

    def _trained(self) -> list[tuple[str, torch.nn.Parameter]]:
        return [(name, value) for name, value in self.named_parameters() if value.requires_grad]


def noised(objective: Objective, latents: Tensor, noise: Tensor, times: Tensor) -> tuple[Tensor, Tensor]:
    """(x_t, what is to be predicted), of latents and noise (B, C, L) at times (B,)."""
    t = times[:, None, None]
    if objective == "rectified_flow":
        return (1 - t) * latents + t * noise, noise - latents
    alpha, sigma = torch.cos(t * math.pi / 2), torch.sin(t * math.pi / 2)
    return alpha * latents + sigma * noise, alpha * noise - sigma * latents
