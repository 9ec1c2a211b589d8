"""generate_diffusion_cond: the published function, from prompts to a waveform.

Published names of arguments end here: inside, settings are called as in `GenerationSettings`.

B batch, C channels, S samples, L latents, N context tokens, D their width, T video frames.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ..errors import InputError, is_whole, quote_value
from ..model import AudioXModel
from ..sampling.denoiser import StepCallback
from .settings import MAX_SECONDS, GenerationSettings
from .synthesis import EngineInputs, InitAudio, synthesise

_SETTINGS = {"sampler_type": "sampler", "scale_phi": "guidance_rescale"}
"""Published names in `sampler_kwargs` -> names of settings."""
_OWN_ARGUMENTS = {"cfg", "steps", "seed", "batch", "sampler", "guidance_rescale"}
_NOT_IN_THE_ENGINE = {"duration", "init_strength", "short_sounds", "preset"}
_SETTINGS |= {
    name: name
    for name in GenerationSettings.__dataclass_fields__
    if name not in _OWN_ARGUMENTS | _NOT_IN_THE_ENGINE
}
_INPUTS = ("seeds", "latent_mask")


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
    """Make sound, as the published function of this name does (arXiv 2503.10522, 2606.12555).

    Args:
        model: The model.
        steps: As in `GenerationSettings`.
        cfg_scale: The setting cfg.
        conditioning: Prompts, see `EngineInputs`.
        conditioning_tensors: Their tokens instead, as from `AudioXModel.encode_conditioning`.
        negative_conditioning: Prompts of the unconditional prediction; None for its trained zeros.
        negative_conditioning_tensors: Their tokens instead.
        batch_size: The setting batch. Without `seeds`, one seed makes the whole batch.
        sample_size: Samples to make; None for the model's own number. More are made through windows.
        sample_rate: None or the model's.
        seed: 0 to 2^64 - 1, or -1 for a random one.
        device: "cuda" falls back to the best device there is. Ignored if the model has a placement.
        init_audio: Sound to vary, or with mask_args to keep in part.
        init_noise_level: Noise level from which a variation starts.
        mask_args: See `MaskArguments`.
        return_latents: Return the latents (B, C, L) instead.
        sampler_kwargs: sampler_type, scale_phi, a callback, and more: see `split_arguments`.

    Returns:
        The waveform (B, C, L * ratio), float32 on the CPU, not limited to [-1, 1].
    """
    own = {"steps": steps, "cfg": cfg_scale, "batch": batch_size, "seed": None if seed == -1 else seed}
    settings, more, callback = split_arguments(sampler_kwargs, own)
    inputs = EngineInputs(
        conditioning=conditioning,
        conditioning_tensors=conditioning_tensors,
        negative_conditioning=negative_conditioning,
        negative_conditioning_tensors=negative_conditioning_tensors,
        sample_size=_check_sizes(model, sample_size, sample_rate),
        init_audio=init_audio,
        init_noise_level=init_noise_level,
        mask_args=mask_args,
        **more,
    )
    return synthesise(model, inputs, settings, device, callback, return_latents)


def split_arguments(
    sampler_kwargs: Mapping[str, Any], own: Mapping[str, Any]
) -> tuple[GenerationSettings, dict[str, Any], StepCallback | None]:
    """Sort the arguments of `generate_diffusion_cond`.

    Args:
        sampler_kwargs: sampler_type, scale_phi (the setting guidance_rescale), further settings by their own
            names, `seeds` and `latent_mask` of `EngineInputs`, and `callback`, called once per step.
        own: Settings, by field name.

    Returns:
        The settings, further fields of `EngineInputs`, and the callback.

    Raises:
        InputError: An argument is unknown or out of range.
    """
    unknown = sorted(sampler_kwargs.keys() - {*_SETTINGS, *_INPUTS, "callback"})
    if unknown:
        raise InputError(
            f"Unknown arguments: {', '.join(unknown)}. Besides its own, generate_diffusion_cond "
            f"accepts callback, {', '.join([*_SETTINGS, *_INPUTS])}."
        )
    settings = {_SETTINGS[name]: value for name, value in sampler_kwargs.items() if name in _SETTINGS}
    more = {name: sampler_kwargs[name] for name in _INPUTS if name in sampler_kwargs}
    return GenerationSettings(**own, **settings), more, sampler_kwargs.get("callback")


def published_arguments(inputs: EngineInputs, settings: GenerationSettings) -> dict[str, Any]:
    """Return inputs and settings as arguments of `generate_diffusion_cond`, without those at their default.

    batch_size and seed are always there.
    """
    names = {"steps": "steps", "cfg": "cfg_scale"}
    names |= {name: published for published, name in _SETTINGS.items()}
    default = GenerationSettings()
    seed = -1 if settings.seed is None else settings.seed
    arguments: dict[str, Any] = {"batch_size": settings.batch, "seed": seed}
    for name, published in names.items():
        value = getattr(settings, name)
        if value is not getattr(default, name) and not _equal(value, getattr(default, name)):
            arguments[published] = value
    no_inputs = EngineInputs()
    for input_name in EngineInputs.__dataclass_fields__:
        value = getattr(inputs, input_name)
        if value is not getattr(no_inputs, input_name):
            arguments[input_name] = value
    return arguments


def _equal(value: Any, default: Any) -> bool:
    return not isinstance(value, Tensor) and bool(value == default)


def _check_sizes(model: AudioXModel, sample_size: int | None, sample_rate: int | None) -> int | None:
    """Return sample_size. Refuse one that is not a whole number, and another rate than the model's."""
    if sample_rate not in (None, model.sample_rate):
        raise InputError(
            f"This model makes sound at {model.sample_rate} Hz, not {sample_rate}. Resample the result."
        )
    longest = int(2 * MAX_SECONDS * model.sample_rate)
    if sample_size is not None and not (is_whole(sample_size) and sample_size <= longest):
        raise InputError(
            f"sample_size must be a whole number of samples, up to {longest}, got {quote_value(sample_size)}."
        )
    return sample_size
