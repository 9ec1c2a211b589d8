"""The golden data: its location, the formulas of its inputs, and how closeness is measured."""

from __future__ import annotations

import math
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

GOLDEN = Path(__file__).parent / "golden"
KINDS = ("base", "maf", "mmdit", "turbo")


def golden_path(name: str) -> Path:
    """A file or folder of the golden data, such as "maf/config.json"."""
    return GOLDEN / name


def relative_l2(a: Tensor, b: Tensor) -> float:
    """||a - b|| / ||b||, in float64."""
    a, b = a.detach().double().cpu(), b.detach().double().cpu()
    return (torch.linalg.vector_norm(a - b) / torch.linalg.vector_norm(b)).item()


def assert_close_l2(actual: Tensor, expected: Tensor, limit: float) -> None:
    """Fail for a different shape or a relative L2 error above the limit; the message says where."""
    assert actual.shape == expected.shape, f"shape {tuple(actual.shape)}, expected {tuple(expected.shape)}"
    error = relative_l2(actual, expected)
    if not error <= limit:
        distance = (actual.detach().double().cpu() - expected.detach().double().cpu()).abs()
        worst = tuple(int(i) for i in torch.unravel_index(distance.argmax(), distance.shape))
        raise AssertionError(f"relative L2 error {error:.1e} > {limit:.0e}, worst at {worst}")


@lru_cache(maxsize=4)
def frames(n: int, seed: int) -> Tensor:
    """(n, 3, 224, 224) uint8. Shared between callers: do not change it."""
    i, c, y, x = torch.meshgrid(*(torch.arange(size) for size in (n, 3, 224, 224)), indexing="ij")
    return ((7 * i + 3 * y + 5 * x + 11 * c + 13 * seed + (i * y * x) // 97) % 256).to(torch.uint8)


def tone(seconds: float, rate: int, f0: float) -> Tensor:
    """(2, seconds * rate) float32, stereo, two partials, computed in float64."""
    k = torch.arange(round(seconds * rate), dtype=torch.float64)
    c = torch.arange(2, dtype=torch.float64)[:, None]
    phase = 2 * math.pi * f0 * k / rate
    return (0.4 * torch.sin(phase) + 0.2 * torch.sin(2.5 * phase + c)).float()


def sync(seed: int) -> Tensor:
    """(1, 240, 32) float32, computed in float64."""
    n = torch.arange(240 * 32, dtype=torch.float64)
    return torch.sin(n * seed / 17).float().reshape(1, 240, 32)
