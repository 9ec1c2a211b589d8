"""Pitched sounds: tones, chords, notes of a melody, beeps, bells, sweeps, sirens, engines.

A synthesiser takes an event and a voice and returns (S,) float32, not yet scaled.
"""

from __future__ import annotations

import numpy as np

from ..world.scenes import Event
from .waves import (
    Voice,
    decay,
    fade,
    glide,
    modes,
    moving_phase,
    pulses,
    shaped_noise,
    sine,
    slow_curve,
    steady_phase,
)

_DRAWBARS = ((1, 1.0), (2, 0.6), (3, 0.4), (4, 0.3), (6, 0.2), (8, 0.12))
_BELLS = (
    ((1.0, 2.0, 3.01, 4.17, 5.43), (1.0, 0.5, 0.3, 0.22, 0.12)),
    ((1.0, 2.76, 5.4, 8.93), (1.0, 0.4, 0.18, 0.06)),  # a bar struck at its end
)
_CHORDS = {"major": (0, 4, 7), "minor": (0, 3, 7)}


def steady_tone(phase: np.ndarray, pitch: float, voice: Voice, name: str) -> np.ndarray:
    """A steady tone with a timbre.

    Args:
        phase: (S,) cycles.
        pitch: Hertz.
        voice: The voice.
        name: "pure", "organ" or "buzzing".
    """
    if name == "buzzing":
        return pulses(phase, pitch, voice.rate)
    if name == "organ":
        parts = [(n, level) for n, level in _DRAWBARS if n * pitch < 0.45 * voice.rate]
        return np.asarray(sum(np.float32(level) * sine(phase, n) for n, level in parts), dtype=np.float32)
    return sine(phase)


def tone(event: Event, voice: Voice) -> np.ndarray:
    """A sustained tone."""
    sound = steady_tone(
        steady_phase(event.pitch, voice.times(event.duration)), event.pitch, voice, event.variant
    )
    attack, release = voice.part_random.uniform(0.02, 0.08), voice.part_random.uniform(0.05, 0.2)
    return fade(sound, voice.rate, attack, release)


def chord(event: Event, voice: Voice) -> np.ndarray:
    """A triad whose root is the lowest and strongest note."""
    colour, quality = event.variant.split()
    time = voice.times(event.duration)
    sound = np.zeros(time.size, dtype=np.float32)
    for step, level in zip(_CHORDS[quality], (1.0, 0.8, 0.8), strict=True):
        pitch = event.pitch * 2 ** (step / 12)
        part = steady_tone(steady_phase(pitch, time), pitch, voice, colour)
        sound += np.float32(level) * part / np.float32(np.sqrt(np.mean(part**2)))
    return fade(
        sound, voice.rate, voice.part_random.uniform(0.02, 0.08), voice.part_random.uniform(0.05, 0.25)
    )


def note(event: Event, voice: Voice) -> np.ndarray:
    """A note of a melody."""
    time = voice.times(event.duration)
    if event.variant == "plucked":
        partials = range(1, 9)
        sound = modes(
            voice,
            event.duration,
            [event.pitch * n for n in partials],
            [n**-1.2 for n in partials],
            [1.6 / n**0.7 for n in partials],
        )
        return fade(sound, voice.rate, 0.003, 0.02)
    sound = steady_tone(steady_phase(event.pitch, time), event.pitch, voice, event.variant)
    return fade(sound * decay(time, 4 * event.duration), voice.rate, 0.01, 0.03)


def beep(event: Event, voice: Voice) -> np.ndarray:
    """A short tone that starts and stops abruptly."""
    name = ("pure", "buzzing", "organ")[int(voice.part_random.integers(3))]
    sound = steady_tone(steady_phase(event.pitch, voice.times(event.duration)), event.pitch, voice, name)
    return fade(sound, voice.rate, 0.006, 0.012)


def bell(event: Event, voice: Voice) -> np.ndarray:
    """A struck bell, whose lowest mode is the strongest and the longest."""
    ratios, strengths = _BELLS[int(voice.part_random.integers(len(_BELLS)))]
    length = event.duration * voice.part_random.uniform(0.9, 1.3)
    sound = modes(
        voice,
        event.duration,
        [event.pitch * ratio for ratio in ratios],
        [strength * voice.part_random.uniform(0.8, 1.2) for strength in strengths],
        [length / ratio**0.8 for ratio in ratios],
    )
    return fade(sound, voice.rate, 0.002, 0.1)


def sweep(event: Event, voice: Voice) -> np.ndarray:
    """A gliding tone."""
    pitch = glide(event, voice.times(event.duration))
    phase = moving_phase(pitch, voice.rate)
    plain = voice.part_random.random() < 0.6
    sound = sine(phase) if plain else pulses(phase, float(pitch.max()), voice.rate)
    return fade(sound, voice.rate, 0.03, 0.08)


def siren(event: Event, voice: Voice) -> np.ndarray:
    """A tone whose pitch swings up and down.

    Here `event.pitch` is the number of swings per second and `event.end_pitch` the mean pitch in hertz.
    """
    time = voice.times(event.duration)
    swing = np.sin(2 * np.pi * event.pitch * time)
    if event.variant == "two-tone":
        swing = np.tanh(swing * 0.6 / event.pitch / 0.05) * 0.4  # about 50 ms from one pitch to the other
    pitch = event.end_pitch * 2 ** (0.55 * swing)
    phase = moving_phase(pitch, voice.rate)
    sound = sine(phase) + 0.35 * sine(phase, 2) + 0.3 * sine(phase, 3)
    return fade(np.asarray(sound, dtype=np.float32), voice.rate, 0.05, 0.1)


def engine(event: Event, voice: Voice) -> np.ndarray:
    """Irregular explosions at the event's pitch over a hiss that beats with them."""
    time = voice.times(event.duration)
    wobble = 1 + 0.015 * (slow_curve(voice, time.size, every=0.25) - 0.5)
    pitch = glide(event, time) * wobble
    phase = moving_phase(pitch, voice.rate)
    strokes = pulses(phase, float(pitch.max()), voice.rate, sharpness=60.0)
    body = strokes * (0.85 + 0.3 * slow_curve(voice, time.size, every=0.06, smooth=False))
    hiss = shaped_noise(voice, time.size, ((60, -40), (250, 0), (900, -6), (4000, -40)))
    sound = body + 0.12 * hiss * (0.4 + np.maximum(strokes, 0))
    return fade(np.asarray(sound, dtype=np.float32), voice.rate, 0.08, 0.15)
