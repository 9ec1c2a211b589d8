"""The settings that the sampler study tries, the most informative first."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from itertools import product
from typing import Any

from audiox_ext.checkpoints.pretrained import Precision
from audiox_ext.config import SAMPLER_NAMES
from audiox_ext.model_info import SamplingDefaults
from audiox_ext.pipeline.settings import PRESETS
from audiox_ext.sampling.schedules import DEFAULT_SCHEDULE, SCHEDULE_NAMES

from ..quality.sounds import Sampling

STEPS = (8, 16, 25, 50, 100, 250)
SCALES = (1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0)
INTERVALS = ((0.0, 0.5), (0.0, 0.8), (0.2, 0.8), (0.2, 1.0), (0.5, 1.0))
THRESHOLDS = (0.02, 0.05, 0.1, 0.2, 0.3)
PRECISIONS: tuple[Precision, ...] = ("fp32", "bf16", "fp16")
BASE = "balanced"  # trials change one setting of this preset at a time
# These samplers choose their own noise levels, so the schedule has no effect.
WITHOUT_SCHEDULE = ("k-dpm-fast", "k-dpm-adaptive")
WITHOUT_STEPS = ("k-dpm-adaptive",)
# Schedules with the same noise levels as another, as long as rho is not set.
SAME_SCHEDULES = {"exponential": DEFAULT_SCHEDULE}
_FIRST_SAMPLERS = ("dpmpp-2m", "dpmpp-3m-sde")
_QUICK_SAMPLERS = (*_FIRST_SAMPLERS, "unipc", "k-heun")


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One setting to measure.

    Attributes:
        part: Part of the study that the trial belongs to, such as "guidance".
        sampling: Sampling settings, without defaults left to resolve.
        precision: Precision of the network.
        seed: Seed of the sounds.
        diverse: Whether to measure the diversity too, with several sounds per prompt.
    """

    part: str
    sampling: Sampling
    precision: Precision = "fp32"
    seed: int = 0
    diverse: bool = False

    @property
    def key(self) -> str:
        """Identity of the measurement: equal settings in two parts of the study have equal keys."""
        return json.dumps([asdict(self.sampling), self.precision, self.seed], sort_keys=True)

    @property
    def label(self) -> str:
        """The settings in words."""
        s = self.sampling
        words = [f"{s.sampler_type} {s.steps} steps", str(s.schedule), f"cfg {s.cfg_scale:g}"]
        if s.guidance_interval != (0.0, 1.0):
            words.append("guidance {:g} to {:g}".format(*s.guidance_interval))
        if s.reuse_threshold:
            words.append(f"reuse {s.reuse_threshold:g}")
        return ", ".join([*words, self.precision, f"seed {self.seed}"])

    def as_dict(self) -> dict[str, Any]:
        """Convert the trial for a JSON file.

        Returns:
            The fields by name.
        """
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Trial:
        """Rebuild a trial.

        Args:
            values: Output of `as_dict`, possibly after a round trip through JSON.

        Returns:
            The trial.
        """
        sampling = dict(values["sampling"])
        sampling["guidance_interval"] = tuple(sampling["guidance_interval"])
        return cls(**{**values, "sampling": Sampling(**sampling)})


def resolve_defaults(sampling: Sampling, defaults: SamplingDefaults) -> Sampling:
    """Fill in the model's own values, so that equal settings compare equal.

    Args:
        sampling: Settings, None where the model's own apply.
        defaults: The model's own values.

    Returns:
        The settings without None.
    """
    return replace(
        sampling,
        steps=sampling.steps or defaults.steps,
        cfg_scale=defaults.cfg_scale if sampling.cfg_scale is None else float(sampling.cfg_scale),
        sampler_type=sampling.sampler_type or defaults.sampler_type,
        schedule=sampling.schedule or DEFAULT_SCHEDULE,
    )


def preset_trials(defaults: SamplingDefaults, seeds: int) -> list[Trial]:
    """List every preset with every seed.

    Args:
        defaults: The model's own values.
        seeds: Number of seeds.

    Returns:
        The trials, seed by seed.
    """
    return [
        Trial(
            part="presets",
            sampling=resolve_defaults(Sampling.of_preset(name), defaults),
            seed=seed,
            diverse=True,
        )
        for seed, name in product(range(seeds), reversed(PRESETS))
    ]


