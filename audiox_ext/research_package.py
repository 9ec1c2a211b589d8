"""Adapter to the research package, for users who have it installed and want its results.

It calls the two functions that the package and this engine have in common, so that a node or a script can
choose the engine. The package named `audiox` on the Python package index is a different one.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .checkpoints.catalog import PUBLISHED, PUBLISHED_LICENSE
from .checkpoints.config_parser import parse_config
from .conditioning.prompts import parse_video_prompt
from .config import ClipConditionerConfig, ModelConfig
from .devices import pick_best_device, resolve_device
from .errors import AudioXError, InputError
from .license import check_license
from .model_info import ModelFacts
from .pipeline.timeline import Timeline
from .pipeline.window_prompts import cut_to_window
from .sampling.denoiser import StepCallback, StepInfo, part_of_run
from .sampling.samplers import FURTHER_SAMPLERS
from .sampling.schedules import DEFAULT_SCHEDULE

_STUDENT = "AudioX-Turbo"
_MODULES = {
    "get_pretrained_model": ("audiox", "audiox.models.pretrained"),
    "generate_diffusion_cond": ("audiox", "audiox.inference.generation"),
}


@dataclass(frozen=True)
class UpstreamModel(ModelFacts):
    """A model of the research package, with the facts that `make_audio` needs.

    Attributes:
        model: The model itself.
        config: Its configuration.
    """

    model: Any
    config: ModelConfig


def upstream_get_pretrained_model(
    name: str, *, accept_cc_by_nc: bool = False
) -> tuple[UpstreamModel, dict[str, Any]]:
    """Load a model through the research package.

    Args:
        name: A published short name or a hub repository.
        accept_cc_by_nc: Whether the user accepts the licence of published weights.

    Returns:
        The model and the contents of its config.json.

    Raises:
        LicenseError: Without the licence.
        InputError: If the package is missing or cannot load this model, or the name is not one of the hub.
        AudioXError: If the package fails; the message contains its own.
    """
    repository = PUBLISHED[name].repository if name in PUBLISHED else name
    if "/" not in repository:
        raise InputError(
            f"The engine audiox loads models from the hub, which has no {name!r}. Choose one of "
            f"{', '.join(PUBLISHED)}, or the engine native."
        )
    if repository.lower() == PUBLISHED[_STUDENT].repository.lower():
        raise InputError(
            f"The engine audiox cannot load {name}: the research package expects a config.json and weights "
            f"in another layout than {_STUDENT} has. Choose the engine native, or another model."
        )
    check_license(PUBLISHED_LICENSE if name in PUBLISHED else None, repository, accept_cc_by_nc)
    load = _find("get_pretrained_model")
    try:
        model, data = load(repository)
        model = model.to(pick_best_device())
    except torch.OutOfMemoryError:
        raise  # the caller may free memory and retry
    except Exception as error:
        raise _failed("load", error) from error
    return UpstreamModel(model, parse_config(data)), data


def upstream_generate(
    model: UpstreamModel,
    *,
    conditioning: list[dict[str, Any]],
    batch_size: int = 1,
    seed: int = -1,
    device: str | torch.device = "cuda",
    callback: StepCallback | None = None,
    sample_size: int | None = None,
    seeds: Sequence[int] | None = None,
    **arguments: Any,
) -> Tensor:
    """Generate with the research package, with the arguments of `generate_diffusion_cond`.

    The package has one window, one schedule, its own samplers, and guidance in all steps.

    Args:
        model: Model of `upstream_get_pretrained_model`.
        conditioning: One conditioning dictionary per item; missing prompts are completed.
        batch_size: Number of sounds per item.
        seed: Seed of the batch, -1 for a random one.
        device: Device to generate on.
        callback: Receives every step.
        sample_size: Length in samples, at most the model's own length.
        seeds: One seed per variation; variations are generated one after the other.
        **arguments: Further arguments of `generate_diffusion_cond`.

    Returns:
        Waveforms (B, channels, S), float32, on the CPU.

    Raises:
        InputError: For arguments that the package does not support.
        AudioXError: If the package fails.
    """
    settings = _supported_arguments(conditioning, arguments)
    if seeds is not None and len(seeds) > 1:
        common: dict[str, Any] = {"conditioning": conditioning, "device": device, **settings}
        common |= {"sample_size": sample_size}
        callbacks = [part_of_run(callback, index, len(seeds)) for index in range(len(seeds))]
        runs = zip(seeds, callbacks, strict=True)
        return torch.cat([upstream_generate(model, seed=s, callback=report, **common) for s, report in runs])
    if sample_size is not None and sample_size > model.sample_size:
        raise InputError(
            f"The engine audiox generates at most {model.native_seconds:.2f} s at a time. Choose a shorter "
            "duration, or the engine native."
        )
    defaults = model.defaults
    settings = {
        "steps": defaults.steps,
        "cfg_scale": defaults.cfg_scale,
        "sampler_type": defaults.sampler_type,
        "sigma_min": defaults.sigma_min,
        "sigma_max": defaults.sigma_max,
        **settings,
    }
    if callback is not None:
        settings["callback"] = _translated(callback, settings["steps"])
    return _call_package(model, conditioning, batch_size, seed, resolve_device(device), settings)


def _supported_arguments(conditioning: Sequence[dict[str, Any]], arguments: dict[str, Any]) -> dict[str, Any]:
    """The arguments that the package knows; raises `InputError` for others with an effect."""
    arguments = dict(arguments)
    take = arguments.pop
    take("window_overlap", None)  # without an effect in a single window
    take("window_batch", None)
    schedule, sampler = take("schedule", None), arguments.get("sampler_type")
    guidance = take("guidance_start", 0.0), take("guidance_end", 1.0)
    custom = take("custom_sigmas", None), take("custom_sampler", None)
    negative = [take(name, None) for name in ("negative_conditioning", "negative_conditioning_tensors")]
    unsupported = {
        # Its masks have the wrong length then, which shows as an error about the sizes of tensors.
        "use a negative prompt, because the research package fails with one": any(
            value is not None for value in negative
        ),
        "edit a track": take("latent_mask", None) is not None,
        "follow a timeline": any(isinstance(item.get("text_prompt"), Timeline) for item in conditioning),
        "use a whole audio prompt": not take("audio_prompt_masking", True),
        f"use the schedule {schedule}": schedule not in (None, DEFAULT_SCHEDULE),
        "guide only part of the steps": guidance != (0, 1),
        "reuse blocks of the network": bool(take("reuse_threshold", 0.0)),
        "use a sampler or sigmas of ComfyUI": any(value is not None for value in custom),
        f"use the sampler {sampler}": sampler in FURTHER_SAMPLERS,
    }
    for action, is_requested in unsupported.items():
        if is_requested:
            raise InputError(
                f"The engine audiox cannot {action}. Choose the engine native in the loader, or change this "
                "setting."
            )
    return arguments


def _call_package(
    model: UpstreamModel,
    conditioning: Sequence[dict[str, Any]],
    batch_size: int,
    seed: int,
    device: torch.device,
    settings: dict[str, Any],
) -> Tensor:
    """Waveforms of the package's function, whose errors become ours."""
    generate = _find("generate_diffusion_cond")
    items = [_complete(item, model.config, device) for item in conditioning]
    try:
        waveform = generate(
            model.model,
            conditioning=items * batch_size,
            batch_size=batch_size,
            sample_size=model.config.sample_size,
            seed=seed,
            device=str(device),
            **settings,
        )
    except (AudioXError, torch.OutOfMemoryError):
        raise
    except (ImportError, RuntimeError, TypeError, ValueError, KeyError) as error:
        raise _failed("generate", error) from error
    return waveform.float().cpu()


