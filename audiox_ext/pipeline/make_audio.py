"""From a request to finished audio: new sounds, variations of one, edited tracks.

B batch, C channels, S samples.
"""

from __future__ import annotations

import logging
import math
from dataclasses import replace
from typing import Any, Protocol

import torch
from torch import Tensor

from ..conditioning.video_features import VideoFeatures
from ..errors import InputError
from ..media.waveforms import check_waveform, conform_audio
from ..model_info import ModelFacts
from ..sampling.denoiser import StepCallback, StepInfo, noise_level
from ..sampling.schedules import bounds_of, check_sigmas
from .editing import WindowJob, edit_track
from .presets import WHOLE_RUN, with_preset
from .request import AudioRequest, SoundWithRate, check_request, check_settings
from .timeline import Timeline
from .window_prompts import from_second

log = logging.getLogger(__name__)


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
    """The audio of a request: (B, C, S) float32 on the CPU, of exactly the asked length, at
    `request.rate(model)`.

    Its level is as the model made it, unless it would clip: then it is scaled down to a peak of 1. An edit of
    a batch of tracks gives for each of them the batch of variations. Raises `InputError` with a sentence
    about what was asked.
    """
    check_settings(request)
    request = with_preset(model, request)
    check_request(model, request)
    if generate is None:
        from .generate import generate_diffusion_cond

        generate = generate_diffusion_cond
    arguments = _settings(request) | {
        "batch_size": request.batch_size,
        "seed": request.seed,
        "device": device,
    }
    if request.batch_size > 1:
        arguments["seeds"] = request.seeds()
    if request.edit is not None:
        return _edited(model, request, arguments, callback, generate)
    return _made(model, request, arguments, callback, generate)


def _made(
    model: ModelFacts,
    request: AudioRequest,
    arguments: dict[str, Any],
    callback: StepCallback | None,
    generate: Generate,
) -> Tensor:
    seconds = request.length(model)
    _say_if_the_video_is_shorter(request, seconds)
    arguments = arguments | _conditionings(model, request, seconds) | {"callback": callback}
    size = _sample_size(model, request, seconds)
    if size is not None:
        arguments["sample_size"] = size
    if request.init_audio is not None:
        waveform, rate = request.init_audio
        if waveform.shape[-1] / rate < seconds - 0.5:
            log.warning(
                "init_audio lasts %.2f s, the sound %.2f s: the rest is a variation of silence. To carry a "
                "sound on, extend it.",
                waveform.shape[-1] / rate,
                seconds,
            )
        arguments["init_audio"] = (rate, waveform)
        arguments["init_noise_level"] = init_noise_level(model, request)
    waveform = generate(model, **arguments)
    own_length = seconds == model.native_seconds and not request.seconds
    return finish_audio(waveform, waveform.shape[-1] if own_length else round(seconds * model.sample_rate))


def _edited(
    model: ModelFacts,
    request: AudioRequest,
    arguments: dict[str, Any],
    callback: StepCallback | None,
    generate: Generate,
) -> Tensor:
    edit = request.edit
    assert edit is not None
    total = request.length(model)
    if request.seconds:
        log.info("duration is not used: the edited track gives the length, %.2f s.", total)
    _say_if_the_video_is_shorter(request, total)

    def make(job: WindowJob) -> Tensor:
        length = job.waveform.shape[-1] / model.sample_rate
        own = arguments | _conditionings(model, request, length, of=total, job=job)
        made = generate(
            model,
            **own,
            sample_size=job.waveform.shape[-1],
            init_audio=(model.sample_rate, job.waveform),
            latent_mask=job.strengths,
            callback=_counted(callback, job),
        )
        return _not_a_number_is_refused(made)

    return edit_track(model, edit, make)


def finish_audio(waveform: Tensor, samples: int) -> Tensor:
    """Make (B, C, S) `samples` long, and scale down each item whose peak is above 1.

    A model's latents make up to one latent less than its native length: what lacks is silence.

    Raises `InputError` when the result is not a number anywhere.
    """
    missing = max(0, samples - waveform.shape[-1])
    waveform = waveform[..., :samples].float()
    if missing:
        waveform = torch.nn.functional.pad(waveform, (0, missing))
    _not_a_number_is_refused(waveform)
    # A single copy at most: ten minutes of a batch are large.
    peaks = torch.maximum(waveform.amax(dim=(1, 2), keepdim=True), -waveform.amin(dim=(1, 2), keepdim=True))
    if not bool((peaks > 1).any()):
        return waveform.contiguous()
    log.info("The result would clip (peak %.2f): scaled down to full scale.", float(peaks.max()))
    return (waveform / peaks.clamp(min=1)).contiguous()


def init_noise_level(model: ModelFacts, request: AudioRequest) -> float:
    """The noise that a variation of strength `request.init_strength` begins with."""
    defaults = model.defaults
    if model.config.objective == "rectified_flow":
        return request.init_strength
    sigma_min = request.sigma_min or defaults.sigma_min
    sigma_max = request.sigma_max or defaults.sigma_max
    if request.sigmas is not None:
        sigma_min, sigma_max = bounds_of(check_sigmas(request.sigmas), sigma_min)
    return noise_level(request.init_strength, sigma_min, sigma_max)


