"""Building blocks of the synthesisers: phases, pulses, envelopes, filters.

Sounds are mono, (S,) float32, unless stated otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..world.scenes import Event

FADE = 0.004  # seconds: short enough to sound sudden, long enough not to click


@dataclass(frozen=True, kw_only=True)
class Voice:
    """The sample rate and the random numbers of an event.

    Attributes:
        rate: Hertz.
        part_random: The same for all events of a part, so that one bell rings twice.
        event_random: The event's own.
    """

    rate: int
    part_random: np.random.Generator
    event_random: np.random.Generator

    def samples(self, seconds: float) -> int:
        """A duration in samples, at least one.

        Args:
            seconds: The duration.
        """
        return max(1, round(seconds * self.rate))

    def times(self, seconds: float) -> np.ndarray:
        """The times (S,) float64 in seconds of a duration's samples.

        Args:
            seconds: The duration.
        """
        return np.arange(self.samples(seconds)) / self.rate

    def white(self, count: int) -> np.ndarray:
        """White noise of variance 1.

        Args:
            count: Samples.
        """
        return self.event_random.standard_normal(count, dtype=np.float32)


def steady_phase(pitch: float, time: np.ndarray) -> np.ndarray:
    """The phase of a steady pitch: cycles in [0, 1), float32, wrapped in double precision.

    Args:
        pitch: Hertz.
        time: (S,) seconds.
    """
    return np.asarray((pitch * time) % 1.0, dtype=np.float32)


def moving_phase(pitch: np.ndarray, rate: int) -> np.ndarray:
    """The phase of a changing pitch: cycles in [0, 1).

    Args:
        pitch: (S,) hertz.
        rate: Hertz.
    """
    return np.asarray((np.cumsum(pitch) / rate) % 1.0, dtype=np.float32)


def glide(event: Event, time: np.ndarray) -> np.ndarray:
    """The pitch (S,) of a gliding event, linear in octaves.

    Args:
        event: Glides from `pitch` to `end_pitch`.
        time: (S,) seconds.
    """
    fraction = time / max(event.duration, 1e-6)
    return np.asarray(event.pitch * (event.end_pitch / event.pitch) ** np.clip(fraction, 0, 1))


def sine(phase: np.ndarray, multiple: int = 1) -> np.ndarray:
    """A sine.

    Args:
        phase: (S,) cycles.
        multiple: Harmonic number.
    """
    return np.sin(np.float32(2 * np.pi * multiple) * phase)


def pulses(phase: np.ndarray, highest: float, rate: int, *, sharpness: float = 40.0) -> np.ndarray:
    """A buzz: one round pulse per cycle, with a peak near 1 and mean 0.

    exp(k (cos x - 1)) has harmonics that fall as exp(-n^2 / 2k), so a suitable k keeps everything above
    -60 dB below half the rate without a filter.

    Args:
        phase: (S,) cycles.
        highest: The highest pitch in hertz.
        rate: Hertz.
        sharpness: Largest k.
    """
    room = 0.45 * rate / highest
    k = np.float32(min(sharpness, max(0.3, room**2 / 13.8)))
    wave = np.exp(k * (np.cos(np.float32(2 * np.pi) * phase) - 1))
    return np.asarray(wave - wave.mean(), dtype=np.float32)


def fade(sound: np.ndarray, rate: int, attack: float = FADE, release: float = FADE) -> np.ndarray:
    """Fade both ends of a sound (..., S) with raised cosines, in place, and return it.

    Args:
        sound: The sound.
        rate: Hertz.
        attack: Seconds.
        release: Seconds.
    """
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
    """An exponential decay.

    Args:
        time: (S,) seconds.
        seconds: Time to fall by 60 dB.
    """
    return np.exp(np.asarray(-6.908 / seconds * time, dtype=np.float32))


def shaped_noise(voice: Voice, count: int, gain: Curve, channels: int = 1) -> np.ndarray:
    """Noise with a given spectrum and a variance of about 1: (count,), or (channels, count) if channels > 1.

    Args:
        voice: The voice.
        count: Samples.
        gain: ((hertz, decibels), ...), rising in hertz, interpolated on a logarithmic axis.
        channels: Independent channels.
    """
    from scipy.fft import irfft, next_fast_len, rfft

    length = next_fast_len(count, real=True)
    source = voice.event_random.standard_normal((channels, length), dtype=np.float32)
    hertz = np.fft.rfftfreq(length, 1 / voice.rate)
    points = np.log(np.array([max(f, 1e-3) for f, _ in gain]))
    decibels = np.interp(np.log(np.maximum(hertz, 1e-3)), points, [value for _, value in gain])
    weights = np.asarray(10 ** (decibels / 20), dtype=np.float32)
    weights[0] = 0
    weights /= np.sqrt(np.mean(weights**2))
    noise = np.asarray(irfft(rfft(source, axis=-1) * weights, length, axis=-1)[:, :count], dtype=np.float32)
    return noise[0] if channels == 1 else noise


Curve = tuple[tuple[float, float], ...]


def slow_curve(voice: Voice, count: int, *, every: float, smooth: bool = True) -> np.ndarray:
    """A random curve (count,) in [0, 1].

    Args:
        voice: The voice.
        count: Samples.
        every: Seconds between the random values.
        smooth: Whether the curve eases in and out of them.
    """
    knots = max(2, round(count / voice.rate / every) + 2)
    targets = voice.event_random.random(knots)
    place = np.arange(count) / voice.rate / every
    first = np.minimum(place.astype(int), knots - 2)
    fraction = np.minimum(place - first, 1.0)
    if smooth:
        fraction = fraction * fraction * (3 - 2 * fraction)
    return np.asarray(targets[first] * (1 - fraction) + targets[first + 1] * fraction, dtype=np.float32)


def modes(
    voice: Voice, seconds: float, hertz: list[float], amplitudes: list[float], lengths: list[float]
) -> np.ndarray:
    """A struck object: decaying sines that start together.

    Modes above 0.45 of the rate are left out.

    Args:
        voice: The voice.
        seconds: Duration.
        hertz: Frequency of each mode.
        amplitudes: Amplitude of each mode.
        lengths: Seconds in which each mode falls by 60 dB.
    """
    time = voice.times(seconds)
    sound = np.zeros(time.size, dtype=np.float32)
    for pitch, amplitude, length in zip(hertz, amplitudes, lengths, strict=True):
        if pitch < 0.45 * voice.rate:
            sound += np.float32(amplitude) * sine(steady_phase(pitch, time)) * decay(time, length)
    return sound
