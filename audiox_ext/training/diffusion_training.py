"""Training of the diffusion: network, conditioners, fusion, text encoder and sync encoder, all together.

B batch, C latent channels, L latents, N context tokens, D their width, T frames, S samples. The v objective:
x_t = cos(t pi / 2) x_0 + sin(t pi / 2) noise, and the network predicts cos(t pi / 2) noise - sin(t pi / 2)
x_0, t uniform in [0, 1) (Salimans and Ho 2022, arXiv 2202.00512).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ..conditioning import MelConditioner, TextConditioner
from ..config import ClipConditionerConfig, TextConditionerConfig
from ..model import AudioXModel
from ..networks.dit import DiffusionTransformer
from ..networks.operations import PlainOperations
from ..networks.synchformer import Synchformer, SynchformerConfig
from ..placement import DevicePlacement
from ..prompts import prompts_for
from ..random_numbers import RandomNumbers
from .batches import Batch
from .initial_weights import initialise, initialise_synchformer
from .prompt_dropout import Shown, prompts_of
from .settings import DiffusionSettings, TrainingConfig
from .text import build_text_encoder
from .training_module import TrainingModule

if TYPE_CHECKING:
    from tokenizers import Tokenizer

FILM_FPS = 25.0


class DiffusionTraining(TrainingModule):
    """The autoencoder is frozen; all else is trained from nothing, from torch's global generator."""

    settings: DiffusionSettings

    def __init__(self, config: TrainingConfig, autoencoder: dict[str, Tensor], tokenizer: Tokenizer) -> None:
        """autoencoder: its plain state dict."""
        super().__init__(config.diffusion)
        self.config = config
        self.model = AudioXModel(config.model, PlainOperations, torch.float32)
        initialise(self.model)
        self.model.pretransform.load_state_dict(autoencoder, strict=True)
        self.model.pretransform.requires_grad_(False)
        text = config.conditioner(TextConditionerConfig)
        for module in self.model.conditioner.conditioners.values():
            if isinstance(module, TextConditioner):
                assert text is not None
                module.text_encoder = build_text_encoder(config.text_encoder, text.dim, tokenizer)
        self.synchformer = _synchformer(config)
        self.finish_building()

    def losses(self, batch: Batch, random: torch.Generator, *, training: bool) -> dict[str, Tensor]:
        """Validation shows every prompt but the audio prompt, and spreads the times evenly."""
        shown = Shown.draw(self.settings, batch, random) if training else Shown.all_but_audio(batch)
        latents = self.encode(batch.waveforms, random)
        count = len(latents)
        times = torch.rand(count, generator=random) if training else (torch.arange(count) + 0.5) / count
        noise = torch.randn(latents.shape, generator=random).to(latents)
        alpha, sigma = (f(times * math.pi / 2).to(latents)[:, None, None] for f in (torch.cos, torch.sin))
        context = self.context(prompts_of(batch, shown), random)
        context = context * shown.context.to(context)[:, None, None]
        network = self.model.network
        assert isinstance(network, DiffusionTransformer)
        prepared = network.prepare_context(context)
        made = network(alpha * latents + sigma * noise, times.to(latents), prepared)
        return {"loss": F.mse_loss(made, alpha * noise - sigma * latents)}

    @torch.no_grad()
    def encode(self, waveforms: Tensor, random: torch.Generator) -> Tensor:
        """A sample of the latents of (B, 2, S): (B, C, L), in float32."""
        with torch.autocast(waveforms.device.type, enabled=False):
            mean, deviation = self.model.pretransform.posterior(waveforms)
        return mean + deviation * torch.randn(mean.shape, generator=random).to(mean)

    def context(self, items: list[dict[str, Any]], random: torch.Generator) -> Tensor:
        """The network's context (B, N, D), with gradients. items: see `prompts_of`."""
        device = self.device
        tokens: dict[str, Tensor] = {}
        shown = [
            {**item, "video_prompt": self.video_prompt(item["video_prompt"])}
            if item.get("video_prompt") is not None
            else item
            for item in items
        ]
        for name, module in self.model.conditioner.conditioners.items():
            prompts = prompts_for(name, self.config.model, shown)
            # Log magnitudes are made in float32, as they are when the model is used.
            exact = isinstance(module, MelConditioner)
            with torch.autocast(device.type, enabled=torch.is_autocast_enabled(device.type) and not exact):
                tokens[name] = module(prompts, device, RandomNumbers(random))
        return self.model.assemble_context(tokens, DevicePlacement(device))

    def video_prompt(self, film: Tensor) -> dict[str, Tensor]:
        """What the video conditioner takes, of a film (T, H, W, 3) uint8 at 25 frames a second."""
        clip = self.config.conditioner(ClipConditionerConfig)
        assert clip is not None
        film = film.permute(0, 3, 1, 2)
        # The picture on screen at each time; the nudge is for times that rounding puts just before it.
        picks = [min(int(i / clip.video_fps * FILM_FPS + 1e-6), len(film) - 1) for i in range(clip.frames)]
        prompt = {"video_tensors": film[picks][None]}
        if self.synchformer is not None:
            wanted = round(clip.seconds * clip.sync_fps)
            pixels = film[:wanted].float().div(255).sub(0.5).div(0.5)
            prompt["video_sync_frames"] = self.synchformer(pixels[None])
        return prompt


def _synchformer(config: TrainingConfig) -> Synchformer | None:
    """The sync encoder that the model's video conditioner takes features from, if it does."""
    clip = config.conditioner(ClipConditionerConfig)
    if clip is None or not clip.with_sync:
        return None
    sizes = SynchformerConfig(
        embed_dim=clip.sync_dim,
        depth=config.synchformer.depth,
        num_heads=clip.sync_dim // 64,
        mlp_ratio=config.synchformer.mlp_ratio,
        patch_size=config.synchformer.patch_size,
    )
    synchformer = Synchformer(sizes, PlainOperations)
    initialise_synchformer(synchformer)
    return synchformer
