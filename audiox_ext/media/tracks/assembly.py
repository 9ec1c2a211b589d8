"""Joins decoded audio by its times: what is missing becomes silence, what comes twice is dropped.

C channels, S samples. Times are seconds.
"""

from __future__ import annotations

import numpy as np

from ...utf8 import get_logger

log = get_logger(__name__)

# Seconds. Less is not a gap: times in files are rounded, and recorders are late by a few milliseconds.
_TOLERANCE = 0.05
# Seconds. Times that go back further belong to another recording, which follows directly.
_LONGEST_OVERLAP = 1.0


class SoundAssembly:
    """The sound of one track, in the order of its packets."""

    def __init__(self, rate: int, channels: int, start: float) -> None:
        """Begin a track.

        Args:
            rate: Sample rate in hertz.
            channels: Number of channels.
            start: Time of the first sample.
        """
        self.rate, self.channels, self.start = rate, channels, start
        self._origin = start  # the time of the first sample by the clock of the latest packets
        self._chunks: list[np.ndarray] = []
        self._length = 0  # samples
        self._filled = 0  # samples of silence

    def add(self, samples: np.ndarray, time: float | None) -> None:
        """Add the next samples.

        Args:
            samples: (C, S) float32.
            time: When they begin; None: directly after those before.
        """
        if time is not None:
            lead = round((time - self._origin) * self.rate) - self._length
            if lead < -_LONGEST_OVERLAP * self.rate:
                log.warning(
                    "The times of the audio go back by %.2f s; it is joined there.", -lead / self.rate
                )
                self._origin += lead / self.rate
            elif lead > _TOLERANCE * self.rate:
                self._append(np.zeros((self.channels, lead), np.float32))
                self._filled += lead
            elif lead < -_TOLERANCE * self.rate:
                samples = samples[:, -lead:]
        self._append(samples)

    def join(self) -> np.ndarray:
        """Return the sound so far, (C, S) float32."""
        if self._filled:
            log.info("Gaps of %.2f s in the audio are filled with silence.", self._filled / self.rate)
        return (
            np.concatenate(self._chunks, axis=1) if self._chunks else np.zeros((self.channels, 0), np.float32)
        )

    def _append(self, samples: np.ndarray) -> None:
        self._chunks.append(samples)
        self._length += samples.shape[1]
