"""generate_diffusion_cond: from prompts to a waveform.

B batch, C channels, S samples, L latents, N context tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ..devices import DevicePlacement, Placement, explain_out_of_memory, resolve_device
from ..errors import InputError
from ..model import AudioXModel
from ..networks.autoencoder.autoencoder import estimate_decoding_bytes, estimate_encoding_bytes
from ..random_numbers import RandomNumbers
from ..sampling.guidance import Guidance
from ..sampling.inpainting import MaskArguments
from ..sampling.windows import DEFAULT_BATCH, WindowedVelocity, moved, network_bytes, plan_windows
from .plan import plan_sampling
from .settings import (
    SamplerSettings,
    checked_batch,
    checked_guidance,
    checked_latents,
    checked_overlap,
    checked_seeds,
    checked_steps,
)
from .window_contexts import window_contexts, window_pieces

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
    text_prompt (str, or a `Timeline`), video_prompt ({"video_tensors": (1, T, 3, 224, 224) in 0..255,
    "video_sync_frames": (1, 240, 768)}) and audio_prompt ((C, S) at the model's rate); what is absent is the
    trained empty input. conditioning_tensors: tokens (B, N, D) by conditioner instead, as
    `AudioXModel.encode_conditioning` returns them; likewise the negative ones, which replace the zeros of the
    unconditional prediction. sample_size: samples to make, default the model's own; mmdit networks make no
    less. More is made through overlapping windows of the model's own length, in which prompts longer than
    `conditioning_seconds` are cut to each window's span of time (see `time_spans.span_of`). sample_rate: None
    or the model's. seed: -1 for a random one; equal seeds give equal sound, on any device to its precision.
    device: ignored when the model has a placement; "cuda" falls back to the best there is. init_audio: (rate,
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
    overlap = None
    if latent_count > model.config.latent_count:
        overlap = checked_overlap(model, settings.window_overlap)
    plan = plan_windows(latent_count, model.config.latent_count, overlap)
    batch_size = checked_batch(batch_size)
    placement = model.placement or DevicePlacement(resolve_device(device))
    random = RandomNumbers.from_seeds(checked_seeds(seed, settings.seeds, batch_size))

    # The order of these draws is the published code's: a seed depends on it. With windows: the noise of the
    # whole, each conditioner's numbers window by window, the same for the negative prompts, then the rest.
    noise = random.normal((batch_size, model.config.autoencoder.latent_dim, latent_count))
    pieces = window_pieces(model, plan, conditioning, conditioning_tensors, negative_conditioning)
    encode = partial(
        window_contexts,
        model,
        pieces,
        batch_size=batch_size,
        placement=placement,
        random=random,
        mask_audio_prompt=settings.mask_audio_prompt,
    )
    with explain_out_of_memory(placement, "the prompts were encoded", "Lower the batch"):
        contexts = encode(conditioning, conditioning_tensors)
        if contexts is None:
            raise InputError("There is nothing to generate from: give conditioning or conditioning_tensors.")
        # Also without guidance, when nothing but its random draws has an influence, on those that follow.
        negatives = encode(negative_conditioning, negative_conditioning_tensors)
    if negatives is not None and negatives[0].shape != contexts[0].shape:
        raise InputError(
            f"The negative conditioning comes to {tuple(negatives[0].shape[1:])} tokens, the conditioning to "
            f"{tuple(contexts[0].shape[1:])}; they must be alike."
        )
    init = _init_latents(model, init_audio, noise, placement, random)
    mask = _mask(init, mask_args, settings.latent_mask)

    at_once = settings.window_batch or DEFAULT_BATCH
    needed = network_bytes(model.network, pieces, contexts, at_once)
    with explain_out_of_memory(placement, "the network was loaded", "Load the model with a lower precision"):
        where = placement.use("network", model.model, needed)
    sampling = plan_sampling(
        model,
        settings,
        steps,
        init=None if init is None else init.to(where),
        mask=mask,
        init_noise_level=init_noise_level,
    )
    velocity = WindowedVelocity(
        model.network,
        pieces,
        moved(contexts, where),
        None if negatives is None else moved(negatives, where),
        Guidance(
            scale=guidance,
            rescale=settings.scale_phi,
            times=sampling.guided_times,
            split=settings.split_guidance,
        ),
        placement=placement,
        at_once=at_once,
        reuse_threshold=settings.reuse_threshold,
    )
    latents = sampling.run(velocity, noise.to(where), random)
    if settings.reuse_threshold:
        velocity.say_what_was_reused()
    del velocity
    if return_latents:
        return latents.cpu()
    return decode_latents(model, latents, placement)


def decode_latents(model: AudioXModel, latents: Tensor, placement: Placement) -> Tensor:
    """(B, C, L) -> waveform (B, channels, L * ratio), float32 on the CPU.

    Raises `InputError` when memory runs out, also in small pieces.
    """
    config = model.config.autoencoder
    # What is longer than the model's own length is decoded in pieces of that length.
    piece = min(latents.shape[-1], model.config.latent_count)
    needed = estimate_decoding_bytes(config, piece * config.downsampling_ratio)
    at_once = 1 if config.iterate_batch else latents.shape[0]
    doing = "the sound was decoded, also in small pieces"
    with explain_out_of_memory(placement, doing, "Lower the batch or the duration"):
        where = placement.use("autoencoder", model.pretransform, at_once * needed)
        waveform = model.pretransform.decode(
            latents.to(where), piece, placement.check_cancelled, placement.free_memory
        )
        return waveform.float().cpu()


def _init_latents(
    model: AudioXModel,
    init_audio: InitAudio | None,
    noise: Tensor,
    placement: Placement,
    random: RandomNumbers,
) -> Tensor | None:
    """Latents of the init audio, one a batch item."""
    if init_audio is None:
        return None
    from ..media.waveforms import conform_audio

    config, (batch_size, _, latent_count) = model.config.autoencoder, noise.shape
    size = latent_count * config.downsampling_ratio
    if not (isinstance(init_audio, (tuple, list)) and len(init_audio) == 2):
        raise InputError("init_audio must be (sample rate, waveform).")
    rate, waveform = init_audio
    if isinstance(rate, Tensor) and not isinstance(waveform, Tensor):
        rate, waveform = waveform, rate  # the other usual order
    waveform = conform_audio(
        waveform, rate, target_rate=model.sample_rate, channels=model.config.audio_channels
    )
    waveform = torch.nn.functional.pad(waveform[:, :size], (0, max(0, size - waveform.shape[1])))
    # As in `decode_latents`.
    piece = min(latent_count, model.config.latent_count)
    needed = estimate_encoding_bytes(config, piece * config.downsampling_ratio)
    doing = "the sound to start from was encoded, also in small pieces"
    with explain_out_of_memory(placement, doing, "Lower the batch, shorten that sound"):
        where = placement.use("autoencoder", model.pretransform, needed)
        init = model.pretransform.encode_once(
            waveform[None].to(where), random, piece, placement.check_cancelled, placement.free_memory
        )
    return init.expand(batch_size, -1, -1)


def _mask(
    init: Tensor | None, mask_args: Mapping[str, float] | None, latent_mask: Tensor | None
) -> Tensor | MaskArguments | None:
    """What of the init audio is kept, by the published arguments or by a strength for each latent."""
    if mask_args is None and latent_mask is None:
        return None
    if init is None:
        name = "mask_args" if latent_mask is None else "latent_mask"
        raise InputError(f"{name} says which part of a sound to keep, but there is no init_audio.")
    if mask_args is None:
        return latent_mask
    if latent_mask is not None:
        raise InputError("Both mask_args and latent_mask are given: give one of them.")
    return MaskArguments.from_mapping(mask_args)
