"""A request of the node or the command line, checked as far as possible before any work.

B batch, C channels, S samples.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from ..conditioning.video_features import VideoFeatures
from ..errors import InputError, quote_value
from ..media.waveforms import check_mixable
from ..model_info import ModelFacts
from ..sampling.external import check_accepts_external
from ..sampling.samplers import check_can_inpaint
from ..utf8 import replace_surrogates
from .editing import SHORTEST, AudioEdit
from .settings import MAX_SECONDS, GenerationSettings, check_duration
from .timeline import Timeline, parse_timeline

SoundWithRate = tuple[Tensor, int]
"""(waveform (C, S), hertz)."""


@dataclass(frozen=True, kw_only=True)
class AudioRequest:
    """A sound to make: its prompts and settings.

    Attributes:
        prompt: The sound to make: text or a timeline of texts. Text that is a timeline is parsed here, once
            (see `timeline.parse_timeline`).
        negative_prompt: Sounds to avoid, as plain text.
        features: Features of the video to make sound for.
        audio_prompt: Reference audio.
        init_audio: Sound to vary as a whole, see `GenerationSettings.init_strength`.
        edit: Track to edit or extend. It determines the length and rate of the result.
        settings: Settings of the generation.
    """

    prompt: str | Timeline = ""
    negative_prompt: str = ""
    features: VideoFeatures | None = None
    audio_prompt: SoundWithRate | None = None
    init_audio: SoundWithRate | None = None
    edit: AudioEdit | None = None
    settings: GenerationSettings = field(default_factory=GenerationSettings)

    def __post_init__(self) -> None:
        """Make the prompts valid UTF-8, parse them, and check everything that needs no model.

        Raises:
            InputError: The request cannot be carried out.
        """
        self._check_types()
        if isinstance(self.prompt, str):
            prompt = replace_surrogates(self.prompt)
            object.__setattr__(self, "prompt", parse_timeline(prompt) or prompt)
        object.__setattr__(self, "negative_prompt", replace_surrogates(self.negative_prompt))
        if parse_timeline(self.negative_prompt) is not None:
            raise InputError(
                "The negative prompt is a timeline, and only the prompt can be one. Write what to avoid "
                "without times."
            )
        for name, sound in (("audio_prompt", self.audio_prompt), ("init_audio", self.init_audio)):
            try:
                if sound is not None:
                    check_mixable(*sound)
            except InputError as error:
                raise InputError(f"{name}: {error}") from None
        if self.edit is not None:
            _check_edit(self.edit, self.init_audio)

    def _check_types(self) -> None:
        """Raise `InputError` for a field of another type."""
        sound = "a waveform (channels, samples) and its rate, or None"
        kinds: dict[str, tuple[Any, str]] = {
            "prompt": (str | Timeline, "a text or a Timeline"),
            "negative_prompt": (str, "a text"),
            "features": (VideoFeatures | None, "VideoFeatures or None"),
            "audio_prompt": (tuple | None, sound),
            "init_audio": (tuple | None, sound),
            "edit": (AudioEdit | None, "an AudioEdit or None"),
            "settings": (GenerationSettings, "GenerationSettings"),
        }
        for name, (kind, allowed) in kinds.items():
            value = getattr(self, name)
            if not isinstance(value, kind):
                raise InputError(f"{name} is {quote_value(value)}, a {type(value).__name__}. Give {allowed}.")
        for name in ("audio_prompt", "init_audio"):
            value = getattr(self, name)
            if value is not None and not (len(value) == 2 and isinstance(value[0], Tensor)):
                raise InputError(f"{name} is {quote_value(value)}. Give {sound}.")

    def seconds(self, model: ModelFacts) -> float:
        """Return the length of the result in seconds. See `GenerationSettings.duration`."""
        if self.edit is not None:
            return self.edit.before + self.edit.seconds + self.edit.after
        if self.settings.duration is not None:
            return self.settings.duration
        if self.init_audio is not None:
            waveform, rate = self.init_audio
            return waveform.shape[-1] / rate
        end = self.prompt.seconds if isinstance(self.prompt, Timeline) else None
        return end or model.native_seconds

    def rate(self, model: ModelFacts) -> int:
        """Return the result's sample rate in hertz. An edited track keeps its own."""
        return model.sample_rate if self.edit is None else self.edit.rate


def check_request(model: ModelFacts, request: AudioRequest) -> None:
    """Check what depends on the model.

    Args:
        model: The model.
        request: The request, whose preset has been applied.

    Raises:
        InputError: The model cannot make this sound.
    """
    settings = request.settings
    inputs = (request.features, request.audio_prompt, request.init_audio, request.edit)
    is_empty = isinstance(request.prompt, str) and not request.prompt.strip()
    if is_empty and all(value is None for value in inputs):
        raise InputError(
            "There is nothing to make sound from: the prompt is empty, and no features, audio prompt, "
            "init_audio or edit is connected. Write a prompt, or connect one of these."
        )
    check_accepts_external(model, settings.custom_sigmas, settings.custom_sampler)
    seconds = request.seconds(model)
    if request.edit is None:
        check_duration(seconds)
    elif model.config.objective == "v" and settings.custom_sampler is None:
        check_can_inpaint(settings.sampler or model.defaults.sampler_type)
    if isinstance(request.prompt, Timeline):
        request.prompt.check(seconds, of_track=request.edit is not None)


def _check_edit(edit: AudioEdit, init_audio: SoundWithRate | None) -> None:
    """Refuse an edit that changes nothing, is too long, or comes with another sound to change."""
    if init_audio is not None:
        raise InputError(
            "Both an edit and init_audio are connected. Connect one: an edit changes parts of a track, "
            "init_audio is varied as a whole."
        )
    if not edit.regions and not edit.extends:
        raise InputError(
            "There is nothing to do to the track: it has no region, and is extended by 0 s. Give a region, "
            f"or extend it by {SHORTEST:g} s or more."
        )
    lengths = {"The extension": max(edit.before, edit.after)}
    for region in edit.regions:
        lengths[f"The region from {region.start:g} to {region.end:g} s"] = region.end - region.start
    for what, seconds in lengths.items():
        if seconds > MAX_SECONDS:
            raise InputError(
                f"{what} is {seconds:g} s long, and at most {MAX_SECONDS:g} s are made in one run. Work in "
                "parts."
            )
