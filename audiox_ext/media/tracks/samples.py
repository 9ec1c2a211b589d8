"""Converts decoded audio to float32, for every sample format and number of channels.

C channels, S samples.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:  # PyAV is loaded only when a file is opened
    from av.audio.frame import AudioFrame

_FULL_SCALE = {"u8": 2**7, "s16": 2**15, "s32": 2**31}
# Channels from which on PyAV reads past the planes of a frame.
_MANY = 8


class SampleReader:
    """Reads the samples of one track's frames."""

    def __init__(self) -> None:
        """Begin without a format; each frame brings its own."""
        self._resampler: Any = None
        self._format = ("", "", 0)

    def read(self, frame: AudioFrame) -> np.ndarray:
        """Convert one decoded frame.

        Returns:
            (C, S) float32. Integers are divided by full scale; floating point stays as it is.
        """
        channels = frame.layout.nb_channels
        if frame.format.name == "fltp" and channels < _MANY:
            return np.asarray(frame.to_ndarray(), np.float32)
        packed = [part.to_ndarray().reshape(-1, channels).T for part in self._pack(frame)]
        if not packed:
            return np.zeros((channels, 0), np.float32)
        samples = np.concatenate(packed, axis=1)
        scale = _FULL_SCALE.get(_packed_format(frame))
        if scale is None:
            return np.ascontiguousarray(samples, np.float32)
        offset = scale if samples.dtype == np.uint8 else 0
        return ((samples.astype(np.float64) - offset) / scale).astype(np.float32)

    def _pack(self, frame: AudioFrame) -> list[AudioFrame]:
        """Interleave the channels: PyAV reads past the planes of a frame with many of them."""
        import av

        target = _packed_format(frame)
        if frame.format.name == target:
            return [frame]
        if self._format != (frame.format.name, frame.layout.name, frame.sample_rate):
            self._format = (frame.format.name, frame.layout.name, frame.sample_rate)
            self._resampler = av.AudioResampler(format=target)
        frame.pts = None  # the resampler keeps all samples, whatever their times
        return list(self._resampler.resample(frame))


def _packed_format(frame: AudioFrame) -> str:
    """The interleaved format to read a frame in; numpy has none for FFmpeg's 64-bit integers."""
    name = frame.format.packed.name
    return "dbl" if name == "s64" else name
