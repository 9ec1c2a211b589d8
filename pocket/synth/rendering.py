"""Renders a scene as stereo sound: synthesises, places and levels every event.

Two cues give the direction: the near ear gets more sound, and the far ear gets it later and
duller, since the head is in the way.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from audiox_ext.errors import InputError
from audiox_ext.random_numbers import keyed_generator

from ..world.scenes import Event, Part, Scene
from . import noises, strokes, tones
from .waves import Voice, fade

MIN_RATE = 8000  # hertz
CEILING = 0.92  # the largest sample of any scene
WINDOW = 0.05  # seconds over which levels are measured
_EAR_DELAY = 0.0006  # seconds from ear to ear, from the side
_SHADOW = 1800.0  # hertz, above which the far ear gets less
_INAUDIBLE = 1e-20
_WIDEST = 0.85  # fraction of a hard pan

Synthesiser = Callable[[Event, Voice], np.ndarray]
SYNTHESISERS: dict[str, Synthesiser] = {
    "tone": tones.tone,
    "sweep": tones.sweep,
    "chord": tones.chord,
    "melody": tones.note,
    "beep": tones.beep,
    "bell": tones.bell,
    "click": strokes.click,
    "knock": strokes.knock,
    "drums": strokes.drum,
    "clock": strokes.clock,
    "footsteps": strokes.footstep,
    "birds": strokes.bird,
    "white noise": noises.white_noise,
    "pink noise": noises.pink_noise,
    "wind": noises.wind,
    "rain": noises.rain,
    "surf": noises.surf,
    "engine": tones.engine,
    "siren": tones.siren,
    "ball": strokes.ball,
    "lamp": strokes.lamp,
    "hammer": strokes.hammer,
    "wheel": strokes.wheel,
    "frog": strokes.frog,
}


def render(scene: Scene, rate: int) -> np.ndarray:
    """Render a scene as (2, S) float32, S = round(seconds * rate).

    No sample exceeds 0.92, the mean is 0, and both ends are silent. The scene sounds the same at every rate
    that can hold it, except that noise is drawn again.

    Args:
        scene: The scene.
        rate: Hertz, at least 8000.

    Raises:
        InputError: The rate is too low or not whole.
    """
    if rate < MIN_RATE or rate != int(rate):
        raise InputError(f"The rate is {rate} Hz: use a whole number of at least {MIN_RATE}.")
    count = round(scene.seconds * rate)
    mix = np.zeros((2, count), dtype=np.float32)
    for part in scene.parts:
        mix += _render_part(part, count, rate)
    peak = float(np.abs(mix).max())
    if peak > CEILING:
        mix *= np.float32(CEILING / peak)
    return fade(mix, rate, 0.002, 0.02)


def peak_rms(sound: np.ndarray, rate: int) -> float:
    """The largest RMS of any 50 ms, the power of the channels added.

    Args:
        sound: (S,) or (2, S).
        rate: Hertz.
    """
    power = np.square(np.atleast_2d(sound), dtype=np.float64).sum(axis=0)
    window = max(1, round(WINDOW * rate))
    sums = np.concatenate([[0.0], np.cumsum(power)])
    if power.size <= window:
        return math.sqrt(sums[-1] / window)
    return math.sqrt(max(0.0, float((sums[window:] - sums[:-window]).max())) / window)


def _render_part(part: Part, count: int, rate: int) -> np.ndarray:
    """(2, count) at the part's level, or at the highest level that does not clip."""
    sound = np.zeros((2, count), dtype=np.float32)
    synthesise = SYNTHESISERS[part.kind]
    for number, event in enumerate(part.events):
        voice = Voice(
            rate=rate,
            part_random=keyed_generator(part.seed, 0),
            event_random=keyed_generator(part.seed, 1, number),
        )
        wave = synthesise(event, voice)
        level = peak_rms(wave, rate) * (math.sqrt(0.5) if wave.ndim == 2 else 1.0)
        gain = 10 ** (event.gain / 20) / max(level, 1e-9)
        placed = _pan(wave * np.float32(gain), event.pan, rate)
        first = round(event.onset * rate)
        room = sound[:, first : first + placed.shape[1]]
        room += placed[:, : room.shape[1]]
    _remove_mean(sound, rate)
    gain = 10 ** (part.peak_rms_dbfs / 20) / max(peak_rms(sound, rate), 1e-9)
    return sound * np.float32(min(gain, CEILING / max(float(np.abs(sound).max()), 1e-9)))


def _pan(wave: np.ndarray, pan: float, rate: int) -> np.ndarray:
    """Pan (S,) or (2, S) -> (2, S'), keeping its power."""
    angle = (1 + _WIDEST * pan) * math.pi / 4
    gains = (math.cos(angle), math.sin(angle))
    if wave.ndim == 2:  # from all around: one side of it is louder
        return wave * np.array(gains, dtype=np.float32)[:, None]
    delay = round(abs(pan) * _EAR_DELAY * rate)
    both = np.zeros((2, wave.size + delay), dtype=np.float32)
    near, far = (0, 1) if pan < 0 else (1, 0)
    both[near, : wave.size] = wave * np.float32(gains[near])
    both[far, delay:] = _shadow(wave, abs(pan), rate) * np.float32(gains[far])
    return both


def _shadow(wave: np.ndarray, side: float, rate: int) -> np.ndarray:
    """Dull a sound by the shadow of the head, more the farther it is to the side."""
    if side < 0.05:
        return wave
    from scipy.signal import lfilter

    keep = np.float32(math.exp(-2 * math.pi * _SHADOW / rate))
    dull = lfilter(np.array([1 - keep], np.float32), np.array([1, -keep], np.float32), wave)
    return np.asarray((1 - side) * wave + side * dull, dtype=np.float32)


def _remove_mean(sound: np.ndarray, rate: int) -> None:
    """High-pass at 18 Hz, in place and causal, so that nothing sounds before it begins."""
    from scipy.signal import butter, sosfilt

    sections = butter(2, 18.0, "highpass", fs=rate, output="sos").astype(np.float32)
    sound[:] = sosfilt(sections, sound, axis=1)
    # The filter rings on in silence with denormal numbers, which are many times slower.
    sound[np.abs(sound) < _INAUDIBLE] = 0
