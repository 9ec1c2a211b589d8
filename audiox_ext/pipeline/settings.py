"""The arguments of `generate_diffusion_cond`, checked before any work is done. All raise `InputError`."""

from __future__ import annotations

import logging
import math
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ..errors import InputError
from ..model_info import ModelFacts
from ..sampling.denoiser import StepCallback
from ..sampling.external import ExternalSampler
from ..sampling.schedules import SCHEDULE_NAMES

log = logging.getLogger(__name__)

MAX_SEED = 2**64 - 1
_ALSO_IN_PROMPTS = {"seconds_start", "seconds_total"}


@dataclass(frozen=True, kw_only=True)
class SamplerSettings:
    """What `**sampler_kwargs` may hold. None means the model's own value.

    callback: called once a step, as soon as the step's estimate of the clean latents is there; what it raises
    ends the run and reaches the caller. For sounds longer than the model's own length: window_overlap,
    seconds that windows share at least, up to half of their length, default a quarter; window_batch, how many
    windows go through the network at once, default 4, which bounds the memory. seeds: one a batch item, in
    place of `seed`: each item then is what its seed alone makes (but for k-dpm-adaptive). mask_audio_prompt:
    False lets the whole audio prompt be heard where the model was trained with a random part of it hidden.
    latent_mask: with init_audio, how far each latent may change, (L,) or (B, L) in [0, 1]: 0 keeps it, 1
    makes it anew, what lies between holds it until so much noise is left (see
    `inpainting.StrengthInpainting`).

    scale_phi: guidance rescale, see `GuidedVelocity`. guidance_interval: (start, end) in [0, 1], the part of
    the run in which there is guidance; outside it a step costs half. split_guidance: the guided pair in two
    passes, with half the activations and the same result. reuse_threshold: above 0, steps leave out most of
    the network where it would say nearly the same again, see `BlockCache`; a batch then decides as one, and
    a split pair reuses nothing.

    For the v objective alone: schedule, see `schedules`; rho, its parameter, None for its own; sigmas, noise
    levels (steps + 1,) in place of steps, bounds and schedule, of which a variation takes those below its own
    level; sampler, a function in place of sampler_type, see `external`. With rectified flow schedule and
    rho have no influence, and the other two are refused.
    """

    sampler_type: str | None = None
    sigma_min: float | None = None
    sigma_max: float | None = None
    rho: float | None = None
    scale_phi: float = 0.0
    callback: StepCallback | None = None
    window_overlap: float | None = None
    window_batch: int | None = None
    seeds: Sequence[int] | None = None
    mask_audio_prompt: bool = True
    latent_mask: Tensor | None = None
    schedule: str | None = None
    guidance_interval: tuple[float, float] = (0.0, 1.0)
    reuse_threshold: float = 0.0
    sigmas: Tensor | None = None
    custom_sampler: ExternalSampler | None = None
    split_guidance: bool = False

    def __post_init__(self) -> None:
        for name in ("sigma_min", "sigma_max", "rho"):
            value = getattr(self, name)
            if value is not None and not (_is_number(value) and value > 0):
                raise InputError(f"{name} must be a number above 0, got {value!r}.")
        if not (_is_number(self.scale_phi) and 0 <= self.scale_phi <= 1):
            raise InputError(f"scale_phi must lie in [0, 1], got {self.scale_phi!r}.")
        check_interval(self.guidance_interval)
        if not (_is_number(self.reuse_threshold) and 0 <= self.reuse_threshold <= 1):
            raise InputError(f"reuse_threshold must lie in [0, 1], got {self.reuse_threshold!r}.")
        if self.schedule is not None and self.schedule not in SCHEDULE_NAMES:
            raise InputError(
                f"There is no schedule called {self.schedule!r}. Choose one of {', '.join(SCHEDULE_NAMES)}."
            )
        overlap, at_once = self.window_overlap, self.window_batch
        if overlap is not None and not (_is_number(overlap) and overlap > 0):
            raise InputError(f"window_overlap must be a number of seconds above 0, got {overlap!r}.")
        if at_once is not None and not (_is_whole(at_once) and at_once >= 1):
            raise InputError(f"window_batch must be a whole number of at least 1, got {at_once!r}.")

    @classmethod
    def from_arguments(cls, arguments: Mapping[str, Any]) -> SamplerSettings:
        """Refuses an argument that is none of the fields."""
        unknown = sorted(set(arguments) - set(cls.__dataclass_fields__))
        if unknown:
            raise InputError(
                f"generate_diffusion_cond does not know {', '.join(unknown)}; beside its own arguments it "
                f"takes {', '.join(cls.__dataclass_fields__)}."
            )
        return cls(**arguments)


def check_interval(interval: Sequence[float]) -> None:
    """Raises `InputError` unless it is (start, end) with 0 <= start < end <= 1."""
    pair = isinstance(interval, Sequence) and len(interval) == 2 and all(_is_number(v) for v in interval)
    if not (pair and 0 <= interval[0] < interval[1] <= 1):
        raise InputError(
            f"Guidance is applied from one share of the run to another, both from 0 to 1, got {interval!r}. "
            "Let the end come after the start; for no guidance set cfg to 1."
        )


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def checked_steps(model: ModelFacts, steps: int | None) -> int:
    """At least 1; None is the model's own."""
    steps = model.defaults.steps if steps is None else steps
    if not _is_whole(steps) or steps < 1:
        raise InputError(
            f"steps must be a whole number of at least 1, got {steps!r}. Leave it out for the model's own."
        )
    return steps


