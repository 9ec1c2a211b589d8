"""From a request to finished audio: new sounds, variations of a sound, edited tracks.

B batch, C channels, S samples.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor

from ..conditioning.video_features import VideoFeatures
from ..errors import InputError
from ..media.waveforms import check_waveform, conform_audio
from ..model_info import ModelFacts
from ..sampling.denoiser import StepCallback, noise_level, part_of_run
from ..utf8 import get_logger
from .edit_track import WindowJob, edit_track
from .generate import published_arguments
from .request import AudioRequest, SoundWithRate, check_request
from .settings import GenerationSettings, apply_preset, resolve_settings
from .synthesis import EngineInputs, synthesise
from .timeline import Timeline, resembles_timeline
from .window_prompts import from_second

if TYPE_CHECKING:
    from ..model import AudioXModel

log = get_logger(__name__)


PublishedGenerate = Callable[..., Tensor]
"""Takes the arguments of `generate_diffusion_cond` and returns the waveform (B, C, S)."""

RunEngine = Callable[[EngineInputs, StepCallback | None], Tensor]
"""One run with the request's settings -> waveform (B, C, S)."""


def make_audio(
    model: ModelFacts,
    request: AudioRequest,
    *,
    device: str | torch.device = "cuda",
    callback: StepCallback | None = None,
    generate: PublishedGenerate | None = None,
) -> Tensor:
    """Make the audio of a request.

    The loudness stays as the model made it, unless the audio would clip: then it is scaled down to a peak of
    1. An edit of a batch of tracks gives the batch of variations for each of them.

    Args:
        model: The model.
        request: Prompts, inputs and settings.
        device: Device to run on if the model has no placement.
        callback: Called once per step; it ends the run by raising.
        generate: Another engine in place of this one.

    Returns:
        (B, C, S) float32 on the CPU, at `request.rate(model)`, exactly as long as the request says.

    Raises:
        InputError: The model cannot make this sound.
    """
    settings = apply_preset(model, request.settings)
    request = replace(request, settings=settings)
    check_request(model, request)
    _say_how_prompt_is_read(request.prompt)

    def run_engine(inputs: EngineInputs, step_callback: StepCallback | None) -> Tensor:
        inputs = replace(inputs, seeds=settings.item_seeds)
        if generate is not None:
            arguments = published_arguments(inputs, settings)
            return generate(model, **arguments, device=device, callback=step_callback)
        return synthesise(cast("AudioXModel", model), inputs, settings, device=device, callback=step_callback)

    if request.edit is not None:
        return _edit(model, request, callback, run_engine)
    return _generate(model, request, callback, run_engine)


def _generate(
    model: ModelFacts, request: AudioRequest, callback: StepCallback | None, run_engine: RunEngine
) -> Tensor:
    """Make a new sound, or vary one."""
    seconds = request.seconds(model)
    _warn_if_video_is_shorter(request, seconds)
    inputs = replace(_prompts_of(model, request, seconds), sample_size=_sample_size(model, request, seconds))
    if request.init_audio is not None:
        waveform, rate = request.init_audio
        if waveform.shape[-1] / rate < seconds - 0.5:
            log.warning(
                "init_audio lasts %.2f s, the sound %.2f s: the rest is a variation of silence. To continue "
                "a sound, extend it.",
                waveform.shape[-1] / rate,
                seconds,
            )
        level = init_noise_level(model, request.settings)
        inputs = replace(inputs, init_audio=(rate, waveform), init_noise_level=level)
    waveform = run_engine(inputs, callback)
    is_native = seconds == model.native_seconds and request.settings.duration is None
    return finish_audio(waveform, waveform.shape[-1] if is_native else round(seconds * model.sample_rate))


def _edit(
    model: ModelFacts, request: AudioRequest, callback: StepCallback | None, run_engine: RunEngine
) -> Tensor:
    """Edit or extend a track."""
    assert request.edit is not None
    total = request.seconds(model)
    if request.settings.duration is not None:
        log.info("duration is not used: the edited track determines the length, %.2f s.", total)
    _warn_if_video_is_shorter(request, total)

    def make_window(job: WindowJob) -> Tensor:
        seconds = job.waveform.shape[-1] / model.sample_rate
        inputs = replace(
            _prompts_of(model, request, seconds, total=total, job=job),
            sample_size=job.waveform.shape[-1],
            init_audio=(model.sample_rate, job.waveform),
            latent_mask=job.strengths,
        )
        return ensure_finite(run_engine(inputs, part_of_run(callback, job.index, job.count)))

    return edit_track(model, request.edit, make_window)


def finish_audio(waveform: Tensor, samples: int) -> Tensor:
    """Trim or pad a waveform, and scale down each item whose peak is above 1.

    Args:
        waveform: (B, C, S). The model's latents make up to one latent less than its own length; silence fills
            the rest.
        samples: Length of the result.

    Raises:
        InputError: The waveform has values that are not finite.
    """
    missing = max(0, samples - waveform.shape[-1])
    waveform = waveform[..., :samples].float()
    if missing:
        waveform = torch.nn.functional.pad(waveform, (0, missing))
    ensure_finite(waveform)
    # Make one copy at most: ten minutes of a batch are large.
    peaks = torch.maximum(waveform.amax(dim=(1, 2), keepdim=True), -waveform.amin(dim=(1, 2), keepdim=True))
    if not bool((peaks > 1).any()):
        return waveform.contiguous()
    log.info("The result would clip (peak %.2f): scaled down to full scale.", float(peaks.max()))
    return (waveform / peaks.clamp(min=1)).contiguous()


