"""The inputs of the AudioX Sampler, in the order in which saved workflows hold their values."""

from __future__ import annotations

from typing import TypeVar

from comfy_api.latest import io

from .sockets import AudioXEditSocket, AudioXFeaturesSocket, AudioXModelSocket

# Equal to SAMPLER_NAMES, SCHEDULE_NAMES and PRESETS of the engine, which a test checks. Written out, so that
# the schema needs no engine.
SAMPLERS = (
    "dpmpp-3m-sde",
    "dpmpp-2m-sde",
    "k-heun",
    "k-lms",
    "k-dpmpp-2s-ancestral",
    "k-dpm-2",
    "k-dpm-fast",
    "k-dpm-adaptive",
    "dpmpp-2m",
    "dpmpp-3m",
    "unipc",
    "er-sde",
    "sa-solver",
)
SCHEDULES = ("polyexponential", "karras", "exponential", "beta", "align-your-steps")
PRESETS = ("published", "balanced", "fast")
DEFAULT = "default"
CUSTOM = "custom"
PROMPT_MASKINGS = ("as trained", "full prompt")
SHORT_SOUNDS = ("native length, trimmed", "only this length")


T = TypeVar("T", int, float, str)


def own_as_none(value: T) -> T | None:
    """Return None for 0, default and custom, the widget values that mean the model's own value."""
    return None if value in (0, DEFAULT, CUSTOM) else value


def all_inputs() -> list[io.Input]:
    """Return all inputs in order.

    Later ones are optional: workflows that were saved in API form before they existed do not have them.
    """
    return [
        *_prompt_inputs(),
        *_first_inputs(),
        *_noise_and_seed_inputs(),
        *_sound_inputs(),
        *_window_inputs(),
        *_sampling_inputs(),
    ]


def _prompt_inputs() -> list[io.Input]:
    """Model, prompts and sounds."""
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


def _first_inputs() -> list[io.Input]:
    """Length, steps, guidance and sampler."""
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
            tooltip=(
                "More steps: slower, cleaner. 0 = the model's own (AudioX-Turbo 4, the other published ones "
                "250)."
            ),
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
            tooltip="The solver. default: the model's own (dpmpp-3m-sde; audiox-pocket dpmpp-2m). "
            "AudioX-Turbo always uses its own.",
        ),
    ]


def _noise_and_seed_inputs() -> list[io.Input]:
    """Noise levels, seed and batch."""
    return [
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


def _sound_inputs() -> list[io.Input]:
    """Settings of variations, reference audio and short sounds. Inputs are optional from here on."""
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
    ]


def _window_inputs() -> list[io.Input]:
    """Windows of long sounds, and the preview."""
    return [
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


def _sampling_inputs() -> list[io.Input]:
    """Presets, schedule, and inputs that save time."""
    return [
        io.Combo.Input(
            "preset",
            options=[CUSTOM, *PRESETS],
            default=CUSTOM,
            optional=True,
            tooltip=(
                "Fills in what is left at 0 or default. published: 250 steps, exact. balanced: 50 steps. "
                "fast: 25 steps. AudioX-Turbo needs none."
            ),
        ),
        io.Combo.Input(
            "schedule",
            options=[DEFAULT, *SCHEDULES],
            default=DEFAULT,
            optional=True,
            tooltip=(
                "Which noise levels the steps visit. default: the model's own (polyexponential). Not used by "
                "AudioX-Turbo."
            ),
        ),
        _fraction(
            "guidance_start",
            0.0,
            "Share of the run before which there is no guidance: a step without it costs half. 0 = from the "
            "beginning.",
        ),
        _fraction("guidance_end", 1.0, "Share of the run after which there is no guidance. 1 = to the end."),
        _fraction(
            "guidance_rescale",
            0.0,
            "Takes back what guidance adds in strength, against sounds that are harsh at a high cfg. "
            "0 = off, 1 = all of it.",
        ),
        _fraction(
            "reuse_threshold",
            0.0,
            "Leaves out most of the network in steps that change less than this, and takes what it said "
            "before. 0 = off, exact. The log says how many it was. With audiox-pocket 0.2 saved two fifths "
            "without a loss that could be measured; not measured on large models.",
        ),
        io.Sampler.Input(
            "custom_sampler",
            optional=True,
            tooltip=("A sampler of ComfyUI, from KSamplerSelect, in place of sampler. Not for AudioX-Turbo."),
        ),
        io.Sigmas.Input(
            "custom_sigmas",
            optional=True,
            tooltip=(
                "Noise levels from a scheduler node of ComfyUI, in place of steps, schedule, sigma_min and "
                "sigma_max. The models expect 500 down to 0.3. Not for AudioX-Turbo."
            ),
        ),
    ]


def _fraction(name: str, default: float, tooltip: str) -> io.Input:
    return io.Float.Input(name, default=default, min=0.0, max=1.0, step=0.01, optional=True, tooltip=tooltip)
