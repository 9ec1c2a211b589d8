"""What a node or the command line asks for, in a user's words, and what of it can be refused before any work.

B batch, C channels, S samples.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from ..config import SAMPLER_NAMES
from ..errors import InputError
from ..media.waveforms import check_mixable
from ..model_info import ModelFacts
from ..sampling.external import ExternalSampler, check_accepts_external
from ..sampling.samplers import CANNOT_INPAINT
from ..sampling.schedules import SCHEDULE_NAMES, check_sigmas
from .editing import LEAST_STRENGTH, SHORTEST, AudioEdit
from .presets import PRESETS, WHOLE_RUN
from .settings import MAX_SEED, check_interval, checked_batch
from .timeline import Timeline, parse_timeline

if TYPE_CHECKING:
    from ..conditioning.video_features import VideoFeatures

MAX_SECONDS = 600.0
"""The longest sound that is made in one run."""

SoundWithRate = tuple[Tensor, int]
"""(waveform (C, S), hertz)."""


@dataclass(frozen=True, kw_only=True)
class AudioRequest:
    """One request. 0 and "" mean the model's own value.

    prompt: a text, or a timeline of texts (see `timeline.parse_timeline`). seconds: length of the result, up
    to `MAX_SECONDS`; beyond the model's native length it is made through windows, see `SamplerSettings` for
    window_overlap (seconds) and window_batch. only_length: of a shorter sound make no more than is asked for,
    instead of the native length, which is what the model was trained on (networks of kind mmdit always make
    that). audio_prompt: to be heard as an example; hide_audio_prompt: in part, as in training (see
    `SamplerSettings.mask_audio_prompt`). features: of the video to score. init_audio: a sound to vary,
    init_strength in (0, 1] how far; 1 leaves nothing of it. edit: a track to edit, which gives the length and
    the rate of the result. seed: at least 0; item i of a batch has seed + i. preset: one of
    `presets.PRESETS`, for what is left open. guidance_rescale: `SamplerSettings.scale_phi`; see there for
    schedule, guidance_interval, reuse_threshold, sigmas and sampler, too.
    """

    prompt: str = ""
    negative_prompt: str = ""
    features: VideoFeatures | None = None
    audio_prompt: SoundWithRate | None = None
    seconds: float = 0.0
    steps: int = 0
    cfg_scale: float = 0.0
    sampler_type: str = ""
    sigma_min: float = 0.0
    sigma_max: float = 0.0
    seed: int = 0
    batch_size: int = 1
    window_overlap: float = 0.0
    window_batch: int = 0
    only_length: bool = False
    hide_audio_prompt: bool = True
    init_audio: SoundWithRate | None = None
    init_strength: float = 1.0
    edit: AudioEdit | None = None
    preset: str = ""
    schedule: str = ""
    guidance_interval: tuple[float, float] = WHOLE_RUN
    guidance_rescale: float = 0.0
    reuse_threshold: float = 0.0
    sigmas: Tensor | None = None
    custom_sampler: ExternalSampler | None = None

    def timeline(self) -> Timeline | None:
        """The prompt as a timeline, None where it is plain text. Raises `InputError` for a malformed one."""
        return parse_timeline(self.prompt)

    def length(self, model: ModelFacts) -> float:
        """Seconds of the result: as asked for, else those of what is edited or varied, of the timeline, or
        the model's own.
        """
        if self.edit is not None:
            return self.edit.before + self.edit.seconds + self.edit.after
        if self.seconds:
            return self.seconds
        if self.init_audio is not None:
            waveform, rate = self.init_audio
            return waveform.shape[-1] / rate
        timeline = self.timeline()
        return (timeline.seconds if timeline else None) or model.native_seconds

    def rate(self, model: ModelFacts) -> int:
        """Hertz of the result: an edited track keeps its own."""
        return model.sample_rate if self.edit is None else self.edit.rate

    def seeds(self) -> list[int]:
        """One a batch item; after the highest seed comes 0."""
        return [(self.seed + index) % (MAX_SEED + 1) for index in range(self.batch_size)]


def check_request(model: ModelFacts, request: AudioRequest) -> None:
    """Everything about a request that can be refused before any work. Raises `InputError`."""
    check_settings(request)
    given = (request.features, request.audio_prompt, request.init_audio, request.edit)
    if not request.prompt.strip() and all(value is None for value in given):
        raise InputError(
            "There is nothing to make sound from: the prompt is empty, and no features, audio prompt, "
            "init_audio or edit is connected. Write a prompt, or connect one of these."
        )
    check_accepts_external(model, request.sigmas, request.custom_sampler)
    if request.edit is None:
        _check_seconds(request.length(model))
    elif model.config.objective == "v" and request.custom_sampler is None:
        name = request.sampler_type or model.defaults.sampler_type
        if name in CANNOT_INPAINT:
            raise InputError(
                f"{name} cannot edit a track: its steps vary, or build on old ones. Choose default, "
                "dpmpp-2m-sde or dpmpp-3m-sde."
            )
    timeline = request.timeline()
    if timeline is not None:
        timeline.check(request.length(model), of_track=request.edit is not None)


def check_settings(request: AudioRequest) -> None:
    """What can be refused without knowing the model. Raises `InputError`."""
    _check_numbers(request)
    checked_batch(request.batch_size)
    request.timeline()
    if parse_timeline(request.negative_prompt) is not None:
        raise InputError(
            "The negative prompt is a timeline, and only the prompt can be one. Write what should never be "
            "heard without times."
        )
    for name in ("audio_prompt", "init_audio"):
        sound: SoundWithRate | None = getattr(request, name)
        try:
            if sound is not None:
                check_mixable(*sound)
        except InputError as error:
            raise InputError(f"{name}: {error}") from None
    if request.edit is not None:
        _check_edit(request.edit, request)
    if request.sigmas is not None:
        check_sigmas(request.sigmas)


def _check_edit(edit: AudioEdit, request: AudioRequest) -> None:
    if request.init_audio is not None:
        raise InputError(
            "Both an edit and init_audio are connected. Connect one: an edit changes parts of a track, "
            "init_audio is varied as a whole."
        )
    if not edit.regions and not edit.extends:
        raise InputError(
            "There is nothing to do to the track: it has no region, and is extended by 0 s. Give a region, "
            "or "
            f"extend it by {SHORTEST:g} s or more."
        )
    made = {"The extension": max(edit.before, edit.after)}
    made |= {
        f"The region from {region.start:g} to {region.end:g} s": region.end - region.start
        for region in edit.regions
    }
    for what, seconds in made.items():
        if seconds > MAX_SECONDS:
            raise InputError(
                f"{what} is {seconds:g} s long, and at most {MAX_SECONDS:g} s are made in one run. Work in "
                "parts."
            )


def _check_seconds(seconds: float) -> None:
    if not math.isfinite(seconds) or seconds < 0:
        raise InputError(f"The duration must be 0 (the model's own) or more, got {seconds!r} s.")
    if seconds > MAX_SECONDS:
        raise InputError(
            f"The duration is {seconds:g} s, and at most {MAX_SECONDS:g} s are made in one run. Choose a "
            "shorter one, or work in parts."
        )
    if 0 < seconds < 0.05:
        raise InputError(
            f"The duration is {seconds:g} s, which is too short to hear. Choose at least 0.05 s."
        )


def _check_numbers(request: AudioRequest) -> None:
    for name, value in (("steps", request.steps), ("cfg", request.cfg_scale)):
        if not math.isfinite(value) or value < 0:
            raise InputError(f"{name} must be 0 (the model's own) or more, got {value!r}.")
    if not math.isfinite(request.seconds) or request.seconds < 0:
        raise InputError(f"The duration must be 0 (the model's own) or more, got {request.seconds!r} s.")
    if not math.isfinite(request.window_overlap) or request.window_overlap < 0 or request.window_batch < 0:
        raise InputError(
            "window_overlap and window_batch must be 0 (the model's own) or more, got "
            f"{request.window_overlap!r} and {request.window_batch!r}."
        )
    for name, value in (("sigma_min", request.sigma_min), ("sigma_max", request.sigma_max)):
        if not math.isfinite(value) or value < 0:
            raise InputError(f"{name} must be 0 (the model's own) or more, got {value!r}.")
    if not LEAST_STRENGTH <= request.init_strength <= 1:
        raise InputError(
            f"init_strength is {request.init_strength!r}: it must be from {LEAST_STRENGTH:g} (nearly the "
            "sound itself) to 1 (nothing left of it)."
        )
    names = {
        "sampler": (request.sampler_type, SAMPLER_NAMES),
        "schedule": (request.schedule, SCHEDULE_NAMES),
        "preset": (request.preset, tuple(PRESETS)),
    }
    for what, (name, known) in names.items():
        if name and name not in known:
            raise InputError(
                f"There is no {what} called {name!r}. Leave it at its default, or choose one of "
                f"{', '.join(known)}."
            )
    check_interval(request.guidance_interval)
    for what, share in (
        ("guidance_rescale", request.guidance_rescale),
        ("reuse_threshold", request.reuse_threshold),
    ):
        if not 0 <= share <= 1:
            raise InputError(f"{what} must be from 0 (off) to 1, got {share!r}.")
    lowest, highest = request.sigma_min, request.sigma_max
    if lowest and highest and lowest >= highest:
        raise InputError(
            f"sigma_min is {lowest:g} and sigma_max {highest:g}: sigma_min must be above 0 and below "
            "sigma_max."
        )
    if not 0 <= request.seed <= MAX_SEED:
        raise InputError(f"The seed must be from 0 to 2^64 - 1, got {request.seed}.")
