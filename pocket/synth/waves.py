"""What all synthesisers are made of: phases, pulses, envelopes, filters.

Sounds are mono, (S,) float32, unless said otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..world.scenes import Event

FADE = 0.004  # seconds: short enough to sound sudden, long enough not to click


@dataclass(frozen=True, kw_only=True)
class Voice:
    """Where an event sounds: the rate in hertz, and its random numbers.

    colour: the same for all events of a part, so that it is one bell that rings twice. noise: the event's
    own.
    """

    rate: int
    part_random: np.random.Generator
    event_random: np.random.Generator

    def samples(self, seconds: float) -> int:
        """At least one."""
        return max(1, round(seconds * self.rate))

    def times(self, seconds: float) -> np.ndarray:
        """(S,) float64, seconds."""
        return np.arange(self.samples(seconds)) / self.rate

    def white(self, count: int) -> np.ndarray:
        """Normal noise of variance 1."""
        return self.event_random.standard_normal(count, dtype=np.float32)


def steady_phase(pitch: float, time: np.ndarray) -> np.ndarray:
    """Cycles in [0, 1), float32. Wrapped in double precision, so that long tones stay pure."""
    return np.asarray((pitch * time) % 1.0, dtype=np.float32)


def moving_phase(pitch: np.ndarray, rate: int) -> np.ndarray:
    """Cycles in [0, 1) of a pitch (S,) that changes."""
    return np.asarray((np.cumsum(pitch) / rate) % 1.0, dtype=np.float32)


def glide(event: Event, time: np.ndarray) -> np.ndarray:
    """The event's pitch at each time, from its pitch to its end pitch by equal steps to the ear."""
    share = time / max(event.duration, 1e-6)
    return np.asarray(event.pitch * (event.end_pitch / event.pitch) ** np.clip(share, 0, 1))


def sine(phase: np.ndarray, multiple: int = 1) -> np.ndarray:
    """A sine of a whole multiple of the phase."""
    return np.sin(np.float32(2 * np.pi * multiple) * phase)


def pulses(phase: np.ndarray, highest: float, rate: int, *, sharpness: float = 40.0) -> np.ndarray:
    """A buzz: a round pulse each cycle, peak near 1, no mean. highest: the pitch's highest value in hertz.

    exp(k (cos x - 1)) has harmonics that fall as exp(-n^2 / 2k), so a k for the pitch keeps all that matters
    (60 dB) below half the rate, without a filter.
    """
    room = 0.45 * rate / highest
    k = np.float32(min(sharpness, max(0.3, room**2 / 13.8)))
    wave = np.exp(k * (np.cos(np.float32(2 * np.pi) * phase) - 1))
    return np.asarray(wave - wave.mean(), dtype=np.float32)


def fade(sound: np.ndarray, rate: int, attack: float = FADE, release: float = FADE) -> np.ndarray:
    """The sound (..., S) with a raised-cosine fade at either end, times in seconds. Changes it in place."""
    count = sound.shape[-1]
    rise = min(count // 2, max(1, round(attack * rate)))
    fall = min(count // 2, max(1, round(release * rate)))
    if rise:
        sound[..., :rise] *= 0.5 - 0.5 * np.cos(np.pi * np.arange(rise, dtype=np.float32) / rise)
    if fall:
        sound[..., count - fall :] *= 0.5 + 0.5 * np.cos(
            np.pi * np.arange(1, fall + 1, dtype=np.float32) / fall
        )
    return sound


def decay(time: np.ndarray, seconds: float) -> np.ndarray:
    """Falls by 60 dB in `seconds`."""
    return np.exp(np.asarray(-6.908 / seconds * time, dtype=np.float32))


def shaped_noise(voice: Voice, count: int, gain: Curve, channels: int = 1) -> np.ndarray:
    """Noise (count,) or (channels, count) whose spectrum has the gain of a curve, variance about 1.

    gain: ((hertz, decibels), ...), straight on a logarithmic axis, rising in hertz.
    """
    from scipy.fft import irfft, next_fast_len, rfft

    length = next_fast_len(count, real=True)
    source = voice.event_random.standard_normal((channels, length), dtype=np.float32)
    hertz = np.fft.rfftfreq(length, 1 / voice.rate)
    points = np.log(np.array([max(f, 1e-3) for f, _ in gain]))
    levels = np.interp(np.log(np.maximum(hertz, 1e-3)), points, [level for _, level in gain])
    weights = np.asarray(10 ** (levels / 20), dtype=np.float32)
    weights[0] = 0
    weights /= np.sqrt(np.mean(weights**2))
    noise = np.asarray(irfft(rfft(source, axis=-1) * weights, length, axis=-1)[:, :count], dtype=np.float32)
    return noise[0] if channels == 1 else noise


Curve = tuple[tuple[float, float], ...]


def slow_curve(voice: Voice, count: int, *, every: float, smooth: bool = True) -> np.ndarray:
    """A random line (count,) in 0..1 with a new target each `every` seconds, eased between them."""
    knots = max(2, round(count / voice.rate / every) + 2)
    targets = voice.event_random.random(knots)
    place = np.arange(count) / voice.rate / every
    first = np.minimum(place.astype(int), knots - 2)
    share = np.minimum(place - first, 1.0)
    if smooth:
        share = share * share * (3 - 2 * share)
    return np.asarray(targets[first] * (1 - share) + targets[first + 1] * share, dtype=np.float32)


def modes(
    voice: Voice, seconds: float, hertz: list[float], strengths: list[float], lengths: list[float]
) -> np.ndarray:
    """What a struck thing sounds like: decaying sines that begin together.

    lengths: seconds to fall by 60 dB. Modes above 0.45 of the rate are left out.
    """
    time = voice.times(seconds)
    sound = np.zeros(time.size, dtype=np.float32)
    for pitch, strength, length in zip(hertz, strengths, lengths, strict=True):
        if pitch < 0.45 * voice.rate:
            sound += np.float32(strength) * sine(steady_phase(pitch, time)) * decay(time, length)
    return sound