def ensure_finite(waveform: Tensor) -> Tensor:
    """Return the waveform. Raises `InputError` if it has values that are not finite."""
    if not all(bool(torch.isfinite(extreme)) for extreme in waveform.aminmax()):
        raise InputError(
            "The result is not a number (NaN or infinite): the precision is too low for these settings. "
            "Load the model with precision fp32 or bf16, or lower cfg."
        )
    return waveform


def init_noise_level(model: ModelFacts, settings: GenerationSettings) -> float:
    """Return the noise level from which a variation of strength `init_strength` starts."""
    if model.config.objective == "rectified_flow":
        return settings.init_strength
    resolved = resolve_settings(model, settings)
    assert resolved.sigma_min is not None
    assert resolved.sigma_max is not None
    return noise_level(settings.init_strength, resolved.sigma_min, resolved.sigma_max)


def _prompts_of(
    model: ModelFacts,
    request: AudioRequest,
    seconds: float,
    *,
    total: float | None = None,
    job: WindowJob | None = None,
) -> EngineInputs:
    """Return the conditioning of a sound of `seconds`; with a job, of its span of a track of `total` s."""
    start = job.seconds if job else 0.0
    conditioning: dict[str, Any] = {
        "text_prompt": _text_prompt(request, total or seconds, start),
        "seconds_start": 0,
        "seconds_total": seconds,
    }
    if request.features is not None:
        conditioning["video_prompt"] = _video_prompt(model, request.features, start)
    if request.audio_prompt is not None:
        conditioning["audio_prompt"] = _audio_prompt(model, request.audio_prompt, start, seconds)
    elif job is not None and job.example is not None:
        conditioning["audio_prompt"] = job.example
    negative = None
    if request.negative_prompt.strip() and model.config.few_step_count is not None:
        log.info("The negative prompt is not used: this model's few steps work without guidance.")
    elif request.negative_prompt.strip():
        negative = [{"text_prompt": request.negative_prompt}]
    return EngineInputs(conditioning=[conditioning], negative_conditioning=negative)


def _say_how_prompt_is_read(prompt: str | Timeline) -> None:
    """Log that the prompt is a timeline, or could be meant as one."""
    if isinstance(prompt, Timeline):
        log.info("The prompt is a %s.", prompt)
    elif resembles_timeline(prompt):
        log.warning(
            "The prompt is read as ordinary text, although a line begins with times from 0. In a timeline, "
            "every line begins with its times; if it has only one line, write `0-4: rain`."
        )


def _text_prompt(request: AudioRequest, total: float, start: float) -> str | Timeline:
    """Return the prompt of a span that begins at `start` seconds."""
    if isinstance(request.prompt, str):
        return request.prompt
    return request.prompt.check(total, of_track=request.edit is not None).from_second(start)


def _video_prompt(model: ModelFacts, features: VideoFeatures, start: float) -> dict[str, Tensor]:
    """Return the features from second `start` on. Raises `InputError` if sync features are missing."""
    if model.needs_sync and features.sync is None:
        raise InputError(
            "This model follows the video through Synchformer features, and the connected features "
            "have none. Connect this model to the AudioX Feature Extractor as well. If no Synchformer "
            "weights were found, put synchformer_state_dict.safetensors (or .pth) beside the model's "
            "config.json, or into models/selva or models/mmaudio, and extract the features again."
        )
    return from_second(features.video_prompt(dtype=torch.uint8), model.config, start)


def _audio_prompt(model: ModelFacts, audio_prompt: SoundWithRate, start: float, seconds: float) -> Tensor:
    """Return reference audio (C, S) at the model's rate; of a long one, what belongs to the span."""
    waveform, rate = audio_prompt
    waveform = check_waveform(waveform, rate)
    if waveform.shape[-1] > math.ceil(model.conditioning_seconds * rate):
        first = min(round(start * rate), waveform.shape[-1] - round(model.conditioning_seconds * rate))
        # Only what the sound's windows use is resampled, not the rest of an hour.
        used = max(model.conditioning_seconds, seconds if _is_long(model, seconds) else 0)
        waveform = waveform[..., first : first + math.ceil((used + 1) * rate)]
    return conform_audio(waveform, rate, target_rate=model.sample_rate, channels=model.config.audio_channels)


def _sample_size(model: ModelFacts, request: AudioRequest, seconds: float) -> int | None:
    """Return the samples of the latents that hold `seconds`; None for the model's own number."""
    is_short = seconds < model.native_seconds and model.config.network.type == "dit"
    if not (request.settings.short_sounds and is_short) and not _is_long(model, seconds):
        return None
    ratio = model.config.autoencoder.downsampling_ratio
    return -(-round(seconds * model.sample_rate) // ratio) * ratio


def _is_long(model: ModelFacts, seconds: float) -> bool:
    """Whether a sound needs windows. Widgets round, so 0.01 s more do not count."""
    return seconds > model.native_seconds + 0.01


def _warn_if_video_is_shorter(request: AudioRequest, seconds: float) -> None:
    """Log that the video ends before the sound."""
    features = request.features
    if features is not None and features.duration < seconds - 0.5:
        log.warning(
            "The video lasts %.2f s, the sound %.2f s: after its end the last frame is repeated.",
            features.duration,
            seconds,
        )
