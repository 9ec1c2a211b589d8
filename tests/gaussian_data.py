"""Samplers on data drawn from a normal distribution, for which the velocity is known exactly."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from audiox_ext.random_numbers import RandomNumbers
from audiox_ext.sampling.denoiser import VDenoiser
from audiox_ext.sampling.samplers import sample_v


def gaussian_velocity(x: Tensor, t: Tensor) -> Tensor:
    """The exact velocity for data drawn from N(0, 0.25): the ODE has a closed solution."""
    sigma = torch.tan(t * math.pi / 2)[:, None, None]
    noisy = x * (sigma**2 + 1).sqrt()
    denoised = noisy * 0.25 / (0.25 + sigma**2)
    return (noisy / (sigma**2 + 1) - denoised) * (sigma**2 + 1).sqrt() / sigma


def run(name: str, steps: int, seed: int = 0, **more: Any) -> Tensor:
    noise = torch.randn(2, 3, 40, generator=torch.Generator().manual_seed(7))
    random = RandomNumbers.from_seed(seed)
    settings = {"sampler": name, "steps": steps, "sigma_min": 0.01, "sigma_max": 50.0, **more}
    return sample_v(VDenoiser(gaussian_velocity), noise, random=random, **settings)
