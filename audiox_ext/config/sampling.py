"""What a config.json says about sampling."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ..errors import ConfigError

Objective = Literal["v", "rectified_flow"]
"""What the network predicts: v, or the velocity of rectified flow."""

SAMPLER_NAMES = (
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
"""The samplers of the v objective, by the names that config.json uses."""


@dataclass(frozen=True, kw_only=True)
class SamplingDefaults:
    """The default sampling settings of a model.

    Attributes:
        steps: Number of steps, at least 1.
        cfg_scale: Guidance scale, 1 to 100; 1 means no guidance.
        sampler_type: One of `SAMPLER_NAMES`.
        sigma_min: Lowest noise level above 0; at least 1e-3.
        sigma_max: Highest noise level, above `sigma_min`, up to 1e5.
    """

    steps: int = 250
    cfg_scale: float = 7.0
    sampler_type: str = "dpmpp-3m-sde"
    sigma_min: float = 0.3
    sigma_max: float = 500.0

    def __post_init__(self) -> None:
        """Check that the values are consistent. Raises `ConfigError`."""
        if self.sigma_min >= self.sigma_max:
            raise ConfigError(
                f"config.json: sampling.sigma_min {self.sigma_min} must be below sigma_max {self.sigma_max}."
            )
