"""Encodes audio and video into a container, and writes files that appear only once they are complete.

C channels, S samples.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from ..errors import MediaError
from ..files import write_atomically
from ..utf8 import get_logger
from .containers import Film
from .tracks.colours import choose_yuv, to_yuv420
from .waveforms import conform_audio

if TYPE_CHECKING:  # PyAV is loaded only when a file is opened
    from av.container import OutputContainer
    from av.video.frame import VideoFrame

log = get_logger(__name__)

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
PCM_FLOAT = AudioCodec(name="pcm_f32le", sample_format="flt", channels=tuple(LAYOUTS))
FLAC = AudioCodec(name="flac", sample_format="s32", channels=tuple(LAYOUTS))
MP3 = AudioCodec(name="libmp3lame", sample_format="fltp", rates=_COMMON_RATES, bit_rate=320_000)
OPUS = AudioCodec(name="libopus", sample_format="flt", rates=(48000,), bit_rate=192_000)
AAC = AudioCodec(
    name="aac", sample_format="fltp", rates=(*_COMMON_RATES, 64000, 88200, 96000), bit_rate=256_000
)


@contextmanager
def open_output(
    path: Path,
    container: str,
    options: dict[str, str] | None = None,
    finish: Callable[[Path], None] | None = None,
) -> Iterator[OutputContainer]:
    """Open a container for writing. The file appears at `path` when the block ends without an error.

    Args:
        path: The file.
        container: FFmpeg's name of the format.
        options: Options of the muxer.
        finish: Called with the complete file before it appears.

    Yields:
        The container.

    Raises:
        MediaError: The file cannot be written.
    """
    import av

    if not path.parent.is_dir():
        raise MediaError(f"There is no folder {path.parent} to write {path.name} to. Create it first.")
    try:
        with write_atomically(path, error=MediaError) as temporary:
            with av.open(
                str(temporary.absolute()), "w", format=container, container_options=options or {}
            ) as output:
                yield output
            if finish is not None:
                finish(temporary)
    except av.error.FFmpegError as error:  # one of the system has been explained by write_atomically
        raise MediaError(
            f"{path} cannot be encoded as {container} ({error}). Choose another format, such as .wav or .mkv."
        ) from error


class AudioEncoder:
    """One audio track of a container, written in steps so that it can be interleaved with video."""

    def __init__(
        self,
        output: OutputContainer,
        codec: AudioCodec,
        waveform: Tensor,
        rate: int,
        check_cancelled: Callable[[], None] | None = None,
    ) -> None:
        """Add the track to a container.

        Args:
            output: The container.
            codec: The encoder.
            waveform: (C, S) float32, C one of codec.channels; resampled if the encoder does not support
                `rate`, and clipped to -1..1 with a warning unless the codec holds floating point.
            rate: Sample rate in hertz.
            check_cancelled: Called a few times a second of work; may raise.
        """
        self._output, self._codec, self._check_cancelled = output, codec, check_cancelled
        self._rate = codec.rate_for(rate)
        if self._rate != rate:
            waveform = conform_audio(waveform, rate, target_rate=self._rate, channels=len(waveform))
        peak = float(waveform.abs().max())
        if peak > 1 and codec is not PCM_FLOAT:
            log.warning("The waveform peaks at %.3f and is clipped to 1. Lower its gain to avoid this.", peak)
            waveform = waveform.clamp(-1, 1)
        self._samples = waveform.numpy()
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
            if self._check_cancelled is not None:  # the silence of a still picture may last for hours
                self._check_cancelled()
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
            return np.ascontiguousarray(chunk.T).reshape(1, -1), "flt"
        values = np.clip(np.rint(chunk.astype(np.float64) * 2**23), -(2**23), 2**23 - 1).astype(np.int32)
        return np.ascontiguousarray((values << 8).T).reshape(1, -1), "s32"


class VideoEncoder:
    """The video track of a container: upright, with the colours and the shape of the source's pixels.

    Attributes:
        stream: The track.
    """

    def __init__(
        self, output: OutputContainer, encoders: tuple[str, ...], source: Film, first: VideoFrame
    ) -> None:
        """Add the track to a container.

        Args:
            output: The container.
            encoders: FFmpeg's names; the first that this build of FFmpeg has is used.
            source: The video that the frames come from.
            first: Any frame of it, for the size and the colours.
        """
        self._output = output
        self._orientation = source.orientation
        self._turning: tuple[Any, Any] = (None, None)
        name = next(name for name in encoders if _can_encode(name))
        # Only a hint, which encoders refuse outside of this; every frame has its own time.
        rate = Fraction(min(max(source.fps or 25.0, 0.001), 1000.0)).limit_denominator(60000)
        stream: Any = output.add_stream(name, rate=rate, options=dict(_ENCODER_OPTIONS.get(name, {})))
        width, height, aspect = first.width, first.height, source.pixel_aspect
        if self._orientation.transposed:
            width, height, aspect = height, width, 1 / aspect
        # yuv420p needs even sides.
        stream.width, stream.height = max(2, width // 2 * 2), max(2, height // 2 * 2)
        stream.pix_fmt = "yuv420p"
        context = stream.codec_context
        context.time_base = _CLOCK
        context.sample_aspect_ratio = aspect
        context.colorspace, context.color_range = choose_yuv(first)
        for tag in ("color_primaries", "color_trc"):
            setattr(context, tag, getattr(source.stream.codec_context, tag))
        self.stream = stream
        self._latest = -1  # ticks
        self._durations: dict[int, int] = {}  # in ticks, by the time of the frame

    def write(self, frame: VideoFrame, time: float, duration: float) -> None:
        """Encode one frame.

        Args:
            frame: A decoded frame, as it is stored in the source.
            time: Seconds at which it appears.
            duration: Seconds for which it is shown.
        """
        stream, ticks = self.stream, round(time / _CLOCK)
        if ticks <= self._latest:  # two pictures of a damaged file share a time: the first is shown
            return
        self._latest = ticks
        frame = to_yuv420(self._turn(frame), stream.width, stream.height)
        frame.pts, frame.time_base, frame.pict_type = ticks, _CLOCK, 0
        self._durations[ticks] = max(1, round((time + duration) / _CLOCK) - ticks)
        self._mux(stream.encode(frame))

    def close(self) -> None:
        """Flush the encoder."""
        self._mux(self.stream.encode(None))

    def _mux(self, packets: list[Any]) -> None:
        """Pass packets on; encoders drop the durations of frames, and the last one cannot be guessed."""
        for packet in packets:
            packet.duration = self._durations.pop(packet.pts, packet.duration)
            self._output.mux(packet)

    def _turn(self, frame: VideoFrame) -> VideoFrame:
        """Bring a frame upright: phone clips are turned by metadata alone."""
        if self._orientation.is_upright:
            return frame
        kind = (frame.width, frame.height, frame.format.name)
        if self._turning[0] != kind:
            self._turning = kind, _filter_graph(frame, self._orientation.filters())
        graph = self._turning[1]
        colours = frame.colorspace, frame.color_range
        graph.push(frame)
        frame = graph.pull()
        frame.colorspace, frame.color_range = colours
        return frame


def _filter_graph(frame: VideoFrame, filters: list[tuple[str, str | None]]) -> Any:
    """A chain of FFmpeg's filters for frames like this one."""
    import av

    graph = av.filter.Graph()
    nodes = [graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=_CLOCK)]
    nodes += [graph.add(name, argument) for name, argument in filters]
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
