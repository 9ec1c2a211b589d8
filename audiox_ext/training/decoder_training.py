"""Training of a decoder of strengths, by spectra alone. B batch, S samples, T tokens."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from ..config import AutoencoderConfig
from ..networks.autoencoder import Autoencoder
from ..networks.operations import PlainOperations
from .batches import Batch, SoundBatch
from .losses import multi_resolution_stft, views
from .settings import DecoderSettings
from .strength_decoder import latent_map
from .strengths import strengths
from .training_module import TrainingModule
from .weight_norm import normalise_weights

MARGIN = 2  # tokens at either end of a crop: the first has heard half of its window, the next is context


class DecoderTraining(TrainingModule):
    """Spectra of left, right, sum and difference come back from the latents of a sound. The first layer,
    which says what latents are, stays.
    """

    settings: DecoderSettings

    def __init__(
        self, config: AutoencoderConfig, settings: DecoderSettings, state: Mapping[str, Tensor], rate: int
    ) -> None:
        """state: plain, of the whole autoencoder, to begin with."""
        super().__init__(settings)
        self.rate = rate
        self.autoencoder = Autoencoder(config, PlainOperations, torch.float32)
        self.autoencoder.load_state_dict(state, strict=True)
        self.mapped = latent_map(self.autoencoder, rate)
        normalise_weights(self.autoencoder.model["decoder"])
        self.autoencoder.model["encoder"].requires_grad_(False)
        self.autoencoder.model["decoder"].layers[0].requires_grad_(False)  # type: ignore[index]
        self.finish_building()

    def losses(self, batch: Batch, random: torch.Generator, *, training: bool) -> dict[str, Tensor]:
        """The batch's crops have `MARGIN` tokens more at either end."""
        assert isinstance(batch, SoundBatch)
        settings, ratio = self.settings, self.autoencoder.config.downsampling_ratio
        with torch.autocast(batch.waveforms.device.type, enabled=False):
            latents = self.mapped.latents(strengths(batch.waveforms, self.rate, ratio)[..., 1:-1])
        if training and settings.noise:
            latents = latents + settings.noise * torch.randn(latents.shape, generator=random).to(latents)
        made = self.autoencoder.model["decoder"](latents)
        with torch.autocast(made.device.type, enabled=False):
            got = made.float()[..., (MARGIN - 1) * ratio : (1 - MARGIN) * ratio]
            want = batch.waveforms[..., MARGIN * ratio : -MARGIN * ratio]
            convergence, logs = multi_resolution_stft(views(got), views(want), settings.fft_sizes)
        loss = convergence + settings.log_share * logs
        return {"loss": loss, "convergence": convergence, "logs": logs}
