"""Short sounds: clicks, knocks, drums, steps, birds, a ball, a lamp, a hammer, a wheel, a frog.

A synthesiser takes an event and a voice and returns (S,) float32, not yet scaled. All sounds begin
immediately, so that the onset in the scene is the audible one.
"""

from __future__ import annotations

import numpy as np

from ..world.scenes import Event
from .waves import Voice, decay, fade, modes, moving_phase, pulses, shaped_noise, sine, steady_phase


def click(event: Event, voice: Voice) -> np.ndarray:
    """A snap of a few milliseconds."""
    snap = voice.white(voice.samples(event.duration)) * decay(voice.times(event.duration), 0.02)
    pitch = voice.part_random.uniform(2200, 3400)
    ring = modes(voice, event.duration, [pitch, pitch * 1.6], [1.0, 0.6], [0.05, 0.04])
    return fade(0.5 * snap + ring, voice.rate, 0.001)


def clock(event: Event, voice: Voice) -> np.ndarray:
    """A tick: a small wooden body that is struck."""
    pitch = voice.part_random.uniform(1100, 1700)
    ring = modes(voice, event.duration, [pitch, 2.3 * pitch], [1.0, 0.4], [0.06, 0.03])
    return fade(ring, voice.rate, 0.001)


def knock(event: Event, voice: Voice) -> np.ndarray:
    """Knuckles on a door."""
    pitch = voice.part_random.uniform(180, 320)
    time = voice.times(event.duration)
    ring = modes(voice, event.duration, [pitch, 1.7 * pitch, 2.9 * pitch], [1.0, 0.7, 0.4], [0.12, 0.1, 0.06])
    return fade(ring + 0.25 * voice.white(time.size) * decay(time, 0.02), voice.rate, 0.001)


def drum(event: Event, voice: Voice) -> np.ndarray:
    """A kick, a snare or a hi-hat."""
    time = voice.times(event.duration)
    size = voice.part_random.uniform(0.85, 1.2)
    if event.variant == "kick":
        pitch = size * (50 + 130 * np.exp(-time / 0.025))
        sound = sine(moving_phase(pitch, voice.rate)) * decay(time, 0.3)
    elif event.variant == "snare":
        skin = modes(voice, event.duration, [190 * size, 280 * size], [1.0, 0.5], [0.12, 0.1])
        wires = shaped_noise(voice, time.size, ((300, -20), (1500, 0), (7000, 0)))
        sound = skin + 0.35 * wires * decay(time, 0.18)
    else:
        sound = shaped_noise(voice, time.size, ((3000, -60), (5500, 0), (7500, 0))) * decay(time, 0.06)
    return fade(sound, voice.rate, 0.001)


def footstep(event: Event, voice: Voice) -> np.ndarray:
    """A heel followed by the sole."""
    time = voice.times(event.duration)
    pitch = voice.part_random.uniform(85, 130)
    heel = modes(voice, event.duration, [pitch, 2.2 * pitch], [1.0, 0.6], [0.09, 0.06])
    grain = shaped_noise(voice, time.size, ((300, -20), (900, 0), (2500, -6), (6000, -24)))
    after = voice.samples(0.05)
    sole = np.zeros_like(heel)
    sole[after:] = (grain * decay(time, 0.09))[: time.size - after]
    return fade(heel + 0.3 * grain * decay(time, 0.03) + 0.18 * sole, voice.rate, 0.001, 0.02)


def bird(event: Event, voice: Voice) -> np.ndarray:
    """A chirp: a whistle that sweeps, in some voices with a trill."""
    time = voice.times(event.duration)
    middle, width = voice.part_random.uniform(2600, 3800), voice.part_random.uniform(0.25, 0.5)
    direction = 1 if voice.event_random.random() < 0.6 else -1
    trill = voice.part_random.uniform(0.0, 0.06) * np.sin(
        2 * np.pi * voice.part_random.uniform(25, 40) * time
    )
    fraction = time / max(event.duration, 1e-6)
    pitch = middle * 2 ** (direction * width * (2 * fraction - 1) + trill)
    swell = (1 - 0.7 * np.clip(fraction, 0, 1)).astype(np.float32)
    return fade(sine(moving_phase(pitch, voice.rate)) * swell, voice.rate, 0.006, 0.03)