def _find(name: str) -> Callable[..., Any]:
    """A function of the installed package."""
    for module in _MODULES[name]:
        try:
            function = getattr(importlib.import_module(module), name, None)
        except ImportError:
            continue
        if callable(function):
            return function
    raise InputError(
        "The engine audiox needs the AudioX research package, and no installed package called audiox has "
        f"{name}. (The one on the Python package index is something else.) Install it from its own "
        "repository, or choose the engine native."
    )


def _complete(item: dict[str, Any], config: ModelConfig, device: torch.device) -> dict[str, Any]:
    """An item with empty inputs for missing prompts, cut to the trained duration."""
    item = cut_to_window(item, config, 0.0)
    samples = round(config.conditioning_seconds * config.sample_rate)
    clip = _video_sizes(config)
    size = clip.clip.image_size
    video = parse_video_prompt(item.get("video_prompt")) or {
        "video_tensors": torch.zeros(1, clip.frames, 3, size, size)
    }
    video = {"video_sync_frames": torch.zeros(1, clip.sync_tokens, clip.sync_dim), **video}
    video["video_tensors"] = video["video_tensors"].float()
    audio = item.get("audio_prompt")
    audio = torch.zeros(config.audio_channels, samples) if audio is None else audio
    return {
        "text_prompt": item.get("text_prompt", ""),
        "video_prompt": {key: value.to(device) for key, value in video.items()},
        "audio_prompt": audio[None].to(device),
        "seconds_start": item.get("seconds_start", 0),
        "seconds_total": item.get("seconds_total", config.conditioning_seconds),
    }


def _video_sizes(config: ModelConfig) -> ClipConditionerConfig:
    """The sizes of a video prompt, which the package takes with every request."""
    for conditioner in config.conditioners.values():
        if isinstance(conditioner, ClipConditionerConfig):
            return conditioner
    seconds, fps = config.conditioning_seconds, config.video_fps
    return ClipConditionerConfig(with_sync=False, seconds=seconds, video_fps=fps)


def _translated(callback: StepCallback, steps: int) -> Callable[[dict[str, Any]], None]:
    """A callback of the package that calls ours."""

    def report(state: dict[str, Any]) -> None:
        callback(
            StepInfo(
                step=int(state["i"]) + 1, steps=steps, sigma=float(state["sigma"]), denoised=state["denoised"]
            )
        )

    return report


def _failed(action: str, error: Exception) -> AudioXError:
    """An error with the message of the package."""
    return AudioXError(
        f"The AudioX research package failed to {action} ({type(error).__name__}: {error}). The engine "
        "native does not need it: choose that, or repair the installation."
    )
