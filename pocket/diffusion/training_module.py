"""Training of the diffusion: network, conditioners, fusion and text encoder together, on prepared items.

B batch, C latent channels, L latents, N context tokens, D their width. The v objective: x_t = cos(t pi / 2)
x_0 + sin(t pi / 2) noise, and the network predicts cos(t pi / 2) noise - sin(t pi / 2) x_0 (Salimans and Ho
2022, arXiv 2202.00512), t uniform in [0, 1) unless the settings say otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from audiox_ext.conditioning.conditioners import (
    MelConditioner,
    TextConditioner,
    log_mel,
)
from audiox_ext.conditioning.video_conditioner import VideoConditioner
from audiox_ext.config import TextConditionerConfig
from audiox_ext.devices import DevicePlacement
from audiox_ext.model import AudioXModel, Network
from audiox_ext.networks.layers import cast
from audiox_ext.networks.vision.synchformer import Synchformer
from audiox_ext.random_numbers import RandomNumbers
from audiox_ext.training.module import TrainingModule
from audiox_ext.training.objective import noise_times, stratified_uniform
from audiox_ext.training.trainer import Batch

from ..settings import DiffusionSettings, TrainingConfig
from ..training.attention import TrainingOperations
from ..training.initial_weights import initialise
from ..training.losses import TypicalErrors, weighted_errors
from ..training.matrix_optimiser import MatrixOptimiser
from ..training.preparation import Encoders
from ..training.prepared_batches import PreparedBatch
from ..training.row_files import fingerprint_of
from .prompt_dropout import VisiblePrompts
from .teacher import Teacher
from .text_encoder import build_text_encoder

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_AUTOENCODER = "pretransform."


class DiffusionTraining(TrainingModule):
    """Trains network, conditioners, fusion and text encoder from scratch.

    Autoencoder, vision tower and sync encoder are frozen; the tower has random weights.
    """

    settings: DiffusionSettings

    def __init__(
        self,
        config: TrainingConfig,
        autoencoder: dict[str, Tensor],
        synchformer: Synchformer | None,
        tokenizer: Tokenizer,
    ) -> None:
        """Build the model, with random weights from torch's global generator.

        Args:
            config: Configuration of the training.
            autoencoder: Plain state dict of the trained autoencoder.
            synchformer: Trained sync encoder, None if the model has none.
            tokenizer: Tokenizer of the text encoder.
        """
        super().__init__(config.diffusion)
        self.config = config
        self.model = AudioXModel(config.model, TrainingOperations, torch.float32)
        initialise(self.model)
        self.model.pretransform.load_state_dict(autoencoder, strict=True)
        self.model.pretransform.requires_grad_(False)
        text = config.conditioner(TextConditionerConfig)
        for module in self.model.conditioner.conditioners.values():
            if isinstance(module, TextConditioner):
                assert text is not None
                module.text_encoder = build_text_encoder(config.text_encoder, text.dim, tokenizer)
            elif isinstance(module, VideoConditioner):
                module.visual_encoder_model.requires_grad_(False)
        self.synchformer = None if synchformer is None else synchformer.requires_grad_(False)
        # The latents of silence, which are not 0 if latents are spectral.
        self.silence = None if config.waves is None else self.model.pretransform.read_latent_map().silence
        self.usual = TypicalErrors()
        self.teacher: Teacher | None = None
        self.start_averaging()

    def load_weights_of(self, model: AudioXModel) -> None:
        """Load the weights of a model, except for its autoencoder.

        Args:
            model: Model with the same configuration.

        Raises:
            RuntimeError: If the sizes differ.
        """
        own = {key: value for key, value in self.model.state_dict().items() if key.startswith(_AUTOENCODER)}
        self.model.load_state_dict({**model.state_dict(), **own}, strict=True)
        self.start_averaging()

    def identify(self, initial: AudioXModel | None) -> None:
        """Add the frozen parts, the teacher and the initial model to what a resumed training must share.

        Args:
            initial: The initial model, if there is one.
        """
        self.identity |= {
            "autoencoder": fingerprint_of("", self.model.pretransform),
            "sync encoder": fingerprint_of("", self.synchformer),
            "teacher": "" if self.teacher is None else self.teacher.fingerprint,
            "initial model": fingerprint_of("", initial),
        }

    @property
    def network(self) -> Network:
        """The network to train."""
        return self.model.network

    def encoders(self) -> Encoders:
        """Return the frozen encoders of items."""
        return Encoders(self.model, self.synchformer)

    def compute_losses(self, batch: Batch, random: torch.Generator, *, training: bool) -> dict[str, Tensor]:
        """Compute the loss of a batch.

        Args:
            batch: A `PreparedBatch`.
            random: Generator of dropout, times and noise.
            training: Whether to drop prompts and weight the errors. Validation shows all prompts except the
                audio prompt, uses fixed times, and weights all items and times equally.

        Returns:
            The `loss`.
        """
        assert isinstance(batch, PreparedBatch)
        has_film = batch.has_film
        visible = (
            VisiblePrompts.draw(self.settings, has_film, random)
            if training
            else VisiblePrompts.without_audio_prompt(has_film)
        )
        mean, deviation = batch.latents.unbind(dim=1)
        latents = mean + deviation * torch.randn(mean.shape, generator=random).to(mean)
        places = stratified_uniform(len(latents), random if training else None)
        times = noise_times(places, self.settings.noise_spread, self.settings.noise_shift)
        noise = torch.randn(latents.shape, generator=random).to(latents)
        alpha, sigma = (f(times * math.pi / 2).to(latents)[:, None, None] for f in (torch.cos, torch.sin))
        context = self.context(batch, visible, random)
        context = context * visible.context.to(context)[:, None, None]
        prepared = self.network.prepare_context(context)
        noised, times = alpha * latents + sigma * noise, times.to(latents)
        prediction = self.network(noised, times, prepared)
        target = alpha * noise - sigma * latents
        if not training:
            return {"loss": F.mse_loss(prediction, target)}
        if self.teacher is not None:
            target = self.teacher.target(target, noised, times, batch, visible, RandomNumbers(random))
        if self.silence is None:
            errors = weighted_errors(prediction, target, latents)
        else:
            features = latents - self.silence.to(latents)[:, None]
            errors = weighted_errors(prediction, target, features, usual=1.0)
        loss = self.usual.balanced(errors, places)
        self.usual.update(errors.detach(), places)
        return {"loss": loss}

    def context(self, batch: PreparedBatch, visible: VisiblePrompts, random: torch.Generator) -> Tensor:
        """Encode the prompts, with gradients.

        Args:
            batch: The items.
            visible: Prompts to show.
            random: Generator of the encoders.

        Returns:
            The context (B, N, D).
        """
        device = self.device
        tokens: dict[str, Tensor] = {}
        for name, module in self.model.conditioner.conditioners.items():
            if isinstance(module, TextConditioner):
                texts = [text if yes else "" for text, yes in zip(batch.captions, visible.text, strict=True)]
                tokens[name] = module(texts, device, RandomNumbers(random))
            elif isinstance(module, VideoConditioner):
                tokens[name] = self._video_tokens(module, batch, visible)
            elif isinstance(module, MelConditioner):
                silence = log_mel(torch.zeros(1, self._prompt_samples, device=device), module.config)
                features = silence.repeat(len(batch.captions), 1, 1)
                if batch.mels is not None:
                    features = torch.where(visible.audio.to(device)[:, None, None], batch.mels, features)
                tokens[name] = module.project(features, RandomNumbers(random))
        return self.model.assemble_context(tokens, DevicePlacement(device))

    @property
    def _prompt_samples(self) -> int:
        """Length of an audio prompt."""
        return round(self.config.model.conditioning_seconds * self.config.model.sample_rate)

    def text_context(self, captions: Sequence[str], random: torch.Generator) -> Tensor:
        """Encode captions without video and audio prompt, with gradients.

        Args:
            captions: The captions.
            random: Generator of the encoders.

        Returns:
            The context (B, N, D).
        """
        count = len(captions)
        yes = torch.ones(count, dtype=torch.bool)
        nothing = torch.zeros(0, device=self.device)
        visible = VisiblePrompts(text=yes, video=~yes, audio=~yes, context=yes)
        batch = PreparedBatch(0, tuple(range(count)), tuple(captions), nothing)
        return self.context(batch, visible, random)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return Muon for the matrices of the network's blocks, and AdamW for all other parameters.

        Parameters already trained on captions get a low learning rate: at the network's rate they
        forget most notes within a few hundred steps, long before the network uses them.
        """
        blocks = self.network.transformer.blocks()
        matrices = [value for block in blocks for value in block.parameters() if value.dim() > 1]
        theirs = {id(value) for value in matrices}
        others = {n: v for n, v in self.named_parameters() if v.requires_grad and id(v) not in theirs}
        slow = {name: value for name, value in others.items() if self._knows_words(name)}
        return MatrixOptimiser(
            matrices,
            self.adamw([value for name, value in others.items() if name not in slow], slow=slow.values()),
            learning_rate=self.settings.learning_rate,
            weight_decay=self.settings.weight_decay,
        )

    def _knows_words(self, name: str) -> bool:
        """Whether a parameter was trained on captions before: text encoder and fusion."""
        if not self.settings.caption_steps:
            return False
        texts = [
            f"model.conditioner.conditioners.{key}."
            for key, module in self.model.conditioner.conditioners.items()
            if isinstance(module, TextConditioner)
        ]
        return name.startswith((*texts, "model.maf_block."))

    def _video_tokens(
        self, module: VideoConditioner, batch: PreparedBatch, visible: VisiblePrompts
    ) -> Tensor:
        """Tokens of the visible videos, and the learned empty features for other items."""
        tokens = cast(module.empty_visual_feat, batch.latents).repeat(len(batch.captions), 1, 1)
        rows = visible.video.nonzero().flatten()
        if batch.pictures is None or not len(rows):
            return tokens
        films = (rows - (len(batch.captions) - len(batch.pictures))).to(tokens.device)
        sync = None if batch.sync is None else batch.sync[films]
        return tokens.index_copy(
            0, rows.to(tokens.device), module.fuse(batch.pictures[films], sync).to(tokens)
        )
