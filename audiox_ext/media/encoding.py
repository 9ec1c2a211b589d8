"""Encodes audio and video into a container, and writes files that appear only once they are complete.

C channels, S samples.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from ..errors import MediaError
from ..files import write_atomically
from .containers import frame_rate, quarter_turns
from .waveforms import conform_audio

if TYPE_CHECKING:  # PyAV is loaded only when a file is opened
    from av.container import OutputContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

log = logging.getLogger(__name__)

_ENCODER_OPTIONS = {
    "libx264": {"crf": "18", "preset": "fast"},
    "libvpx-vp9": {"crf": "24", "b": "0", "deadline": "good", "cpu-used": "5", "row-mt": "1"},
}
_CLOCK = Fraction(1, 90000)  # seconds per tick of encoded video
_CHUNK = 1 << 16  # samples passed to the encoder at once
LAYOUTS = {1: "mono", 2: "stereo", 6: "5.1", 8: "7.1"}


@dataclass(frozen=True, kw_only=True)
class AudioCodec:
    """An encoder and its limits.

    Attributes:
        name: FFmpeg's name.
        sample_format: FFmpeg's name; s32 stands for 24 bits in the upper bits.
        channels: Supported numbers of channels.
        rates: Supported sample rates in hertz; empty: any.
        bit_rate: Bits per second; 0: lossless.
    """

    name: str
    sample_format: str
    channels: tuple[int, ...] = (1, 2)
    rates: tuple[int, ...] = ()
    bit_rate: int = 0

    def rate_for(self, rate: int) -> int:
        """Choose the rate itself if it is supported, else the next higher rate, else the highest."""
        if not self.rates or rate in self.rates:
            return rate
        return min((r for r in self.rates if r > rate), default=max(self.rates))


_COMMON_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)
# 24 bits lose nothing audible, and unlike floating point they open in every player and editor.
PCM = AudioCodec(name="pcm_s24le", sample_format="s32", channels=tuple(LAYOUTS))
FLAC = AudioCodec(name="flac", sample_format="s32", channels=tuple(LAYOUTS))
MP3 = AudioCodec(name="libmp3lame", sample_format="fltp", rates=_COMMON_RATES, bit_rate=320_000)
OPUS = AudioCodec(name="libopus", sample_format="flt", rates=(48000,), bit_rate=192_000)
AAC = AudioCodec(
    name="aac", sample_format="fltp", rates=(*_COMMON_RATES, 64000, 88200, 96000), bit_rate=256_000
)


@contextmanager
def open_output(
    path: Path, container: str, options: dict[str, str] | None = None
) -> Iterator[OutputContainer]:
    """Open a container for writing. The file appears at `path` when the block ends without an error.

    Args:
        path: The file.
        container: FFmpeg's name of the format.
        options: Options of the muxer.

    Yields:
        The container.

    Raises:
        MediaError: The file cannot be written.
    """
    import av

    if not path.parent.is_dir():
        raise MediaError(f"There is no folder {path.parent} to write {path.name} to. Create it first.")
    try:
        with (
            write_atomically(path, error=MediaError) as temporary,
            av.open(
                str(temporary.absolute()), "w", format=container, container_options=options or {}
            ) as output,
        ):
            yield output
    except av.error.FFmpegError as error:
        raise MediaError(
            f"{path} cannot be written ({error}). Check the free space and the permissions of its folder."
        ) from error


class AudioEncoder:
    """One audio track of a container, written in steps so that it can be interleaved with video."""

    def __init__(self, output: OutputContainer, codec: AudioCodec, waveform: Tensor, rate: int) -> None:
        """Add the track to a container.

        Args:
            output: The container.
            codec: The encoder.
            waveform: (C, S) float32, C one of codec.channels; resampled if the encoder does not support
                `rate`, and clipped to -1..1 with a warning.
            rate: Sample rate in hertz.
        """
        self._output, self._codec = output, codec
        self._rate = codec.rate_for(rate)
        if self._rate != rate:
            waveform = conform_audio(waveform, rate, target_rate=self._rate, channels=len(waveform))
        peak = float(waveform.abs().max())
        if peak > 1:
            log.warning("The waveform peaks at %.3f and is clipped to 1. Lower its gain to avoid this.", peak)
        self._samples = waveform.clamp(-1, 1).numpy()
        self._layout = LAYOUTS[len(waveform)]
        self._position = 0
        self._stream: Any = output.add_stream(codec.name, rate=self._rate, layout=self._layout)
        context: Any = self._stream.codec_context
        context.format = codec.sample_format
        if codec.bit_rate:
            context.bit_rate = codec.bit_rate

    def write(self, until: float = math.inf) -> None:
        """Encode up to `until` seconds, with silence past the end of the waveform; by default the whole."""
        import av

        end = self._samples.shape[1] if math.isinf(until) else round(until * self._rate)
        while self._position < end:
            count = min(_CHUNK, end - self._position)
            chunk = self._samples[:, self._position : self._position + count]
            chunk = np.pad(chunk, ((0, 0), (0, count - chunk.shape[1])))
            frame = av.AudioFrame.from_ndarray(*self._pack(chunk), layout=self._layout)
            frame.sample_rate, frame.time_base = self._rate, Fraction(1, self._rate)
            frame.pts = self._position
            self._output.mux(self._stream.encode(frame))
            self._position += count

    def close(self) -> None:
        """Flush the encoder."""
        self._output.mux(self._stream.encode(None))

    def _pack(self, chunk: np.ndarray) -> tuple[np.ndarray, str]:
        """(C, S) float32 -> an array for PyAV and its format. Integers are rounded here, not by FFmpeg."""
        if self._codec.sample_format != "s32":
            return np.ascontiguousarray(chunk), "fltp"
        values = np.clip(np.rint(chunk.astype(np.float64) * 2**23), -(2**23), 2**23 - 1).astype(np.int32)
        return np.ascontiguousarray((values << 8).T).reshape(1, -1), "s32"


class VideoEncoder:
    """The video track of a container: upright, with the colours of the source."""

    def __init__(
        self, output: OutputContainer, encoders: tuple[str, ...], source: VideoStream, first: VideoFrame
    ) -> None:
        """Add the track to a container.

        Args:
            output: The container.
            encoders: FFmpeg's names; the first that this build of FFmpeg has is used.
            source: The stream that the frames come from.
            first: Any frame of it, for the size and rotation.
        """
        self._output = output
        turns = quarter_turns(first)
        self._rotation = _rotation_graph(source, turns) if turns else None
        name = next(name for name in encoders if _can_encode(name))
        rate = Fraction(frame_rate(source) or 25.0).limit_denominator(60000)
        stream: Any = output.add_stream(name, rate=rate, options=dict(_ENCODER_OPTIONS.get(name, {})))
        width, height = (first.height, first.width) if turns % 2 else (first.width, first.height)
        stream.width, stream.height = (
            max(2, width // 2 * 2),
            max(2, height // 2 * 2),
        )  # yuv420p needs even sides
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = _CLOCK
        for tag in ("colorspace", "color_range", "color_primaries", "color_trc"):
            setattr(stream.codec_context, tag, getattr(source.codec_context, tag))
        self._stream = stream

    def write(self, frame: VideoFrame, time: float) -> None:
        """Encode one frame that appears at `time` (seconds)."""
        if self._rotation is not None:  # phone clips are rotated by metadata alone
            self._rotation.push(frame)
            frame = self._rotation.pull()
        stream = self._stream
        frame = frame.reformat(width=stream.width, height=stream.height, format="yuv420p")
        frame.pts, frame.time_base, frame.pict_type = round(time / _CLOCK), _CLOCK, 0
        self._output.mux(stream.encode(frame))

    def close(self) -> None:
        """Flush the encoder."""
        self._output.mux(self._stream.encode(None))


def _rotation_graph(source: VideoStream, turns: int) -> Any:
    """A filter graph that turns frames counter-clockwise by quarter turns (1..3)."""
    import av

    graph = av.filter.Graph()
    filters: dict[int, list[tuple[str, str | None]]] = {
        1: [("transpose", "cclock")],
        2: [("hflip", None), ("vflip", None)],
        3: [("transpose", "clock")],
    }
    nodes = [graph.add_buffer(template=source)]
    nodes += [graph.add(name, argument) for name, argument in filters[turns]]
    graph.link_nodes(*nodes, graph.add("buffersink")).configure()
    return graph


def _can_encode(name: str) -> bool:
    """Whether this build of FFmpeg has an encoder."""
    import av

    try:
        av.Codec(name, "w")
    except ValueError:  # UnknownCodecError
        return False
    return True
