"""Adapter to the research package, for users who have it installed and want its own results.

It calls the package's two functions of the same names as ours, so that a node or a script can choose the
engine. The package that the Python package index calls `audiox` is something else, and is refused.
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
from .config import ModelConfig
from .devices import pick_best_device, resolve_device
from .errors import AudioXError, InputError
from .license import check_license
from .model_info import ModelFacts
from .pipeline.timeline import Timeline
from .pipeline.window_prompts import cut_to_window
from .sampling.denoiser import StepCallback, StepInfo, part_of_run
from .sampling.external import ExternalSampler
from .sampling.samplers import FURTHER_SAMPLERS
from .sampling.schedules import DEFAULT_SCHEDULE

_MODULES = {
    "get_pretrained_model": ("audiox", "audiox.models.pretrained"),
    "generate_diffusion_cond": ("audiox", "audiox.inference.generation"),
}


@dataclass(frozen=True)
class UpstreamModel(ModelFacts):
    """A model of the research package, with what `make_audio` asks of one."""

    model: Any
    config: ModelConfig


def upstream_get_pretrained_model(
    name: str, *, accept_cc_by_nc: bool = False
) -> tuple[UpstreamModel, dict[str, Any]]:
    """Load a model through the research package.

    name: a published short name or a hub repository. Raises `LicenseError` without the opt-in, `InputError`
    when the package is missing, and `AudioXError` with the package's own message when it fails.
    """
    repository = PUBLISHED[name].repository if name in PUBLISHED else name
    if "/" not in repository:
        raise InputError(
            f"The engine audiox loads models from the hub by name, and {name!r} is none. Choose one of "
            f"{', '.join(PUBLISHED)}, or the engine native."
        )
    check_license(PUBLISHED_LICENSE if name in PUBLISHED else None, repository, accept_cc_by_nc)
    load = _find("get_pretrained_model")
    try:
        model, data = load(repository)
        model = model.to(pick_best_device())
    except torch.OutOfMemoryError:
        raise  # the host knows what to do about it
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
    window_overlap: float | None = None,
    window_batch: int | None = None,
    seeds: Sequence[int] | None = None,
    audio_prompt_masking: bool = True,
    latent_mask: Tensor | None = None,
    schedule: str | None = None,
    guidance_start: float = 0.0,
    guidance_end: float = 1.0,
    reuse_threshold: float = 0.0,
    custom_sigmas: Tensor | None = None,
    custom_sampler: ExternalSampler | None = None,
    **arguments: Any,
) -> Tensor:
    """`generate_diffusion_cond` of the research package, with every conditioning key present.

    It has no windows, timelines, edits or whole audio prompts, and but one schedule, its own samplers and
    guidance in all steps: `InputError` for the rest. Variations with seeds
    of their own are made one after the other.
    """
    timeline = any(isinstance(item.get("text_prompt"), Timeline) for item in conditioning)
    wanted = {
        "edit a track": latent_mask is not None,
        "follow a timeline": timeline,
        "hear a full audio prompt": not audio_prompt_masking,
        f"follow the schedule {schedule}": schedule not in (None, DEFAULT_SCHEDULE),
        "guide a part of the run alone": (guidance_start, guidance_end) != (0, 1),
        "use blocks of the network again": bool(reuse_threshold),
        "take a sampler or sigmas of ComfyUI": custom_sigmas is not None or custom_sampler is not None,
        f"sample by {arguments.get('sampler_type')}": arguments.get("sampler_type") in FURTHER_SAMPLERS,
    }
    for what, is_wanted in wanted.items():
        if is_wanted:
            raise InputError(f"The engine audiox cannot {what}. Choose the engine native in the loader.")
    if seeds is not None and len(seeds) > 1:
        alone: dict[str, Any] = {"conditioning": conditioning, "device": device, **arguments}
        alone |= {"sample_size": sample_size}
        counted = [part_of_run(callback, index, len(seeds)) for index in range(len(seeds))]
        made = zip(seeds, counted, strict=True)
        return torch.cat([upstream_generate(model, seed=own, callback=told, **alone) for own, told in made])
    if sample_size is not None and sample_size > model.sample_size:
        raise InputError(
            f"The engine audiox makes at most {model.native_seconds:.2f} s at a time. Choose a shorter "
            "duration, or the engine native."
        )
    generate = _find("generate_diffusion_cond")
    config = model.config
    defaults = model.defaults
    settings: dict[str, Any] = {
        "steps": defaults.steps,
        "cfg_scale": defaults.cfg_scale,
        "sampler_type": defaults.sampler_type,
        "sigma_min": defaults.sigma_min,
        "sigma_max": defaults.sigma_max,
    }
    settings |= arguments
    device = resolve_device(device)
    if callback is not None:
        settings["callback"] = _translated(callback, settings["steps"])
    items = [_complete(item, config, device) for item in conditioning]
    if "negative_conditioning" in settings:
        settings["negative_conditioning"] = [
            _complete(item, config, device) for item in settings["negative_conditioning"]
        ] * batch_size
    try:
        waveform = generate(
            model.model,
            conditioning=items * batch_size,
            batch_size=batch_size,
            sample_size=config.sample_size,
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
    for module in _MODULES[name]:
        try:
            found = getattr(importlib.import_module(module), name, None)
        except ImportError:
            continue
        if callable(found):
            return found
    raise InputError(
        "The engine audiox needs the AudioX research package, and no installed package called audiox has "
        f"{name}. (The one on the Python package index is something else.) Install it from its own "
        "repository, or choose the engine native."
    )


def _complete(item: dict[str, Any], config: ModelConfig, device: torch.device) -> dict[str, Any]:
    """A prompt with the trained empty inputs spelt out, and no longer than the trained ones."""
    item = cut_to_window(item, config, 0.0)
    frames = round(config.conditioning_seconds * config.video_fps)
    samples = round(config.conditioning_seconds * config.sample_rate)
    video = parse_video_prompt(item.get("video_prompt")) or {
        "video_tensors": torch.zeros(1, frames, 3, 224, 224)
    }
    video = {"video_sync_frames": torch.zeros(1, 240, 768), **video}
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


def _translated(callback: StepCallback, steps: int) -> Callable[[dict[str, Any]], None]:
    def told(state: dict[str, Any]) -> None:
        callback(
            StepInfo(
                step=int(state["i"]) + 1, steps=steps, sigma=float(state["sigma"]), denoised=state["denoised"]
            )
        )

    return told


def _failed(what: str, error: Exception) -> AudioXError:
    return AudioXError(
        f"The AudioX research package failed to {what} ({type(error).__name__}: {error}). The engine native "
        "does not need it: choose that, or repair the installation."
    )
