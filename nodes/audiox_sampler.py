"""The AudioX Sampler node."""

from __future__ import annotations

from typing import TYPE_CHECKING

from comfy_api.latest import io

from .comfy.progress import StepProgress
from .shared.audio_input import read_first_sound
from .shared.choices import check_choice
from .shared.sampler_inputs import (
    CUSTOM,
    DEFAULT,
    PRESETS,
    PROMPT_MASKINGS,
    SAMPLERS,
    SCHEDULES,
    SHORT_SOUNDS,
    later_settings,
    prompts,
    sampling_settings,
    settings,
)
from .shared.sockets import (
    Audio,
    AudioXModelHandle,
    ComfySampler,
    require_edit,
    require_features,
    require_model,
)

if TYPE_CHECKING:
    from torch import Tensor

    from ..audiox_ext.conditioning.video_features import VideoFeatures
    from ..audiox_ext.pipeline.editing import AudioEdit


class AudioXSample(io.ComfyNode):
    """Makes sound from a prompt, a video and a sound, in any combination."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """The inputs and outputs, as ComfyUI shows them."""
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
            inputs=[*prompts(), *settings(), *later_settings(), *sampling_settings()],
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
    def execute(
        cls,
        model: AudioXModelHandle,
        prompt: str,
        negative_prompt: str,
        duration: float,
        steps: int,
        cfg: float,
        sampler: str,
        sigma_min: float,
        sigma_max: float,
        seed: int,
        batch: int,
        features: VideoFeatures | None = None,
        audio_prompt: Audio | None = None,
        init_audio: Audio | None = None,
        edit: AudioEdit | None = None,
        init_strength: float = 0.6,
        audio_prompt_masking: str = PROMPT_MASKINGS[0],
        short_sounds: str = SHORT_SOUNDS[0],
        window_overlap: float = 0.0,
        window_batch: int = 0,
        live_preview: bool = True,
        preset: str = CUSTOM,
        schedule: str = DEFAULT,
        guidance_start: float = 0.0,
        guidance_end: float = 1.0,
        guidance_rescale: float = 0.0,
        reuse_threshold: float = 0.0,
        custom_sampler: ComfySampler | None = None,
        custom_sigmas: Tensor | None = None,
    ) -> io.NodeOutput:
        """One run of the model. What it raises is a sentence for the user."""
        from ..audiox_ext.pipeline.request import AudioRequest
        from .comfy.samplers import adapt_sampler, check_sigmas

        handle = require_model(model)
        check_choice("sampler", sampler, (DEFAULT, *SAMPLERS))
        check_choice("audio_prompt_masking", audio_prompt_masking, PROMPT_MASKINGS)
        check_choice("short_sounds", short_sounds, SHORT_SOUNDS)
        check_choice("preset", preset, (CUSTOM, *PRESETS))
        check_choice("schedule", schedule, (DEFAULT, *SCHEDULES))
        request = AudioRequest(
            prompt=prompt,
            negative_prompt=negative_prompt,
            features=None if features is None else require_features(features),
            audio_prompt=None if audio_prompt is None else read_first_sound(audio_prompt, "audio_prompt"),
            hide_audio_prompt=audio_prompt_masking == PROMPT_MASKINGS[0],
            init_audio=None if init_audio is None else read_first_sound(init_audio, "init_audio"),
            init_strength=init_strength,
            edit=None if edit is None else require_edit(edit),
            seconds=duration,
            steps=steps,
            cfg_scale=cfg,
            sampler_type="" if sampler == DEFAULT else sampler,
            sigma_min=sigma_min,
            sigma_max=sigma_max,
            seed=seed,
            batch_size=batch,
            only_length=short_sounds == SHORT_SOUNDS[1],
            window_overlap=window_overlap,
            window_batch=window_batch,
            preset="" if preset == CUSTOM else preset,
            schedule="" if schedule == DEFAULT else schedule,
            guidance_interval=(guidance_start, guidance_end),
            guidance_rescale=guidance_rescale,
            reuse_threshold=reuse_threshold,
            custom_sampler=None if custom_sampler is None else adapt_sampler(custom_sampler),
            sigmas=None if custom_sigmas is None else check_sigmas(custom_sigmas),
        )
        waveform, rate = handle.generate(request, StepProgress(live_preview))
        return io.NodeOutput({"waveform": waveform.float().cpu().contiguous(), "sample_rate": rate})
