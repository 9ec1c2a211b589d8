"""The AudioX Sampler node."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from comfy_api.latest import io

from ..audiox_ext.errors import InputError
from . import comfy_host as host
from .audio_input import first_sound
from .payloads import (
    AudioXEditSocket,
    AudioXFeaturesSocket,
    AudioXModelHandle,
    AudioXModelSocket,
    require_edit,
    require_features,
    require_model,
)

if TYPE_CHECKING:
    from ..audiox_ext.editing import AudioEdit
    from ..audiox_ext.features import VideoFeatures

# Equal to audiox_ext.sampling.SAMPLER_NAMES (a test sees to it); written out so that the schema needs no
# engine.
SAMPLERS = (
    "dpmpp-3m-sde",
    "dpmpp-2m-sde",
    "k-heun",
    "k-lms",
    "k-dpmpp-2s-ancestral",
    "k-dpm-2",
    "k-dpm-fast",
    "k-dpm-adaptive",
)
DEFAULT = "default"
PROMPT_MASKINGS = ("as trained", "full prompt")
SHORT_SOUNDS = ("native length, trimmed", "only this length")


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
            inputs=[*_prompts(), *_settings(), *_later_settings()],
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
        audio_prompt: dict[str, Any] | None = None,
        init_audio: dict[str, Any] | None = None,
        edit: AudioEdit | None = None,
        init_strength: float = 0.6,
        audio_prompt_masking: str = PROMPT_MASKINGS[0],
        short_sounds: str = SHORT_SOUNDS[0],
        window_overlap: float = 0.0,
        window_batch: int = 0,
        live_preview: bool = True,
    ) -> io.NodeOutput:
        """One run of the model. What it raises is a sentence for the user."""
        from ..audiox_ext.audio_request import AudioRequest

        handle = require_model(model)
        _check_choice("sampler", sampler, (DEFAULT, *SAMPLERS))
        _check_choice("audio_prompt_masking", audio_prompt_masking, PROMPT_MASKINGS)
        _check_choice("short_sounds", short_sounds, SHORT_SOUNDS)
        request = AudioRequest(
            prompt=prompt,
            negative_prompt=negative_prompt,
            features=None if features is None else require_features(features),
            audio_prompt=None if audio_prompt is None else first_sound(audio_prompt, "audio_prompt"),
            hide_audio_prompt=audio_prompt_masking == PROMPT_MASKINGS[0],
            init_audio=None if init_audio is None else first_sound(init_audio, "init_audio"),
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
        )
        waveform, rate = handle.generate(request, host.StepProgress(live_preview))
        return io.NodeOutput({"waveform": waveform.float().cpu().contiguous(), "sample_rate": rate})


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    # ComfyUI 0.3.64 lets any value through.
    if value not in choices:
        known = ", ".join(repr(choice) for choice in choices)
        raise InputError(f"{name} is {value!r}, which is not one of {known}.")


def _prompts() -> list[io.Input]:
    return [
        AudioXModelSocket.Input("model", tooltip="From the AudioX Model Loader of this pack."),
        io.String.Input(
            "prompt",
            multiline=True,
            default="",
            tooltip=(
                "What should be heard. For videos: 'Generate general audio for the video' or 'Generate "
                "music for the video', or your own words. Several lines such as '0-4 rain on a roof' and "
                "'4-9.5 thunder, close' are a timeline. May be empty if another input says what to make."
            ),
        ),
        io.String.Input(
            "negative_prompt",
            multiline=True,
            default="",
            tooltip=(
                "What should not be heard. No effect at cfg 1 and on few-step models such as AudioX-Turbo."
            ),
        ),
        AudioXFeaturesSocket.Input(
            "features", optional=True, tooltip="The video to follow, from the AudioX Feature Extractor."
        ),
        io.Audio.Input(
            "audio_prompt",
            optional=True,
            tooltip=(
                "A sound to go by: any rate, mono to 5.1, first of a batch. 10 s are heard, "
                "in a longer sound the part for each span of time."
            ),
        ),
        io.Audio.Input(
            "init_audio",
            optional=True,
            tooltip=(
                "A sound to vary as a whole, see init_strength: any rate, mono to 5.1, first of a batch. "
                "With duration 0 the result is as long."
            ),
        ),
        AudioXEditSocket.Input(
            "edit",
            optional=True,
            tooltip=(
                "A track to edit or to carry on, from AudioX Edit Region or AudioX Extend. It gives the "
                "length of the result."
            ),
        ),
    ]


def _settings() -> list[io.Input]:
    return [
        io.Float.Input(
            "duration",
            default=0.0,
            min=0.0,
            max=600.0,
            step=0.1,
            tooltip=(
                "Seconds of sound, up to 600; 0 = the model's own length (11 s for the published ones). More "
                "than that is made through overlapping windows. Connect the extractor's duration for a video."
            ),
        ),
        io.Int.Input(
            "steps",
            default=0,
            min=0,
            max=1000,
            tooltip="More steps: slower, cleaner. 0 = the model's own (AudioX-Turbo 4, the others 250).",
        ),
        io.Float.Input(
            "cfg",
            default=0.0,
            min=0.0,
            max=30.0,
            step=0.1,
            tooltip=(
                "How closely to keep to the prompt; 1 = no guidance. 0 = the model's own (7; AudioX-Turbo "
                "has none)."
            ),
        ),
        io.Combo.Input(
            "sampler",
            options=[DEFAULT, *SAMPLERS],
            default=DEFAULT,
            tooltip="The solver. default: the model's own (dpmpp-3m-sde). AudioX-Turbo always uses its own.",
        ),
        io.Float.Input(
            "sigma_min",
            default=0.0,
            min=0.0,
            max=100.0,
            step=0.01,
            tooltip=(
                "Noise level at the end of the schedule. 0 = the model's own (0.3). Not used by AudioX-Turbo."
            ),
        ),
        io.Float.Input(
            "sigma_max",
            default=0.0,
            min=0.0,
            max=10000.0,
            step=0.1,
            tooltip="Noise level at the start of the schedule. 0 = the model's own (500; AudioX-Turbo 1).",
        ),
        io.Int.Input(
            "seed",
            default=0,
            min=0,
            max=2**64 - 1,
            control_after_generate=True,
            tooltip="Same seed and settings, same sound.",
        ),
        io.Int.Input(
            "batch",
            default=1,
            min=1,
            max=64,
            tooltip=(
                "How many variations to make at once, with the seeds seed, seed + 1 and so on; memory grows "
                "with it. AudioX Choose Variation takes one out."
            ),
        ),
    ]


def _later_settings() -> list[io.Input]:
    """Optional, because workflows saved in API form before there were these do not have them."""
    return [
        io.Float.Input(
            "init_strength",
            default=0.6,
            min=0.01,
            max=1.0,
            step=0.01,
            optional=True,
            display_mode=io.NumberDisplay.slider,
            tooltip=(
                "How far init_audio is changed: towards 0 it stays as it is, 1 leaves nothing of it. Not "
                "used "
                "without init_audio."
            ),
        ),
        io.Combo.Input(
            "audio_prompt_masking",
            options=list(PROMPT_MASKINGS),
            default=PROMPT_MASKINGS[0],
            optional=True,
            tooltip=(
                "as trained: the model hears a random part of the audio prompt (AudioX-MAF: at most 30 %). "
                "full prompt: it hears all of it and keeps closer to it. Models trained without masking "
                "always do."
            ),
        ),
        io.Combo.Input(
            "short_sounds",
            options=list(SHORT_SOUNDS),
            default=SHORT_SOUNDS[0],
            optional=True,
            tooltip=(
                "For a duration below the model's own: make its own length, as it was trained, and cut; or "
                "make no more than asked for, which is quicker. AudioX-Turbo and AudioX-MAF-MMDiT always "
                "make "
                "their own length."
            ),
        ),
        io.Float.Input(
            "window_overlap",
            default=0.0,
            min=0.0,
            max=5.4,
            step=0.1,
            optional=True,
            tooltip=(
                "For long sounds: seconds that neighbouring windows share at least. 0 = a quarter of the "
                "model's own length. More: smoother, slower."
            ),
        ),
        io.Int.Input(
            "window_batch",
            default=0,
            min=0,
            max=64,
            optional=True,
            tooltip="For long sounds: windows in one pass of the network. 0 = 4. Less needs less memory.",
        ),
        io.Boolean.Input(
            "live_preview",
            default=True,
            optional=True,
            tooltip="Show a picture of the latents in the node at every step; it costs a few milliseconds.",
        ),
    ]