def full_grid(defaults: SamplingDefaults, seeds: int = 4) -> list[Trial]:
    """List all trials of the study, each once, ending with every sampler and schedule at every step count.

    Args:
        defaults: The model's own values.
        seeds: Number of seeds of each preset.

    Returns:
        The trials, the most informative first.
    """
    presets = preset_trials(defaults, seeds)
    base = resolve_defaults(Sampling.of_preset(BASE), defaults)
    others = tuple(name for name in SAMPLER_NAMES if name not in _FIRST_SAMPLERS)
    return _unique(
        [
            *presets[: len(PRESETS)],
            *_samplers(base, _FIRST_SAMPLERS, (25, 16, 50, 8, 100)),
            *_guidance(base, SCALES),
            *_samplers(base, others, (25, 50)),
            *_reuse(base, THRESHOLDS),
            *_intervals(base, INTERVALS),
            *_schedules(base, _FIRST_SAMPLERS, (25, 50)),
            *_precisions(base, PRECISIONS),
            *presets[len(PRESETS) :],
            *_samplers(base, others, (16, 8, 100)),
            *_samplers(base, SAMPLER_NAMES, (250,)),
            *_schedules(base, SAMPLER_NAMES, STEPS),
        ]
    )


def quick_grid(defaults: SamplingDefaults) -> list[Trial]:
    """List a few trials of each part, without high step counts.

    Args:
        defaults: The model's own values.

    Returns:
        The trials, the most informative first.
    """
    base = resolve_defaults(Sampling.of_preset(BASE), defaults)
    return _unique(
        [
            *[trial for trial in preset_trials(defaults, 1) if (trial.sampling.steps or 0) <= 50],
            *_samplers(base, _QUICK_SAMPLERS, (25, 8)),
            *_guidance(base, (1.0, 4.0, 7.0, 10.0)),
            *_intervals(base, ((0.2, 0.8),)),
            *_reuse(base, (0.1,)),
            *_schedules(base, ("dpmpp-2m",), (25,)),
            *_precisions(base, ("bf16",)),
        ]
    )


def _samplers(base: Sampling, names: Iterable[str], steps: Iterable[int]) -> Iterator[Trial]:
    """Samplers at several step counts."""
    for count, name in product(steps, names):
        if name not in WITHOUT_STEPS or count == base.steps:
            yield Trial(part="samplers", sampling=replace(base, sampler_type=name, steps=count))


def _schedules(base: Sampling, samplers: Iterable[str], steps: Iterable[int]) -> Iterator[Trial]:
    """Schedules with several samplers and step counts."""
    names = [name for name in SCHEDULE_NAMES if name not in SAME_SCHEDULES]
    adjustable = [name for name in samplers if name not in WITHOUT_SCHEDULE]
    for count, sampler, name in product(steps, adjustable, names):
        yield Trial(
            part="schedules", sampling=replace(base, sampler_type=sampler, steps=count, schedule=name)
        )


def _guidance(base: Sampling, scales: Iterable[float]) -> Iterator[Trial]:
    """Guidance scales."""
    for scale in scales:
        yield Trial(part="guidance", sampling=replace(base, cfg_scale=scale), diverse=True)


def _intervals(base: Sampling, intervals: Iterable[tuple[float, float]]) -> Iterator[Trial]:
    """Guidance intervals."""
    for interval in intervals:
        yield Trial(part="intervals", sampling=replace(base, guidance_interval=interval))


def _reuse(base: Sampling, thresholds: Iterable[float]) -> Iterator[Trial]:
    """Thresholds of block reuse."""
    for threshold in thresholds:
        yield Trial(part="reuse", sampling=replace(base, reuse_threshold=threshold))


def _precisions(base: Sampling, names: Iterable[Precision]) -> Iterator[Trial]:
    """Precisions of the network."""
    for name in names:
        yield Trial(part="precisions", sampling=base, precision=name)


def _unique(trials: Iterable[Trial]) -> list[Trial]:
    """The trials without repetitions."""
    by_key: dict[str, Trial] = {}
    for trial in trials:
        by_key.setdefault(trial.key, trial)
    return list(by_key.values())
