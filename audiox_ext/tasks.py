"""What a node or the command line asks for: a request in a user's words -> finished audio.

B batch, C channels, S samples.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

from .arguments import MAX_SEED, checked_batch
from .denoising import StepCallback
from .errors import InputError
from .facts import ModelFacts
from .sampling import SAMPLER_NAMES

if TYPE_CHECKING:
    from .features import VideoFeatures

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class AudioRequest:
    """One request. 0 and "" mean the model's own value.

    seconds: length of the result, up to the model's native length. audio_prompt: (waveform (C, S), hertz), to
    be heard as an example. features: of the video to score. seed: at least 0.
    """

    prompt: str = ""
    negative_prompt: str = ""
    features: VideoFeatures | None = None
    audio_prompt: tuple[Tensor, int] | None = None
    seconds: float = 0.0
    steps: int = 0
    cfg_scale: float = 0.0
    sampler_type: str = ""
    sigma_min: float = 0.0
    sigma_max: float = 0.0
    seed: int = 0
    batch_size: int = 1


class Generate(Protocol):
    """`generate_diffusion_cond`, ours or the research package's through the adapter."""

    def __call__(self, model: Any, **arguments: Any) -> Tensor: ...


def make_audio(
    model: ModelFacts,
    request: AudioRequest,
    *,
    device: str | torch.device = "cuda",
    callback: StepCallback | None = None,
    generate: Generate | None = None,
) -> Tensor:
    """The audio of a request: (B, C, S) float32 on the CPU, of exactly the asked length.

    Its level is as the model made it, unless it would clip: then it is scaled down to a peak of 1.
    Raises `InputError` with a sentence about what was asked.
    """
    check_request(model, request)
    seconds = request.seconds or model.native_seconds
    if generate is None:
        from .generation import generate_diffusion_cond

        generate = generate_diffusion_cond
    arguments: dict[str, Any] = {"conditioning": [_conditioning(model, request, seconds)]}
    if request.negative_prompt.strip() and model.config.few_step_count is not None:
        log.info("The negative prompt is not used: this model's few steps work without guidance.")
    elif request.negative_prompt.strip():
        arguments["negative_conditioning"] = [{"text_prompt": request.negative_prompt}]
    own = {
        "steps": request.steps,
        "cfg_scale": request.cfg_scale,
        "sampler_type": request.sampler_type,
        "sigma_min": request.sigma_min,
        "sigma_max": request.sigma_max,
    }
    arguments |= {name: value for name, value in own.items() if value}
    waveform = generate(
        model, batch_size=request.batch_size, seed=request.seed, device=device, callback=callback, **arguments
    )
    samples = round(request.seconds * model.sample_rate) if request.seconds else waveform.shape[-1]
    return finish_audio(waveform, samples)


def check_request(model: ModelFacts, request: AudioRequest) -> None:
    """Everything about a request that can be refused before any work. Raises `InputError`."""
    if not request.prompt.strip() and request.features is None and request.audio_prompt is None:
        raise InputError(
            "There is nothing to make sound from: the prompt is empty, and no features and no audio prompt "
            "are connected. Write a prompt, or connect an AudioX Feature Extractor or an audio prompt."
        )
    _check_seconds(model, request.seconds)
    _check_numbers(request)
    checked_batch(request.batch_size)


def finish_audio(waveform: Tensor, samples: int) -> Tensor:
    """Make (B, C, S) `samples` long, and scale down each item whose peak is above 1.

    A model's latents make up to one latent less than its native length: what lacks is silence.

    Raises `InputError` when the result is not a number anywhere.
    """
    missing = max(0, samples - waveform.shape[-1])
    waveform = torch.nn.functional.pad(waveform[..., :samples].float(), (0, missing)).contiguous()
    if not bool(torch.isfinite(waveform).all()):
        raise InputError(
            "The result is not a number (NaN or infinite): the precision is too low for these settings. "
            "Load the model with precision fp32 or bf16, or lower cfg."
        )
    peaks = waveform.abs().amax(dim=(1, 2), keepdim=True)
    if bool((peaks > 1).any()):
        log.info("The result would clip (peak %.2f): scaled down to full scale.", float(peaks.max()))
    return waveform / peaks.clamp(min=1)


def _conditioning(model: ModelFacts, request: AudioRequest, seconds: float) -> dict[str, Any]:
    conditioning: dict[str, Any] = {
        "text_prompt": request.prompt,
        "seconds_start": 0,
        "seconds_total": seconds,
    }
    if request.features is not None:
        if model.needs_sync and request.features.sync is None:
            raise InputError(
                "This model follows the video through Synchformer features, and the connected features "
                "have none. Connect this model to the AudioX Feature Extractor as well. If no Synchformer "
                "weights were found, put synchformer_state_dict.safetensors (or .pth) beside the model's "
                "config.json, or into models/selva or models/mmaudio, and extract the features again."
            )
        conditioning["video_prompt"] = request.features.video_prompt()
    if request.audio_prompt is not None:
        from .media import conform_audio

        waveform, rate = request.audio_prompt
        if isinstance(rate, (int, float)) and 0 < rate < math.inf:
            # Only the beginning is heard: an hour need not be resampled for it.
            waveform = waveform[..., : math.ceil((model.conditioning_seconds + 1) * rate)]
        conditioning["audio_prompt"] = conform_audio(
            waveform, rate, target_rate=model.sample_rate, channels=model.config.audio_channels
        )
    return conditioning


def _check_seconds(model: ModelFacts, seconds: float) -> None:
    if not math.isfinite(seconds) or seconds < 0:
        raise InputError(f"The duration must be 0 (the model's own) or more, got {seconds!r} s.")
    native = model.native_seconds
    # A widget rounds: allow what is the native length to a hundredth.
    if seconds > native + 0.01:
        raise InputError(
            f"The duration is {seconds:g} s, and this model makes at most {native:.2f} s at a time. Choose "
            "a shorter one."
        )
    if 0 < seconds < 0.05:
        raise InputError(
            f"The duration is {seconds:g} s, which is too short to hear. Choose at least 0.05 s."
        )


def _check_numbers(request: AudioRequest) -> None:
    for name, value in (("steps", request.steps), ("cfg", request.cfg_scale)):
        if not math.isfinite(value) or value < 0:
            raise InputError(f"{name} must be 0 (the model's own) or more, got {value!r}.")
    for name, value in (("sigma_min", request.sigma_min), ("sigma_max", request.sigma_max)):
        if not math.isfinite(value) or value < 0:
            raise InputError(f"{name} must be 0 (the model's own) or more, got {value!r}.")
    if request.sampler_type and request.sampler_type not in SAMPLER_NAMES:
        raise InputError(
            f"There is no sampler called {request.sampler_type!r}. Choose default or one of "
            f"{', '.join(SAMPLER_NAMES)}."
        )
    if not 0 <= request.seed <= MAX_SEED:
        raise InputError(f"The seed must be from 0 to 2^64 - 1, got {request.seed}.")
