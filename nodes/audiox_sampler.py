"""The AudioX Sampler node."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from comfy_api.latest import io

from .comfy.progress import StepProgress
from .shared.audio_input import read_first_sound
from .shared.choices import check_choice
from .shared.sampler_inputs import (
    CUSTOM,
    DEFAULT,
    PROMPT_MASKINGS,
    SHORT_SOUNDS,
    all_inputs,
    own_as_none,
)
from .shared.sockets import (
    Audio,
    AudioXModelHandle,
    ComfySampler,
    refuse_none,
    require_edit,
    require_features,
    require_model,
)

if TYPE_CHECKING:
    from torch import Tensor

    from ..audiox_ext.conditioning.video_features import VideoFeatures
    from ..audiox_ext.pipeline.editing import AudioEdit
    from ..audiox_ext.pipeline.settings import GenerationSettings


class AudioXSample(io.ComfyNode):
    """Makes sound from a prompt, a video and reference audio, in any combination."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Declare the inputs and outputs that ComfyUI shows."""
        return io.Schema(
            node_id="AudioXSample",
            display_name="AudioX Sampler",
            category="audio/AudioX",
            description=(
                "Makes sound or music from a text prompt, video features, a sound, or several of them; "
                "varies "
                "a sound, edits parts of a track or carries it on. "
                "0 and default mean the model's own setting, which is a good one."
            ),
            inputs=all_inputs(),
            outputs=[
                io.Audio.Output(
                    display_name="audio",
                    tooltip=(
                        "As long as asked for, at the model's rate; quieter than made only if it would clip. "
                        "An edited track keeps its length and rate."
                    ),
                )
            ],
        )

    @classmethod
    @refuse_none
    def execute(
        cls,
        model: AudioXModelHandle,
        prompt: str,
        negative_prompt: str,
        features: VideoFeatures | None = None,
        audio_prompt: Audio | None = None,
        init_audio: Audio | None = None,
        edit: AudioEdit | None = None,
        live_preview: bool = True,
        **widgets: Any,
    ) -> io.NodeOutput:
        """Run the model. See `settings_of` for the other widgets."""
        from ..audiox_ext.pipeline.make_audio import make_audio
        from ..audiox_ext.pipeline.request import AudioRequest

        handle = require_model(model)
        request = AudioRequest(
            prompt=prompt,
            negative_prompt=negative_prompt,
            features=None if features is None else require_features(features),
            audio_prompt=None if audio_prompt is None else read_first_sound(audio_prompt, "audio_prompt"),
            init_audio=None if init_audio is None else read_first_sound(init_audio, "init_audio"),
            edit=None if edit is None else require_edit(edit),
            settings=settings_of(**widgets),
        )
        progress = StepProgress(live_preview)
        waveform = make_audio(handle.model, request, callback=progress, generate=handle.research_engine())
        rate = request.rate(handle.model)
        return io.NodeOutput({"waveform": waveform.float().cpu().contiguous(), "sample_rate": rate})


def settings_of(
    *,
    duration: float,
    steps: int,
    cfg: float,
    sampler: str,
    sigma_min: float,
    sigma_max: float,
    seed: int,
    batch: int,
    init_strength: float = 0.6,
    audio_prompt_masking: str = PROMPT_MASKINGS[0],
    short_sounds: str = SHORT_SOUNDS[0],
    window_overlap: float = 0.0,
    window_batch: int = 0,
    preset: str = CUSTOM,
    schedule: str = DEFAULT,
    guidance_start: float = 0.0,
    guidance_end: float = 1.0,
    guidance_rescale: float = 0.0,
    reuse_threshold: float = 0.0,
    custom_sampler: ComfySampler | None = None,
    custom_sigmas: Tensor | None = None,
) -> GenerationSettings:
    """Return the engine's settings. 0, default and custom become None, the model's own value."""
    from ..audiox_ext.pipeline.settings import GenerationSettings
    from .comfy.samplers import adapt_sampler, check_sigmas

    check_choice("audio_prompt_masking", audio_prompt_masking, PROMPT_MASKINGS)
    check_choice("short_sounds", short_sounds, SHORT_SOUNDS)
    return GenerationSettings(
        duration=own_as_none(duration),
        steps=own_as_none(steps),
        cfg=own_as_none(cfg),
        sampler=own_as_none(sampler),
        schedule=own_as_none(schedule),
        sigma_min=own_as_none(sigma_min),
        sigma_max=own_as_none(sigma_max),
        seed=seed,
        batch=batch,
        init_strength=init_strength,
        audio_prompt_masking=audio_prompt_masking == PROMPT_MASKINGS[0],
        short_sounds=short_sounds == SHORT_SOUNDS[1],
        window_overlap=own_as_none(window_overlap),
        window_batch=own_as_none(window_batch),
        preset=own_as_none(preset),
        custom_sampler=None if custom_sampler is None else adapt_sampler(custom_sampler),
        guidance_start=guidance_start,
        guidance_end=guidance_end,
        guidance_rescale=guidance_rescale,
        reuse_threshold=reuse_threshold,
        custom_sigmas=None if custom_sigmas is None else check_sigmas(custom_sigmas),
    )