def checked_guidance(model: ModelFacts, cfg_scale: float | None) -> float:
    """A finite number; None is the model's own, and a few-step student always has 1."""
    if model.config.few_step_count is not None:
        if cfg_scale not in (None, 1, 1.0):
            log.info("cfg_scale %s is not used: this model's few steps work without guidance.", cfg_scale)
        return 1.0
    scale = model.defaults.cfg_scale if cfg_scale is None else cfg_scale
    if not _is_number(scale):
        raise InputError(f"cfg_scale must be a number, got {scale!r}.")
    return float(scale)


def checked_latents(model: ModelFacts, sample_size: int | None, sample_rate: int | None) -> int:
    """How many latents to make; `mmdit` networks make no less than their own number."""
    ratio = model.config.autoencoder.downsampling_ratio
    if sample_rate not in (None, model.sample_rate):
        raise InputError(
            f"This model makes sound at {model.sample_rate} Hz, not {sample_rate}. Resample the result."
        )
    size = model.sample_size if sample_size is None else sample_size
    if not _is_whole(size):
        raise InputError(f"sample_size must be a whole number of samples, got {size!r}.")
    if size < ratio:
        raise InputError(f"sample_size {size} is shorter than one latent of {ratio} samples.")
    if model.config.network.type == "mmdit" and size // ratio < model.config.latent_count:
        raise InputError(
            f"This model makes at least {model.sample_size} samples ({model.native_seconds:.2f} s), not "
            f"{size}. Leave sample_size out and trim the result."
        )
    return size // ratio


def checked_overlap(model: ModelFacts, seconds: float | None) -> int:
    """Latents that windows share at least: 1 to half of a window; None is a quarter of it."""
    native = model.config.latent_count
    if seconds is None:
        return max(1, native // 4)
    latent = model.config.autoencoder.downsampling_ratio / model.sample_rate
    overlap = round(seconds / latent)
    if not 1 <= overlap <= native // 2:
        raise InputError(
            f"window_overlap is {seconds:g} s: windows of this model overlap by {latent:.2f} to "
            f"{native // 2 * latent:.2f} s. Leave it out, or set it to 0, for {native // 4 * latent:.2f} s."
        )
    return overlap


def checked_batch(batch_size: int) -> int:
    """At least 1."""
    if not _is_whole(batch_size) or batch_size < 1:
        raise InputError(f"batch_size must be at least 1, got {batch_size!r}.")
    return batch_size


def checked_seed(seed: int) -> int:
    """0 to 2^64 - 1; -1 draws one, which is logged so that the result can be made again."""
    if not _is_whole(seed) or not -1 <= seed <= MAX_SEED:
        raise InputError(
            f"The seed must be a whole number from 0 to 2^64 - 1, or -1 for a random one, got {seed!r}."
        )
    if seed == -1:
        seed = secrets.randbits(32)
        log.info("The random seed is %d.", seed)
    return seed


def checked_seeds(seed: int, seeds: Sequence[int] | None, batch_size: int) -> list[int]:
    """The seed of the whole batch alone, or one of each item's own."""
    if seeds is None:
        return [checked_seed(seed)]
    if len(seeds) != batch_size:
        raise InputError(f"There are {len(seeds)} seeds for a batch of {batch_size}: give one an item.")
    return [checked_seed(own) for own in seeds]


def checked_noise_level(model: ModelFacts, level: float, sigma_min: float) -> float:
    """Where a variation begins: above sigma_min for the v objective."""
    if not (_is_number(level) and level > 0):
        raise InputError(f"init_noise_level must be a number above 0, got {level!r}.")
    if model.config.objective == "v" and level <= sigma_min:
        raise InputError(
            f"init_noise_level is {level:g}, which must be above sigma_min, {sigma_min:g}. Raise it, or "
            "lower sigma_min."
        )
    return float(level)


def checked_prompts(model: ModelFacts, conditioning: Any) -> list[Mapping[str, Any]]:
    """A list of dicts, each with at least one key that a conditioner knows (or empty)."""
    items = [conditioning] if isinstance(conditioning, Mapping) else conditioning
    if (
        not isinstance(items, Sequence)
        or isinstance(items, str)
        or not all(isinstance(i, Mapping) for i in items)
    ):
        raise InputError(
            f"conditioning must be a dict or a list of dicts, got {type(conditioning).__name__}."
        )
    known = set(model.config.conditioners) | _ALSO_IN_PROMPTS
    for item in items:
        unknown = sorted(str(key) for key in set(item) - known)
        if unknown and not set(item) & set(model.config.conditioners):
            raise InputError(
                f"conditioning has {', '.join(unknown)}, of which this model knows nothing; it takes "
                f"{', '.join(model.config.conditioners)}."
            )
        if unknown:
            log.warning("conditioning: %s is not used by this model.", ", ".join(unknown))
    return list(items)
