"""generate_diffusion_cond: from prompts to a waveform.

B batch, C channels, S samples, L latents, N context tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from .arguments import (
    SamplerSettings,
    checked_batch,
    checked_guidance,
    checked_latents,
    checked_noise_level,
    checked_prompts,
    checked_seed,
    checked_steps,
)
from .denoising import VDenoiser
from .errors import InputError
from .guidance import GuidedVelocity
from .inpainting import MaskArguments, build_mask, paste_latents
from .model import AudioXModel
from .networks.autoencoder import decoding_bytes, encoding_bytes
from .placement import DevicePlacement, Placement, available_device
from .rectified_flow import sample_euler, sample_few_steps
from .sampling import sample_v

InitAudio = tuple[int, Tensor]
"""(sample rate in hertz, waveform (C, S))."""


@torch.no_grad()
def generate_diffusion_cond(
    model: AudioXModel,
    steps: int | None = None,
    cfg_scale: float | None = None,
    conditioning: Sequence[Mapping[str, Any]] | Mapping[str, Any] | None = None,
    conditioning_tensors: Mapping[str, Any] | None = None,
    negative_conditioning: Sequence[Mapping[str, Any]] | Mapping[str, Any] | None = None,
    negative_conditioning_tensors: Mapping[str, Any] | None = None,
    batch_size: int = 1,
    sample_size: int | None = None,
    sample_rate: int | None = None,
    seed: int = -1,
    device: str | torch.device = "cuda",
    init_audio: InitAudio | None = None,
    init_noise_level: float = 1.0,
    mask_args: Mapping[str, float] | None = None,
    return_latents: bool = False,
    **sampler_kwargs: Any,
) -> Tensor:
    """Make sound.

    steps, cfg_scale: None for the model's own: 250 guided steps (scale 7), or a few-step student's 4 unguided
    ones. A student ignores cfg_scale. conditioning: a dict a batch item (or one for all) with any of
    text_prompt (str), video_prompt ({"video_tensors": (1, T, 3, 224, 224) in 0..255, "video_sync_frames": (1,
    240, 768)}) and audio_prompt ((C, S) at the model's rate); what is absent is the trained empty input.
    conditioning_tensors: tokens (B, N, D) by conditioner instead, as `AudioXModel.encode_conditioning`
    returns them; likewise the negative ones, which replace the zeros of the unconditional prediction.
    sample_size: samples to make, default and for mmdit networks the model's own. sample_rate: None or the
    model's. seed: -1 for a random one; equal seeds give equal sound, on any device to its precision. device:
    ignored when the model has a placement; "cuda" falls back to the best there is. init_audio: (rate,
    waveform (C, S)) to vary, from noise of level init_noise_level, or with mask_args (see `MaskArguments`) to
    keep in part. sampler_kwargs: see `SamplerSettings`.

    Returns the waveform (B, C, L * ratio), float32 on the CPU, not limited to [-1, 1], or the latents (B, C,
    L). Raises `InputError`. The caller's random state is left as it was. Source: arXiv 2503.10522,
    2606.12555.
    """
    settings = SamplerSettings.from_arguments(sampler_kwargs)
    steps = checked_steps(model, steps)
    guidance = checked_guidance(model, cfg_scale)
    latent_count = checked_latents(model, sample_size, sample_rate)
    batch_size = checked_batch(batch_size)
    placement = model.placement or DevicePlacement(available_device(device))
    generator = torch.Generator().manual_seed(checked_seed(seed))

    # The order of these draws is the published code's: a seed depends on it.
    noise = torch.randn(batch_size, model.config.autoencoder.latent_dim, latent_count, generator=generator)
    context = _context(model, conditioning, conditioning_tensors, batch_size, placement, generator)
    if context is None:
        raise InputError("There is nothing to generate from: give conditioning or conditioning_tensors.")
    # Also without guidance, when nothing but its random draws has an influence, on those that follow.
    negative = _context(
        model, negative_conditioning, negative_conditioning_tensors, batch_size, placement, generator
    )
    if negative is not None and negative.shape != context.shape:
        raise InputError(
            f"The negative conditioning comes to {tuple(negative.shape[1:])} tokens, the conditioning to "
            f"{tuple(context.shape[1:])}; they must be alike."
        )
    init, mask = _init_latents(model, init_audio, mask_args, noise, placement, generator)

    where = placement.use(
        "network", model.model, _network_bytes(model, batch_size, context.shape[1], latent_count)
    )
    velocity = GuidedVelocity(
        model.network,
        context.to(where),
        None if negative is None else negative.to(where),
        guidance,
        settings.scale_phi,
    )
    latents = _sample(
        model,
        velocity,
        noise.to(where),
        steps=steps,
        settings=settings,
        generator=generator,
        init=None if init is None else init.to(where),
        mask=None if mask is None else mask.to(where),
        init_noise_level=init_noise_level,
    )
    del velocity
    if return_latents:
        return latents.cpu()
    return decode_latents(model, latents, placement)


def decode_latents(model: AudioXModel, latents: Tensor, placement: Placement) -> Tensor:
    """(B, C, L) -> waveform (B, channels, L * ratio), float32 on the CPU."""
    config = model.config.autoencoder
    samples = latents.shape[-1] * config.downsampling_ratio
    at_once = 1 if config.iterate_batch else latents.shape[0]
    where = placement.use("autoencoder", model.pretransform, at_once * decoding_bytes(config, samples))
    return model.pretransform.decode(latents.to(where)).float().cpu()


def _sample(
    model: AudioXModel,
    velocity: GuidedVelocity,
    noise: Tensor,
    *,
    steps: int,
    settings: SamplerSettings,
    generator: torch.Generator,
    init: Tensor | None,
    mask: Tensor | None,
    init_noise_level: float,
) -> Tensor:
    defaults, varies = model.defaults, init is not None and mask is None
    sigma_max = defaults.sigma_max if settings.sigma_max is None else settings.sigma_max
    if varies:
        sigma_max = checked_noise_level(model, init_noise_level, settings)
    shared: dict[str, Any] = {"steps": steps, "init": init, "mask": mask, "callback": settings.callback}
    if model.config.objective == "rectified_flow":
        start = min(sigma_max, 1.0)
        if model.config.few_step_count is not None:
            return sample_few_steps(velocity, noise, start=start, generator=generator, **shared)
        return sample_euler(velocity, noise, start=start, **shared)
    return sample_v(
        VDenoiser(velocity),
        noise,
        sampler_type=settings.sampler_type or defaults.sampler_type,
        sigma_min=defaults.sigma_min if settings.sigma_min is None else settings.sigma_min,
        sigma_max=sigma_max,
        rho=settings.rho,
        generator=generator,
        **shared,
    )


def _context(
    model: AudioXModel,
    conditioning: Sequence[Mapping[str, Any]] | Mapping[str, Any] | None,
    tensors: Mapping[str, Any] | None,
    batch_size: int,
    placement: Placement,
    generator: torch.Generator,
) -> Tensor | None:
    if tensors is not None:
        tokens = {name: _precomputed(model, name, tensors, batch_size) for name in model.config.conditioners}
    elif conditioning is not None:
        items = checked_prompts(model, conditioning)
        if len(items) == 1:
            items = items * batch_size
        if len(items) != batch_size:
            raise InputError(
                f"conditioning has {len(items)} items for a batch of {batch_size}: give one, or one each."
            )
        tokens = model.encode_conditioning(items, placement, generator)
    else:
        return None
    network = model.config.network
    count = sum(value.shape[1] for value in tokens.values())
    if network.type == "mmdit" and count != network.context_tokens:
        raise InputError(
            f"conditioning_tensors: this model takes {network.context_tokens} tokens in all, got {count}."
        )
    return model.assemble_context(tokens, placement)


def _precomputed(model: AudioXModel, name: str, tensors: Mapping[str, Any], batch_size: int) -> Tensor:
    value = tensors.get(name)
    # The published form is (tokens, mask); no mask is used on the context.
    tokens = value[0] if isinstance(value, (tuple, list)) else value
    if not isinstance(tokens, Tensor) or tokens.dim() != 3 or tokens.shape[-1] != model.config.cond_dim:
        got = tuple(tokens.shape) if isinstance(tokens, Tensor) else type(tokens).__name__
        raise InputError(
            f"conditioning_tensors: {name} must be (batch, tokens, {model.config.cond_dim}), got {got}."
        )
    if tokens.shape[0] not in (1, batch_size):
        raise InputError(
            f"conditioning_tensors: {name} has {tokens.shape[0]} items for a batch of {batch_size}."
        )
    return tokens.float().cpu().expand(batch_size, -1, -1)


def _init_latents(
    model: AudioXModel,
    init_audio: InitAudio | None,
    mask_args: Mapping[str, float] | None,
    noise: Tensor,
    placement: Placement,
    generator: torch.Generator,
) -> tuple[Tensor | None, Tensor | None]:
    """Latents of the init audio, one a batch item, and the mask (L,) of what to make anew."""
    if init_audio is None:
        if mask_args is not None:
            raise InputError("mask_args says which part of a sound to keep, but there is no init_audio.")
        return None, None
    from .media import conform_audio

    batch_size, _, latent_count = noise.shape
    size = latent_count * model.config.autoencoder.downsampling_ratio
    if not (isinstance(init_audio, (tuple, list)) and len(init_audio) == 2):
        raise InputError("init_audio must be (sample rate, waveform).")
    rate, waveform = init_audio
    if isinstance(rate, Tensor) and not isinstance(waveform, Tensor):
        rate, waveform = waveform, rate  # the other usual order
    waveform = conform_audio(
        waveform, rate, target_rate=model.sample_rate, channels=model.config.audio_channels
    )
    waveform = torch.nn.functional.pad(waveform[:, :size], (0, max(0, size - waveform.shape[1])))
    needed = encoding_bytes(model.config.autoencoder, size)
    where = placement.use("autoencoder", model.pretransform, needed)
    init = model.pretransform.encode(waveform[None].to(where), generator)
    mask = None
    if mask_args is not None:
        arguments = MaskArguments.from_mapping(mask_args)
        init, mask = paste_latents(init, arguments), build_mask(latent_count, arguments)
    return init.expand(batch_size, -1, -1), mask


def _network_bytes(model: AudioXModel, batch_size: int, tokens: int, latents: int) -> int:
    """Rough need of a guided step beside the weights: the widest activations and the prepared context."""
    network, item = model.config.network, model.network.compute_dtype.itemsize
    widest = 2 * batch_size * (latents + 1) * 8 * network.embed_dim
    context = network.depth * (2 * batch_size) * tokens * 2 * network.context_dim
    if network.type == "mmdit":
        context = network.depth * (2 * batch_size) * network.latent_seq_len * 6 * network.embed_dim
    return item * (3 * widest + context)
