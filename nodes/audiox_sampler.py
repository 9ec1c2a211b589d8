"""The AudioX Sampler node."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from comfy_api.latest import io

from ..audiox_ext.errors import InputError
from . import comfy_host as host
from .payloads import (
    AudioXFeaturesSocket,
    AudioXModelHandle,
    AudioXModelSocket,
    require_features,
    require_model,
)

if TYPE_CHECKING:
    from torch import Tensor

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
                "Makes sound or music from a text prompt, video features, a sound, or several of them. "
                "0 and default mean the model's own setting, which is a good one."
            ),
            inputs=[*_prompts(), *_settings()],
            outputs=[
                io.Audio.Output(
                    display_name="audio",
                    tooltip=(
                        "As long as asked for, at the model's rate; quieter than made only if it would clip."
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
    ) -> io.NodeOutput:
        """One run of the model. What it raises is a sentence for the user."""
        from ..audiox_ext.tasks import AudioRequest

        handle = require_model(model)
        if sampler not in (DEFAULT, *SAMPLERS):
            raise InputError(
                f"sampler is {sampler!r}, which is not one of {', '.join((DEFAULT, *SAMPLERS))}."
            )
        request = AudioRequest(
            prompt=prompt,
            negative_prompt=negative_prompt,
            features=None if features is None else require_features(features),
            audio_prompt=None if audio_prompt is None else _audio_prompt(audio_prompt, handle),
            seconds=duration,
            steps=steps,
            cfg_scale=cfg,
            sampler_type="" if sampler == DEFAULT else sampler,
            sigma_min=sigma_min,
            sigma_max=sigma_max,
            seed=seed,
            batch_size=batch,
        )
        waveform, rate = handle.generate(request, host.StepProgress())
        return io.NodeOutput({"waveform": waveform.float().cpu().contiguous(), "sample_rate": rate})


def _audio_prompt(audio: object, handle: AudioXModelHandle) -> tuple[Tensor, int]:
    """(waveform (C, S), rate) of the first item of an AUDIO, as the model takes it.

    Raises `InputError` that names the input: ComfyUI's own message says only which node has failed.
    """
    from ..audiox_ext.waveforms import conform_audio

    waveform, rate = _first_sound(audio)
    target, channels = handle.model.sample_rate, handle.model.config.audio_channels
    try:
        return conform_audio(waveform, rate, target_rate=target, channels=channels), target
    except InputError as error:
        raise InputError(f"audio_prompt: {error}") from None


def _first_sound(audio: object) -> tuple[Tensor, Any]:
    """(waveform (C, S), rate) of the first item of an AUDIO; the engine judges its contents.

    The rate is a number, not always a whole or a finite one.
    """
    import torch

    waveform = audio.get("waveform") if isinstance(audio, dict) else None
    rate = audio.get("sample_rate") if isinstance(audio, dict) else None
    if (
        not isinstance(waveform, torch.Tensor)
        or not isinstance(rate, int | float)
        or waveform.ndim not in (2, 3)
    ):
        raise InputError(
            "audio_prompt is not an AUDIO: a waveform (batch, channels, samples) and a sample_rate are "
            "needed. Connect Load Audio or another node that gives AUDIO."
        )
    if waveform.ndim == 3:
        if len(waveform) == 0:
            raise InputError(
                "audio_prompt holds no sound: its batch is empty. Connect a node that gives one."
            )
        waveform = waveform[0]
    return waveform, rate


def _prompts() -> list[io.Input]:
    return [
        AudioXModelSocket.Input("model", tooltip="From the AudioX Model Loader of this pack."),
        io.String.Input(
            "prompt",
            multiline=True,
            default="",
            tooltip=(
                "What should be heard. For videos: 'Generate general audio for the video' or 'Generate "
                "music for the video', or your own words. May be empty if features or audio_prompt is "
                "connected."
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
            tooltip="A sound to go by: any rate, mono to 5.1, first of a batch. Its first 10 s are heard.",
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
                "Seconds of sound, up to the model's own length (11 s for the published ones); 0 = that "
                "length."
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
            tooltip="How many sounds to make at once; memory grows with it.",
        ),
    ]
