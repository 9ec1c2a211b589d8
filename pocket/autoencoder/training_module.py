"""Training of the autoencoder. B batch, C latent channels, S samples, L latents."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from audiox_ext.config import AutoencoderConfig
from audiox_ext.networks.autoencoder.autoencoder import Autoencoder
from audiox_ext.networks.operations import PlainOperations
from audiox_ext.training.module import TrainingModule
from audiox_ext.training.trainer import Batch

from ..settings import AutoencoderSettings
from ..training.batches import SoundBatch
from ..training.losses import kl_divergence, multi_resolution_stft, relative_error, stereo_views
from ..training.weight_norm import normalise_weights
from .augmentation import equalise_rms, pan_randomly
from .initial_weights import initialise_autoencoder


class AutoencoderTraining(TrainingModule):
    """Spectra and samples of left, right, sum and difference come back, and the latents stay close to a
    normal distribution.
    """

    settings: AutoencoderSettings

    def __init__(
        self,
        config: AutoencoderConfig,
        settings: AutoencoderSettings,
        sounds: Tensor | None = None,
        initial_state: Mapping[str, Tensor] | None = None,
    ) -> None:
        """sounds: (B, 2, S), what the first weights are fitted to; None where a checkpoint follows. begun: a
        plain state dict, of which the decoder alone is trained further, so that whatever was trained on the
        latents still fits.
        """
        super().__init__(settings)
        self.autoencoder = Autoencoder(config, PlainOperations, torch.float32)
        if sounds is not None:
            random = torch.Generator().manual_seed(settings.seed)
            initialise_autoencoder(
                self.autoencoder, pan_randomly(equalise_rms(sounds), settings.panned_fraction, random)
            )
        if initial_state is not None:
            self.autoencoder.load_state_dict(initial_state, strict=True)
        normalise_weights(self.autoencoder)
        if initial_state is not None:
            self.autoencoder.model["encoder"].requires_grad_(False)
        self.start_averaging()

    def compute_losses(self, batch: Batch, random: torch.Generator, *, training: bool) -> dict[str, Tensor]:
        """Validation takes the mean of the posterior, training a sample."""
        settings = self.settings
        assert isinstance(batch, SoundBatch)
        target = batch.waveforms
        if training:
            target = pan_randomly(target, settings.panned_fraction, random)
        mean, deviation = self._posterior(target)
        latents = mean
        if training:
            latents = mean + deviation * torch.randn(mean.shape, generator=random).to(mean)
        reconstruction = self.autoencoder.model["decoder"](latents)
        # The spectra and their logarithms in float32 whatever the convolutions were computed in.
        with torch.autocast(reconstruction.device.type, enabled=False):
            got, want = stereo_views(reconstruction.float()), stereo_views(target)
            convergence, logs = multi_resolution_stft(got, want, settings.fft_sizes)
            wave = relative_error(got, want)
            kl = kl_divergence(mean.float(), deviation.float())
        loss = settings.stft_weight * (convergence + settings.log_weight * logs)
        loss = loss + settings.wave_weight * wave + settings.kl_weight * kl
        return {"loss": loss, "convergence": convergence, "logs": logs, "wave": wave, "kl": kl}

    def _posterior(self, waveforms: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 2, S) -> mean and deviation, each (B, C, L), as `Autoencoder.posterior` gives them, but never
        item by item or in chunks.
        """
        mean, scale = self.autoencoder.model["encoder"](waveforms).chunk(2, dim=1)
        return mean, F.softplus(scale) + 1e-4
