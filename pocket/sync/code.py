"""Targets of the sync encoder: a code of the events and the film at each time step.

Its features repeat a code of 16 numbers eight times in a width of 128. The video conditioner reads them in
rows that start at any multiple of 16 (spec, "Conditioners": the buffer is reinterpreted, not transposed). So
the same position has the same meaning in every row.

G time steps of a segment, E events.
"""

from __future__ import annotations

import math

import numpy as np

from ..world.animations import FILM_KINDS
from ..world.scenes import Scene

CODE = 16
ONSETS = 4  # the first numbers of the code, which encode onsets
_CENTRES = (-0.02, 0.02, 0.06, 0.10)  # centres of the onset detectors, seconds after the start of a step
_WIDTH = 0.03  # standard deviation of the detectors, seconds
_MEMORY = 0.15  # decay of the last and the next onset, seconds


def sync_code(scene: Scene, start: float, steps: int, step: float) -> np.ndarray:
    """Compute the code of a segment of a film.

    It has four numbers for onsets around the step, four for the kind of film, loudness and direction of the
    onset, decaying traces of the last and the next onset in the segment, and four for the position in the
    segment.

    Args:
        scene: Scene with one sound and a film.
        start: Start of the segment, seconds.
        steps: Number of time steps.
        step: Duration of a time step, seconds.

    Returns:
        The code (G, 16), float32.
    """
    [part] = scene.parts
    begins = start + step * np.arange(steps)
    onsets = np.array([event.onset for event in part.events])
    gains = np.array([10 ** (event.gain / 20) for event in part.events])
    pans = np.array([event.pan for event in part.events])
    code = np.zeros((steps, CODE), dtype=np.float32)
    if len(onsets):
        distance = onsets - begins[:, None]  # (G, E)
        near = np.exp(-0.5 * ((distance[..., None] - np.array(_CENTRES)) / _WIDTH) ** 2)
        code[:, :ONSETS] = near.max(axis=1)
        here = np.exp(-0.5 * ((distance - step / 2) / step) ** 2)
        code[:, 8] = (here * gains).max(axis=1)
        code[:, 9] = (here * pans).sum(axis=1) / np.maximum(here.sum(axis=1), 1)
        inside = (onsets >= start) & (onsets < start + steps * step)
        before = np.where(inside & (distance <= step / 2), np.exp((distance - step / 2) / _MEMORY), 0)
        after = np.where(inside & (distance > step / 2), np.exp((step / 2 - distance) / _MEMORY), 0)
        code[:, 10], code[:, 11] = before.max(axis=1), after.max(axis=1)
    code[:, 4 + FILM_KINDS.index(scene.film or "")] = 1
    angle = math.pi * (np.arange(steps) + 0.5) / steps
    code[:, 12:] = np.stack([np.cos(angle), np.sin(angle), np.cos(2 * angle), np.sin(2 * angle)], axis=1)
    return code
