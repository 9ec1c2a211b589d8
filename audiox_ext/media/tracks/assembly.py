"""Joins decoded audio by its times: what is missing becomes silence, what comes twice is dropped.

C channels, S samples. Times are seconds.
"""

from __future__ import annotations

import numpy as np

from ...errors import MediaError
from ...utf8 import get_logger

log = get_logger(__name__)

# Seconds. Less is not a gap: times in files are rounded, and recorders are late by a few milliseconds.
_TOLERANCE = 0.05
# Seconds. Times that go back further belong to another recording, which follows directly.
_LONGEST_OVERLAP = 1.0
# Seconds of silence in the gaps of one track. More is damage: packets that are hours apart.
_LONGEST_SILENCE = 600.0


class SoundAssembly:
    """The sound of one track, in the order of its packets."""

    def __init__(self, rate: int, channels: int, start: float, most: int) -> None:
        """Begin a track.

        Args:
            rate: Sample rate in hertz.
            channels: Number of channels.
            start: Time of the first sample.
            most: Samples of all channels together that it may have.
        """
        self._most = most
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

        Raises:
            MediaError: The track has more samples than it may, or more silence in gaps than is plausible.
        """
        if time is not None:
            lead = round((time - self._origin) * self.rate) - self._length
            if lead < -_LONGEST_OVERLAP * self.rate:
                log.warning(
                    "The times of the audio go back by %.2f s; it is joined there.", -lead / self.rate
                )
                self._origin += lead / self.rate
            elif lead > _TOLERANCE * self.rate:
                self._check_silence(lead)
                self._append(np.zeros((self.channels, lead), np.float32))
                self._filled += lead
            elif lead < -_TOLERANCE * self.rate:
                samples = samples[:, -lead:]
        self._append(samples)

    @property
    def seconds(self) -> float:
        """Length so far."""
        return self._length / self.rate

    def join(self) -> np.ndarray:
        """Return the sound, (C, S) float32. Nothing can be added afterwards."""
        if self._filled:
            log.info("Gaps of %.2f s in the audio are filled with silence.", self._filled / self.rate)
        sound, end = np.empty((self.channels, self._length), np.float32), self._length
        while self._chunks:  # freed one by one: no second copy of the whole
            chunk = self._chunks.pop()
            end -= chunk.shape[1]
            sound[:, end : end + chunk.shape[1]] = chunk
        return sound

    def _check_silence(self, lead: int) -> None:
        """Raise `MediaError` if `lead` more samples of silence are too many."""
        seconds = (self._filled + lead) / self.rate
        if seconds > _LONGEST_SILENCE:
            raise MediaError(
                f"The times of the audio leave gaps of {seconds:.6g} s in all, and at "
                f"most {_LONGEST_SILENCE:g} s are filled with silence. The file is damaged. Convert it, or "
                "choose another file."
            )

    def _append(self, samples: np.ndarray) -> None:
        if (self._length + samples.shape[1]) * self.channels > self._most:
            raise MediaError(
                f"The audio is longer than {self._most // self.channels / self.rate:.6g} s, the longest that "
                f"is read with {self.channels} channels at {self.rate} Hz. Cut it into parts."
            )
        self._chunks.append(samples)
        self._length += samples.shape[1]
