"""Settings of one generation, as they travel from the node or the command line to the sampler."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from ..config import SAMPLER_NAMES
from ..errors import InputError, is_number, is_whole, quote_value
from ..model_info import ModelFacts
from ..sampling.denoiser import check_sigma_bounds
from ..sampling.external import ExternalSampler, check_accepts_external
from ..sampling.schedules import DEFAULT_SCHEDULE, SCHEDULE_NAMES, bounds_of, check_sigmas
from ..utf8 import get_logger
from .editing import MIN_STRENGTH

log = get_logger(__name__)

MAX_SEED = 2**64 - 1
MAX_SECONDS = 600.0
"""The longest sound that one run makes."""
MIN_SECONDS = 0.05
"""The shortest sound that one run makes."""
MAX_STEPS = 10_000
"""The most sampling steps of one run."""
MAX_BATCH = 1024
"""The most sounds, or windows of a sound, that one pass makes."""
_HIGHEST_LEVEL = 1e6  # noise levels: the published models start at 500 at most
_HIGHEST_CFG, _HIGHEST_RHO = 1000.0, 1000.0

_PYTHON_NAMES = {
    "batch": "batch_size",
    "cfg": "cfg_scale",
    "guidance_rescale": "scale_phi",
    "sampler": "sampler_type",
}
"""Names of settings in `generate_diffusion_cond`, where they differ."""


@dataclass(frozen=True, kw_only=True)
class Preset:
    """Default values for settings that are None.

    Attributes:
        steps: Number of steps.
        sampler: Name of the sampler.
        schedule: Name of the schedule.
    """

    steps: int
    sampler: str
    schedule: str


PRESETS: dict[str, Preset] = {
    "published": Preset(steps=250, sampler="dpmpp-3m-sde", schedule="polyexponential"),
    "balanced": Preset(steps=50, sampler="dpmpp-2m", schedule="polyexponential"),
    "fast": Preset(steps=25, sampler="dpmpp-2m", schedule="polyexponential"),
}
"""Measured with audiox-pocket (docs/sampler-study.md). There, `balanced` and `fast` are not worse than
`published` by more than what another seed changes."""


@dataclass(frozen=True, kw_only=True)
class GenerationSettings:
    """Settings of one generation. None stands for the model's own value.

    The fields have the names of the AudioX Sampler's inputs.

    Attributes:
        duration: Seconds of sound, `MIN_SECONDS` to `MAX_SECONDS`. None for the length of the edited track,
            of the sound to vary, of the timeline, or the model's own, in this order.
        steps: Number of sampling steps, at least 1.
        cfg: Guidance scale, 0 or more; 1 turns guidance off. Few-step models ignore it.
        sampler: One of `config.SAMPLER_NAMES`. Used with the v objective only.
        schedule: One of `schedules.SCHEDULE_NAMES`. Used with the v objective only.
        sigma_min: Noise level at the end of the schedule, above 0.
        sigma_max: Noise level at the start of the schedule, above sigma_min.
        rho: Parameter of the schedule, above 0.
        seed: 0 to 2^64 - 1. None draws one at random.
        batch: Number of variations, at least 1.
        init_strength: Denoising strength for the sound to vary, `MIN_STRENGTH` to 1 (replaced entirely).
        audio_prompt_masking: Hide a random part of the audio prompt, as in the model's training.
        short_sounds: Make a sound below the model's own length only as long as it is, instead of trimming
            the model's own length. Networks of type mmdit always make their own length.
        window_overlap: Seconds by which windows of a long sound overlap at least, up to half of a window.
            None for a quarter of a window.
        window_batch: Number of windows in one pass of the network, default 4. Fewer need less memory.
        preset: One of `PRESETS`, for the settings that are None.
        guidance_start: Fraction of the steps before which no guidance is applied, 0 to 1.
        guidance_end: Fraction of the steps after which no guidance is applied, 0 to 1.
        guidance_rescale: Fraction of guidance's gain in loudness that is removed, 0 to 1; see `Guidance`.
        reuse_threshold: Change between steps below which most of the network is skipped, 0 (off) to 1; see
            `BlockCache`. A batch decides as one, and a split pair skips nothing.
        split_guidance: Run the two predictions of guidance one after the other, which needs less memory.
        custom_sampler: An external sampler in place of `sampler`. Refused with rectified flow.
        custom_sigmas: Noise levels (steps + 1,) in place of `steps`, `schedule`, `sigma_min` and `sigma_max`.
            A variation uses those below its own start. Refused with rectified flow.
    """

    duration: float | None = None
    steps: int | None = None
    cfg: float | None = None
    sampler: str | None = None
    schedule: str | None = None
    sigma_min: float | None = None
    sigma_max: float | None = None
    rho: float | None = None
    seed: int | None = 0
    batch: int = 1
    init_strength: float = 1.0
    audio_prompt_masking: bool = True
    short_sounds: bool = False
    window_overlap: float | None = None
    window_batch: int | None = None
    preset: str | None = None
    guidance_start: float = 0.0
    guidance_end: float = 1.0
    guidance_rescale: float = 0.0
    reuse_threshold: float = 0.0
    split_guidance: bool = False
    custom_sampler: ExternalSampler | None = None
    custom_sigmas: Tensor | None = None

    def __post_init__(self) -> None:
        """Check everything that needs no model. Raises `InputError`."""
        check_duration(self.duration)
        for name in ("sigma_min", "sigma_max"):
            self._check_positive(name, _HIGHEST_LEVEL)
        self._check_positive("rho", _HIGHEST_RHO)
        self._check_positive("window_overlap", MAX_SECONDS)
        if self.sigma_min is not None and self.sigma_max is not None:
            check_sigma_bounds(self.sigma_min, self.sigma_max)
        for name, most in (("steps", MAX_STEPS), ("batch", MAX_BATCH), ("window_batch", MAX_BATCH)):
            self._check_count(name, most)
        self._check(
            "cfg",
            lambda cfg: is_number(cfg) and 0 <= cfg <= _HIGHEST_CFG,
            f"a number from 0 to {_HIGHEST_CFG:g}",
        )
        for name in ("audio_prompt_masking", "short_sounds", "split_guidance"):
            self._check(name, lambda choice: isinstance(choice, bool), "True or False")
        if self.batch is None:
            raise InputError("batch is None. Give a whole number of at least 1.")
        self._check("seed", lambda seed: is_whole(seed) and 0 <= seed <= MAX_SEED, _SEED_RANGE)
        for name in ("guidance_rescale", "reuse_threshold"):
            self._check(name, lambda part: is_number(part) and 0 <= part <= 1, "from 0 (off) to 1")
        if not (is_number(self.init_strength) and MIN_STRENGTH <= self.init_strength <= 1):
            raise InputError(
                f"init_strength is {quote_value(self.init_strength)}: it must be from {MIN_STRENGTH:g} "
                "(nearly unchanged) to 1 (nothing left of the original)."
            )
        for name, names in (("sampler", SAMPLER_NAMES), ("schedule", SCHEDULE_NAMES), ("preset", PRESETS)):
            value = getattr(self, name)
            if value is not None and not (isinstance(value, str) and value in names):
                raise InputError(
                    f"There is no {name} called {quote_value(value)}. Leave it at its default, or choose one "
                    f"of {', '.join(names)}."
                )
        start, end = self.guidance_start, self.guidance_end
        if not (is_number(start) and is_number(end) and 0 <= start < end <= 1):
            raise InputError(
                f"guidance_start is {quote_value(start)} and guidance_end {quote_value(end)}: both must be "
                "from 0 to 1, and the "
                "end must come after the start. For no guidance set cfg to 1."
            )
        if self.custom_sigmas is not None and len(check_sigmas(self.custom_sigmas)) > MAX_STEPS + 1:
            raise InputError(
                f"There are {len(self.custom_sigmas)} sigmas, and at most {MAX_STEPS + 1} are possible."
            )
        if self.custom_sampler is not None and not callable(self.custom_sampler):
            raise InputError(
                f"custom_sampler is {quote_value(self.custom_sampler)}, not a function. Connect a SAMPLER."
            )

    def _check(self, name: str, is_valid: Callable[[Any], bool], allowed: str) -> None:
        """Refuse a value that is neither None nor valid."""
        value = getattr(self, name)
        if value is not None and not is_valid(value):
            python_name = f" ({_PYTHON_NAMES[name]})" if name in _PYTHON_NAMES else ""
            raise InputError(
                f"{name}{python_name} must be {allowed}, got {quote_value(value)}. Leave it at its default "
                "for the model's own value."
            )

    def _check_positive(self, name: str, most: float) -> None:
        """Refuse a value that is not a number above 0, up to `most`."""
        allowed = f"a number above 0, up to {most:g}"
        self._check(name, lambda value: is_number(value) and 0 < value <= most, allowed)

    def _check_count(self, name: str, most: int) -> None:
        """Refuse a value that is not a whole number from 1 to `most`."""
        allowed = f"a whole number from 1 to {most}"
        self._check(name, lambda count: is_whole(count) and 1 <= count <= most, allowed)

    @property
    def item_seeds(self) -> list[int] | None:
        """One seed per sound of the batch: seed, seed + 1 and so on; after the highest comes 0."""
        if self.batch == 1 or self.seed is None:
            return None
        return [(self.seed + index) % (MAX_SEED + 1) for index in range(self.batch)]


_SEED_RANGE = "a whole number from 0 to 2^64 - 1"


def check_duration(duration: float | None) -> None:
    """Refuse a duration outside `MIN_SECONDS` to `MAX_SECONDS`. Raises `InputError`."""
    if duration is None:
        return
    if not is_number(duration) or duration <= 0:
        raise InputError(
            f"The duration must be above 0 s, or 0 for the model's own, got {quote_value(duration)}."
        )
    if duration > MAX_SECONDS:
        raise InputError(
            f"The duration is {duration:g} s, and at most {MAX_SECONDS:g} s are made in one run. Choose a "
            "shorter one, or make it in parts."
        )
    if duration < MIN_SECONDS:
        raise InputError(
            f"The duration is {duration:g} s, which is too short to hear. Choose at least {MIN_SECONDS:g} s."
        )


def apply_preset(model: ModelFacts, settings: GenerationSettings) -> GenerationSettings:
    """Fill in what the settings leave open from their preset.

    A few-step model always takes the steps that it was trained for: there a preset changes nothing.
    """
    if settings.preset is None:
        return settings
    if model.config.few_step_count is not None:
        log.info("The preset %s changes nothing: this model has its own few steps.", settings.preset)
        return replace(settings, preset=None)
    preset = PRESETS[settings.preset]
    values: dict[str, Any] = {}
    if settings.custom_sigmas is None:
        values |= {"steps": settings.steps or preset.steps, "schedule": settings.schedule or preset.schedule}
    if settings.custom_sampler is None:
        values["sampler"] = settings.sampler or preset.sampler
    return replace(settings, preset=None, **values)


def resolve_settings(model: ModelFacts, settings: GenerationSettings) -> GenerationSettings:
    """Check the settings against a model, and fill in the model's own values for None.

    Args:
        model: The model.
        settings: Settings whose preset has been applied.

    Returns:
        Settings with steps, cfg, sampler, sigma_min and sigma_max set. The last two follow custom_sigmas
            where there are any. With rectified flow sigma_min stays None.

    Raises:
        InputError: The model cannot use a setting.
    """
    check_accepts_external(model, settings.custom_sigmas, settings.custom_sampler)
    defaults, sigmas = model.defaults, settings.custom_sigmas
    cfg = defaults.cfg_scale if settings.cfg is None else float(settings.cfg)
    if model.config.few_step_count is not None:
        if settings.cfg not in (None, 1):
            log.info("cfg %s is not used: this model's few steps work without guidance.", settings.cfg)
        cfg = 1.0
    is_flow = model.config.objective == "rectified_flow"
    if is_flow and settings.schedule not in (None, DEFAULT_SCHEDULE):
        log.info("The schedule %s is not used: this model's steps are even in time.", settings.schedule)
    sigma_min = defaults.sigma_min if settings.sigma_min is None else settings.sigma_min
    sigma_max = defaults.sigma_max if settings.sigma_max is None else settings.sigma_max
    if sigmas is not None:
        sigmas = check_sigmas(sigmas)
        sigma_min, sigma_max = bounds_of(sigmas, sigma_min)
    return replace(
        settings,
        steps=defaults.steps if settings.steps is None else settings.steps,
        cfg=cfg,
        sampler=settings.sampler or defaults.sampler_type,
        sigma_min=None if is_flow else sigma_min,  # rectified flow ends at time 0
        sigma_max=sigma_max,
        custom_sigmas=sigmas,
    )


def resolve_overlap(model: ModelFacts, window_overlap: float | None) -> int:
    """Convert the overlap of windows from seconds to latents, 1 to half of a window. Raises `InputError`."""
    window = model.config.latent_count
    if window_overlap is None:
        return max(1, window // 4)
    latent = model.config.autoencoder.downsampling_ratio / model.sample_rate
    overlap = round(window_overlap / latent)
    if not 1 <= overlap <= window // 2:
        raise InputError(
            f"window_overlap is {window_overlap:g} s: windows of this model overlap by {latent:.2f} to "
            f"{window // 2 * latent:.2f} s. Leave it out, or set it to 0, for {window // 4 * latent:.2f} s."
        )
    return overlap


def resolve_seeds(settings: GenerationSettings, seeds: Sequence[int] | None) -> list[int]:
    """Return one seed for the whole batch, or one per sound if `seeds` are given.

    A seed that is drawn at random is logged, so that the result can be repeated.

    Raises:
        InputError: There is not one valid seed per sound.
    """
    if seeds is not None:
        if len(seeds) != settings.batch:
            raise InputError(f"There are {len(seeds)} seeds for a batch of {settings.batch}: give one each.")
        for seed in seeds:
            GenerationSettings(seed=seed)
        return list(seeds)
    if settings.seed is not None:
        return [settings.seed]
    seed = secrets.randbits(32)
    log.info("The random seed is %d.", seed)
    return [seed]
