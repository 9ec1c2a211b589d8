"""Reads how fast a video track runs, and the shape of its pixels."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # PyAV is loaded only when a file is opened
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

# Frames per second. More is a film of a few frames, or a mistake of FFmpeg's.
_FASTEST = 1000
# Width / height of a pixel. A shape further from square is damage; the most extreme in use is 2.
_WIDEST_PIXEL = 100


def seconds_per_tick(stream: VideoStream) -> float:
    """Seconds per unit of the stream's timestamps."""
    assert stream.time_base is not None, "a demuxed stream has a time base"
    return float(stream.time_base)


def frame_rate(stream: VideoStream) -> float:
    """Average frames per second; 0 if unknown."""
    from av.format import Flags

    rates = [stream.average_rate, stream.guessed_rate]
    if Flags.no_timestamps in Flags(stream.container.format.flags):
        rates.reverse()  # a bare stream: the average is FFmpeg's default
    likely = [rate for rate in rates if rate and rate <= _FASTEST]  # raw DV: the average is its tick
    return float(next((rate for rate in [*likely, *rates] if rate), 0))


def frame_seconds(frame: VideoFrame, fps: float) -> float:
    """Seconds that a frame stays on screen: its own duration if it has one, else 1 / fps."""
    ticks = getattr(frame, "duration", 0) or 0  # older PyAV has no such attribute
    base = frame.time_base
    return float(ticks * base) if ticks > 0 and base else 1 / (fps or 25.0)


def find_pixel_aspect(stream: VideoStream) -> Fraction:
    """Width / height of a stored pixel as it is shown; 1 if unknown or impossible."""
    ratio = stream.sample_aspect_ratio or stream.codec_context.sample_aspect_ratio
    if ratio and 1 / _WIDEST_PIXEL <= ratio <= _WIDEST_PIXEL:
        return Fraction(ratio)
    return Fraction(1)
