"""The engine: prompts and settings -> latents -> waveform.

B batch, C channels, S samples, L latents, N context tokens, D their width, T video frames.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ..devices import DevicePlacement, Placement, explain_out_of_memory, resolve_device
from ..errors import InputError
from ..media.waveforms import conform_audio
from ..model import AudioXModel
from ..networks.autoencoder.autoencoder import estimate_decoding_bytes, estimate_encoding_bytes
from ..random_numbers import RandomNumbers
from ..sampling.denoiser import StepCallback
from ..sampling.guidance import Guidance
from ..sampling.inpainting import MaskArguments
from ..sampling.windows import DEFAULT_BATCH, WindowedVelocity, move_tensors, network_bytes, plan_windows
from .plan import plan_sampling
from .settings import GenerationSettings, resolve_overlap, resolve_seeds, resolve_settings
from .window_contexts import Conditioning, window_contexts, window_pieces

InitAudio = tuple[int, Tensor]
"""(sample rate in hertz, waveform (C, S))."""


@dataclass(frozen=True, kw_only=True, eq=False)
class EngineInputs:
    """The inputs of one run of the engine besides its settings.

    Attributes:
        conditioning: One mapping per batch item, or one for all, with any of text_prompt (str or
            `Timeline`), video_prompt ({"video_tensors": (1, T, 3, 224, 224) in 0..255, "video_sync_frames":
            (1, 240, D)}) and audio_prompt ((C, S) at the model's rate). An absent prompt is the trained
            empty input. In windows, long prompts are cut to each window's span of time.
        conditioning_tensors: Tokens (B, N, D) by conditioner, in place of `conditioning`.
        negative_conditioning: Prompts of the unconditional prediction; None for its trained zeros.
        negative_conditioning_tensors: Their tokens.
        sample_size: Samples to make; None for the model's own number.
        seeds: One seed per batch item, in place of the settings' seed.
        init_audio: Sound to vary, or to keep in part.
        init_noise_level: Noise level from which a variation starts; with rectified flow its start time.
        mask_args: Part of `init_audio` to keep, by the published arguments.
        latent_mask: Denoising strength of each latent, (L,) or (B, L) in [0, 1].
    """

    conditioning: Conditioning | None = None
    conditioning_tensors: Mapping[str, Any] | None = None
    negative_conditioning: Conditioning | None = None
    negative_conditioning_tensors: Mapping[str, Any] | None = None
    sample_size: int | None = None
    seeds: Sequence[int] | None = None
    init_audio: InitAudio | None = None
    init_noise_level: float = 1.0
    mask_args: Mapping[str, float] | None = None
    latent_mask: Tensor | None = None


@torch.no_grad()
def synthesise(
    model: AudioXModel,
    inputs: EngineInputs,
    settings: GenerationSettings,
    device: str | torch.device = "cuda",
    callback: StepCallback | None = None,
    return_latents: bool = False,
) -> Tensor:
    """Make sound.

    Args:
        model: The model.
        inputs: Prompts, and sounds to start from.
        settings: Settings, whose preset has been applied.
        device: Device to run on if the model has no placement.
        callback: Called once per step; it ends the run by raising.
        return_latents: Return the latents (B, C, L) on the CPU instead.

    Returns:
        The waveform (B, C, L * ratio), float32 on the CPU, not limited to [-1, 1].

    Raises:
        InputError: The model cannot use the inputs or settings, or memory ran out.
    """
    latent_count = count_latents(model, inputs.sample_size)
    settings = resolve_settings(model, settings)
    placement = model.placement or DevicePlacement(resolve_device(device))
    latents = _sample_latents(model, inputs, settings, latent_count, placement, callback)
    return latents.cpu() if return_latents else decode_latents(model, latents, placement)


def _sample_latents(
    model: AudioXModel,
    inputs: EngineInputs,
    settings: GenerationSettings,
    latent_count: int,
    placement: Placement,
    callback: StepCallback | None,
) -> Tensor:
    """Return latents (B, C, L) on the network's device."""
    window_plan = plan_windows(
        latent_count,
        model.config.latent_count,
        resolve_overlap(model, settings.window_overlap) if latent_count > model.config.latent_count else None,
    )
    random = RandomNumbers.from_seeds(resolve_seeds(settings, inputs.seeds))
    # The published code draws in this order, and what a seed gives depends on it. With windows: the noise of
    # the whole sound, each conditioner's numbers window by window, the same for negative prompts, the rest.
    noise = random.normal((settings.batch, model.config.autoencoder.latent_dim, latent_count))
    pieces = window_pieces(
        model, window_plan, inputs.conditioning, inputs.conditioning_tensors, inputs.negative_conditioning
    )
    contexts, negatives = _encode_prompts(model, pieces, inputs, settings, placement, random)
    init = _encode_init_audio(model, inputs.init_audio, noise, placement, random)
    mask = _choose_mask(init, inputs.mask_args, inputs.latent_mask)

    window_batch = settings.window_batch or DEFAULT_BATCH
    needed = network_bytes(model.network, pieces, contexts, window_batch)
    with explain_out_of_memory(placement, "the network was loaded", "Load the model with a lower precision"):
        device = placement.use("network", model.model, needed)
    sampling = plan_sampling(
        model,
        settings,
        init=None if init is None else init.to(device),
        mask=mask,
        init_noise_level=inputs.init_noise_level,
        callback=callback,
    )
    guidance = Guidance(
        scale=settings.cfg or 0.0,
        rescale=settings.guidance_rescale,
        times=sampling.guidance_times,
        split=settings.split_guidance,
    )
    velocity = WindowedVelocity(
        model.network,
        pieces,
        move_tensors(contexts, device),
        None if negatives is None else move_tensors(negatives, device),
        guidance,
        placement=placement,
        window_batch=window_batch,
        reuse_threshold=settings.reuse_threshold,
    )
    latents = sampling.run(velocity, noise.to(device), random)
    if settings.reuse_threshold:
        velocity.log_reuse()
    return latents


def _encode_prompts(
    model: AudioXModel,
    pieces: Sequence[Any],
    inputs: EngineInputs,
    settings: GenerationSettings,
    placement: Placement,
    random: RandomNumbers,
) -> tuple[list[Tensor], list[Tensor] | None]:
    """Return the contexts (B, N, D) of the pieces, and their negative contexts."""
    encode = partial(
        window_contexts,
        model,
        pieces,
        batch_size=settings.batch,
        placement=placement,
        random=random,
        audio_prompt_masking=settings.audio_prompt_masking,
    )
    with explain_out_of_memory(placement, "the prompts were encoded", "Lower the batch"):
        contexts = encode(inputs.conditioning, inputs.conditioning_tensors)
        if contexts is None:
            raise InputError("There is nothing to generate from: give conditioning or conditioning_tensors.")
        # Without guidance as well: the random numbers that this draws influence those that follow.
        negatives = encode(inputs.negative_conditioning, inputs.negative_conditioning_tensors)
    if negatives is not None and negatives[0].shape != contexts[0].shape:
        raise InputError(
            f"The negative conditioning has {tuple(negatives[0].shape[1:])} tokens, the conditioning "
            f"{tuple(contexts[0].shape[1:])}; they must have the same number."
        )
    return contexts, negatives


def count_latents(model: AudioXModel, sample_size: int | None) -> int:
    """Return the number of latents for a number of samples, None for the model's own. Raises `InputError`."""
    if sample_size is None:
        sample_size = model.sample_size
    ratio = model.config.autoencoder.downsampling_ratio
    if sample_size < ratio:
        raise InputError(f"sample_size {sample_size} is shorter than one latent of {ratio} samples.")
    if model.config.network.type == "mmdit" and sample_size // ratio < model.config.latent_count:
        raise InputError(
            f"This model makes at least {model.sample_size} samples ({model.native_seconds:.2f} s), not "
            f"{sample_size}. Leave sample_size out and trim the result."
        )
    return sample_size // ratio


def decode_latents(model: AudioXModel, latents: Tensor, placement: Placement) -> Tensor:
    """Decode latents to a waveform.

    Args:
        model: The model.
        latents: (B, C, L).
        placement: Decides where the autoencoder runs.

    Returns:
        (B, channels, L * ratio), float32 on the CPU.

    Raises:
        InputError: Memory ran out, also in small chunks.
    """
    config = model.config.autoencoder
    # A sound beyond the model's own length is decoded in chunks of that length.
    chunk = min(latents.shape[-1], model.config.latent_count)
    needed = estimate_decoding_bytes(config, chunk * config.downsampling_ratio)
    items = 1 if config.iterate_batch else latents.shape[0]
    step = "the sound was decoded, also in small pieces"
    with explain_out_of_memory(placement, step, "Lower the batch or the duration"):
        device = placement.use("autoencoder", model.pretransform, items * needed)
        waveform = model.pretransform.decode(
            latents.to(device), chunk, placement.check_cancelled, placement.free_memory
        )
        return waveform.float().cpu()


def _encode_init_audio(
    model: AudioXModel,
    init_audio: InitAudio | None,
    noise: Tensor,
    placement: Placement,
    random: RandomNumbers,
) -> Tensor | None:
    """Return the latents of the init audio, expanded to the batch."""
    if init_audio is None:
        return None
    config, (batch, _, latent_count) = model.config.autoencoder, noise.shape
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
    chunk = min(latent_count, model.config.latent_count)  # as in `decode_latents`
    needed = estimate_encoding_bytes(config, chunk * config.downsampling_ratio)
    step = "the sound to start from was encoded, also in small pieces"
    with explain_out_of_memory(placement, step, "Lower the batch, shorten that sound"):
        device = placement.use("autoencoder", model.pretransform, needed)
        init = model.pretransform.encode_once(
            waveform[None].to(device), random, chunk, placement.check_cancelled, placement.free_memory
        )
    return init.expand(batch, -1, -1)


def _choose_mask(
    init: Tensor | None, mask_args: Mapping[str, float] | None, latent_mask: Tensor | None
) -> Tensor | MaskArguments | None:
    """Return which part of the init audio to keep: the published arguments, or a strength per latent."""
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
