"""Frames sampled for a test, and the codes that tell them apart."""

from __future__ import annotations

import io
from fractions import Fraction
from typing import Any

import torch
from videos import on_screen, read_code

from audiox_ext.media.frames import SampledFrames, TimeRange, sample_frames

RATES = (5, 25)


def sample(source: Any, start: float = 0.0, seconds: float = 1.0, **settings: Any) -> SampledFrames:
    source = io.BytesIO(source) if isinstance(source, bytes) else source
    time_range = TimeRange(start=start, duration=settings.pop("duration", None))
    return sample_frames(source, **{"rates": RATES, "seconds": seconds, "time_range": time_range} | settings)


def codes(frames: torch.Tensor) -> list[int]:
    return [read_code(frame) for frame in frames]


def expected_codes(times: list[Fraction], start: float, seconds: float, rate: int) -> list[int]:
    exact = Fraction(start).limit_denominator(10**6)
    return [on_screen(times, exact + Fraction(index, rate)) for index in range(round(seconds * rate))]


def interrupt() -> None:
    raise KeyboardInterrupt
