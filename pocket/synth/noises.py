"""Noise-like sounds: white noise, pink noise, wind, rain, surf.

They come from all around. A synthesiser takes an event and a voice and returns (2, S) float32, not yet
scaled.
"""

from __future__ import annotations

import numpy as np

from ..world.scenes import Event
from .waves import Curve, Voice, fade, shaped_noise, slow_curve

_WHITE: Curve = ((1, 0), (2, 0))
_PINK: Curve = ((20, 0), (20480, -30.1))
_WIND_LOW: Curve = ((40, -30), (120, 0), (300, 0), (700, -30), (2000, -60))
_WIND_HIGH: Curve = ((200, -40), (450, -4), (700, 0), (1100, -14), (3000, -50))
_RAIN: Curve = ((200, -30), (900, -14), (2500, -4), (6000, 0), (12000, -3))
_DROP: Curve = ((700, -40), (1800, 0), (5000, 0), (9000, -12))
_SURF_LOW: Curve = ((30, -10), (80, 0), (400, -4), (1500, -22), (8000, -50))
_SURF_HIGH: Curve = ((200, -40), (900, -8), (2500, 0), (8000, -6))


def _around(voice: Voice, count: int, curve: Curve) -> np.ndarray:
    """(2, count) noise, mostly uncorrelated between left and right."""
    common, left, right = shaped_noise(voice, count, curve, channels=3)
    return np.stack([0.6 * common + 0.8 * left, 0.6 * common + 0.8 * right])


def white_noise(event: Event, voice: Voice) -> np.ndarray:
    """Equal power at all frequencies."""
    return _finished(_around(voice, voice.samples(event.duration), _WHITE), voice)


def pink_noise(event: Event, voice: Voice) -> np.ndarray:
    """Equal power in all octaves."""
    return _finished(_around(voice, voice.samples(event.duration), _PINK), voice)


def wind(event: Event, voice: Voice) -> np.ndarray:
    """Low, dull noise in gusts that become brighter as they become louder."""
    count = voice.samples(event.duration)
    gusts = slow_curve(voice, count, every=voice.part_random.uniform(0.8, 1.6))
    sound = _around(voice, count, _WIND_LOW) * (0.35 + 0.65 * gusts)
    sound += _around(voice, count, _WIND_HIGH) * (0.9 * gusts**2)
    return _finished(sound, voice)


def rain(event: Event, voice: Voice) -> np.ndarray:
    """A bright hiss of distant drops, and single drops close by."""
    from scipy.signal import fftconvolve

    count = voice.samples(event.duration)
    sound = _around(voice, count, _RAIN)
    drops = np.zeros((2, count), dtype=np.float32)
    number = voice.event_random.poisson(voice.part_random.uniform(200, 500) * event.duration)
    place = voice.event_random.integers(0, count, number)
    strength = np.minimum(voice.event_random.exponential(1.0, number), 2.5).astype(np.float32)
    left = voice.event_random.random(number, dtype=np.float32)
    np.add.at(drops[0], place, strength * np.sqrt(left))
    np.add.at(drops[1], place, strength * np.sqrt(1 - left))
    length = voice.samples(0.008)
    splash = shaped_noise(voice, length, _DROP) * np.exp(
        -np.arange(length, dtype=np.float32) / (0.15 * length)
    )
    near = fftconvolve(drops, splash[None].astype(np.float32), axes=1)[:, :count]
    near *= 0.7 / max(float(np.sqrt(np.mean(near**2))), 1e-6)
    return _finished(sound + near, voice)


def surf(event: Event, voice: Voice) -> np.ndarray:
    """Waves: a deep swell that ends in a bright wash, every few seconds."""
    count = voice.samples(event.duration)
    period = voice.part_random.uniform(2.8, 4.5)
    place = (voice.times(event.duration) / period + voice.part_random.uniform(0.5, 0.9)) % 1.0
    rise = np.clip(place / 0.45, 0, 1)
    fall = np.clip((1 - place) / 0.55, 0, 1)
    swell = np.asarray(np.minimum(rise, 1) ** 2 * fall**1.2, dtype=np.float32)
    wash = np.asarray(np.clip((place - 0.25) / 0.25, 0, 1) * fall**2, dtype=np.float32)
    sound = _around(voice, count, _SURF_LOW) * (0.12 + swell) + _around(voice, count, _SURF_HIGH) * (
        0.03 + 0.8 * wash
    )
    return _finished(sound, voice)


def _finished(sound: np.ndarray, voice: Voice) -> np.ndarray:
    return fade(np.asarray(sound, dtype=np.float32), voice.rate, voice.part_random.uniform(0.05, 0.2), 0.2)
