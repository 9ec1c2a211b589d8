"""Training of the autoencoder.

B batch, C latent channels, S samples, L latents.
"""

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
    """Trains an autoencoder on spectra and waveforms of stereo views, with a KL divergence on the latents."""

    settings: AutoencoderSettings

    def __init__(
        self,
        config: AutoencoderConfig,
        settings: AutoencoderSettings,
        sounds: Tensor | None = None,
        initial_state: Mapping[str, Tensor] | None = None,
    ) -> None:
        """Build and initialise the autoencoder.

        Args:
            config: Sizes of the autoencoder.
            settings: Settings of the training.
            sounds: Sounds (B, 2, S) to fit the initial weights to; None if a checkpoint is loaded later.
            initial_state: Plain state dict to start from. Only the decoder is trained then, so that models
                trained on the latents stay valid.
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
        """Compute the losses of a batch.

        Args:
            batch: A `SoundBatch`.
            random: Generator of augmentation and sampling.
            training: Whether to augment and to sample the posterior; validation uses its mean.

        Returns:
            The total `loss` and its parts by name.
        """
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
        # Spectra and logarithms need float32, whatever the type of the convolutions.
        with torch.autocast(reconstruction.device.type, enabled=False):
            got, want = stereo_views(reconstruction.float()), stereo_views(target)
            convergence, logs = multi_resolution_stft(got, want, settings.fft_sizes)
            wave = relative_error(got, want)
            kl = kl_divergence(mean.float(), deviation.float())
        loss = settings.stft_weight * (convergence + settings.log_weight * logs)
        loss = loss + settings.wave_weight * wave + settings.kl_weight * kl
        return {"loss": loss, "convergence": convergence, "logs": logs, "wave": wave, "kl": kl}

    def _posterior(self, waveforms: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and deviation (B, C, L), as in `Autoencoder.posterior`, but for the whole batch at once."""
        mean, scale = self.autoencoder.model["encoder"](waveforms).chunk(2, dim=1)
        return mean, F.softplus(scale) + 1e-4