def _settings(request: AudioRequest) -> dict[str, Any]:
    """What the user has set of the arguments that have the same meaning there."""
    own: dict[str, Any] = {
        "steps": request.steps,
        "cfg_scale": request.cfg_scale,
        "sampler_type": request.sampler_type,
        "sigma_min": request.sigma_min,
        "sigma_max": request.sigma_max,
        "window_overlap": request.window_overlap,
        "window_batch": request.window_batch,
        "schedule": request.schedule,
        "scale_phi": request.guidance_rescale,
        "reuse_threshold": request.reuse_threshold,
        "custom_sampler": request.custom_sampler,
    }
    settings = {name: value for name, value in own.items() if value}
    if request.guidance_interval != WHOLE_RUN:
        settings["guidance_interval"] = request.guidance_interval
    if request.sigmas is not None:
        settings["sigmas"] = request.sigmas
    if not request.hide_audio_prompt:
        settings["mask_audio_prompt"] = False
    return settings


def _conditionings(
    model: ModelFacts,
    request: AudioRequest,
    seconds: float,
    *,
    of: float | None = None,
    job: WindowJob | None = None,
) -> dict[str, Any]:
    """conditioning and negative_conditioning of a sound of `seconds`; with a job, for its span of a track of
    `of` seconds.
    """
    start = job.seconds if job else 0.0
    conditioning: dict[str, Any] = {
        "text_prompt": _text(request, of or seconds, start),
        "seconds_start": 0,
        "seconds_total": seconds,
    }
    if request.features is not None:
        conditioning["video_prompt"] = _video_prompt(model, request.features, start)
    example = request.audio_prompt
    if example is not None:
        conditioning["audio_prompt"] = _example(model, example, start, seconds)
    elif job is not None and job.example is not None:
        conditioning["audio_prompt"] = job.example
    arguments: dict[str, Any] = {"conditioning": [conditioning]}
    if request.negative_prompt.strip() and model.config.few_step_count is not None:
        log.info("The negative prompt is not used: this model's few steps work without guidance.")
    elif request.negative_prompt.strip():
        arguments["negative_conditioning"] = [{"text_prompt": request.negative_prompt}]
    return arguments


def _text(request: AudioRequest, total: float, start: float) -> str | Timeline:
    timeline = request.timeline()
    if timeline is None:
        return request.prompt
    return timeline.check(total, of_track=request.edit is not None).from_second(start)


def _video_prompt(model: ModelFacts, features: VideoFeatures, start: float) -> dict[str, Tensor]:
    """The features from second `start` on. Raises InputError if sync features are missing."""
    if model.needs_sync and features.sync is None:
        raise InputError(
            "This model follows the video through Synchformer features, and the connected features "
            "have none. Connect this model to the AudioX Feature Extractor as well. If no Synchformer "
            "weights were found, put synchformer_state_dict.safetensors (or .pth) beside the model's "
            "config.json, or into models/selva or models/mmaudio, and extract the features again."
        )
    return from_second(features.video_prompt(dtype=torch.uint8), model.config, start)


def _example(model: ModelFacts, example: SoundWithRate, start: float, seconds: float) -> Tensor:
    """The audio prompt at the model's rate; of one that is longer than a prompt, what belongs to the span."""
    waveform, rate = example
    waveform = check_waveform(waveform, rate)
    if waveform.shape[-1] > math.ceil(model.conditioning_seconds * rate):
        first = min(round(start * rate), waveform.shape[-1] - round(model.conditioning_seconds * rate))
        # What comes after the end of the sound is not heard: an hour need not be resampled for it.
        heard = max(model.conditioning_seconds, seconds if _is_long(model, seconds) else 0)
        waveform = waveform[..., first : first + math.ceil((heard + 1) * rate)]
    return conform_audio(waveform, rate, target_rate=model.sample_rate, channels=model.config.audio_channels)


def _sample_size(model: ModelFacts, request: AudioRequest, seconds: float) -> int | None:
    """Samples of the latents that hold `seconds`; None for the model's own number."""
    short = request.only_length and model.config.network.type == "dit" and seconds < model.native_seconds
    if not short and not _is_long(model, seconds):
        return None
    ratio = model.config.autoencoder.downsampling_ratio
    return -(-round(seconds * model.sample_rate) // ratio) * ratio


def _is_long(model: ModelFacts, seconds: float) -> bool:
    # A widget rounds: what is the native length to a hundredth is no reason for a second window.
    return seconds > model.native_seconds + 0.01


def _say_if_the_video_is_shorter(request: AudioRequest, seconds: float) -> None:
    features = request.features
    if features is not None and features.duration < seconds - 0.5:
        log.warning(
            "The video lasts %.2f s, the sound %.2f s: past its end the last picture is held.",
            features.duration,
            seconds,
        )


def _counted(callback: StepCallback | None, job: WindowJob) -> StepCallback | None:
    """The steps of all jobs as one run's."""
    if callback is None or job.count == 1:
        return callback

    def told(info: StepInfo) -> None:
        callback(replace(info, step=info.step + job.index * info.steps, steps=info.steps * job.count))

    return told


def _not_a_number_is_refused(waveform: Tensor) -> Tensor:
    if not all(bool(torch.isfinite(end)) for end in waveform.aminmax()):
        raise InputError(
            "The result is not a number (NaN or infinite): the precision is too low for these settings. "
            "Load the model with precision fp32 or bf16, or lower cfg."
        )
    return waveform