def ball(event: Event, voice: Voice) -> np.ndarray:
    """A rubber ball that hits the floor."""
    time = voice.times(event.duration)
    body = voice.part_random.uniform(110, 190)
    pitch = body * (1 + 0.8 * np.exp(-time / 0.02))
    slap = shaped_noise(voice, time.size, ((200, -10), (900, 0), (3000, -12)))
    sound = sine(moving_phase(pitch, voice.rate)) * decay(time, 0.16) + 0.3 * slap * decay(time, 0.03)
    return fade(sound, voice.rate, 0.001)


def lamp(event: Event, voice: Voice) -> np.ndarray:
    """A switch, and an electric hum while the lamp is lit."""
    time = voice.times(event.duration)
    mains = 2 * (50.0, 60.0)[int(voice.part_random.integers(2))]
    hum = pulses(steady_phase(mains, time), mains, voice.rate, sharpness=60.0)
    zing = sine(steady_phase(16 * mains, time)) * (0.5 + 0.5 * sine(steady_phase(mains, time)))
    switch = modes(voice, event.duration, [2900.0, 4300.0], [1.0, 0.6], [0.02, 0.02])
    lit = fade(hum + 0.3 * zing, voice.rate, 0.003, 0.03)
    return fade(lit + 0.9 * switch, voice.rate, 0.001)


def hammer(event: Event, voice: Voice) -> np.ndarray:
    """Steel on an anvil."""
    pitch = voice.part_random.uniform(800, 1200)
    ratios = [1.0, 1.52, 2.13, 2.9, 3.7, 4.6]
    strengths = [voice.part_random.uniform(0.5, 1.0) for _ in ratios]
    lengths = [0.45 / ratio**0.4 for ratio in ratios]
    ring = modes(voice, event.duration, [pitch * ratio for ratio in ratios], strengths, lengths)
    time = voice.times(event.duration)
    return fade(ring + 0.8 * voice.white(time.size) * decay(time, 0.015), voice.rate, 0.001, 0.03)


def wheel(event: Event, voice: Voice) -> np.ndarray:
    """The rumble of a rolling wheel, or the thump of its iron once per turn."""
    count = voice.samples(event.duration)
    if event.variant == "rumble":
        rough = shaped_noise(voice, count, ((30, -20), (90, 0), (220, -3), (600, -30), (2000, -60)))
        return fade(rough, voice.rate, 0.1, 0.15)
    time = voice.times(event.duration)
    pitch = voice.part_random.uniform(240, 340)
    ring = modes(
        voice, event.duration, [pitch, 2.4 * pitch, 4.1 * pitch], [1.0, 0.8, 0.5], [0.14, 0.12, 0.08]
    )
    return fade(ring + 0.2 * voice.white(count) * decay(time, 0.015), voice.rate, 0.001)


def frog(event: Event, voice: Voice) -> np.ndarray:
    """A croak: a throaty tone in about ten beats."""
    time = voice.times(event.duration)
    pitch = voice.part_random.uniform(420, 620)
    beat = voice.part_random.uniform(32, 45)
    gate = pulses(steady_phase(beat, time), beat, voice.rate, sharpness=6.0)
    gate = gate - gate.min()
    body = pulses(steady_phase(pitch, time), pitch, voice.rate, sharpness=12.0)
    swell = np.sin(np.pi * np.clip(time / max(event.duration, 1e-6), 0, 1)) ** 0.4
    return fade(np.asarray(body * gate * swell, dtype=np.float32), voice.rate, 0.004, 0.02)
