"""Video frames at exact times, from one decode pass.

The frame at time t is the one on the screen at t: the last whose own timestamp is <= t. Before the first
frame it is the first, past the end it is the last. Times are seconds from the start of the video stream
(its start_time is 0 here), so variable frame rates need no special case. Each picked frame is shrunk at once
and the big one forgotten: memory does not grow with the length or the size of the video.

N pictures, T frames, H height, W width.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import InputError
from .containers import (
    TOLERANCE,
    MediaSource,
    frame_rate,
    frame_seconds,
    frames_shown,
    open_media,
    quarter_turns,
    tick,
    video_stream,
)

if TYPE_CHECKING:  # PyAV is loaded only when a file is opened
    from av.container import InputContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

log = logging.getLogger(__name__)

VideoSource = MediaSource
Resize = Literal["squash", "crop"]
Trim = tuple[float, float]
Change = Callable[[float, Tensor], Tensor]
"""(time of a source frame in seconds, its shrunk picture (3, size, size) uint8) -> another such picture."""


@dataclass(frozen=True, kw_only=True)
class VideoInfo:
    """What a video says of itself. Seconds, frames per second (average; 0 = unknown), pixels as displayed."""

    duration: float
    fps: float
    width: int
    height: int
    has_audio: bool


@dataclass(frozen=True, kw_only=True)
class Window:
    """The part to look at, in seconds of the (trimmed) source. `duration` None: to the end.

    Raises InputError unless start >= 0 and duration > 0.
    """

    start: float = 0.0
    duration: float | None = None

    def __post_init__(self) -> None:
        if not (math.isfinite(self.start) and self.start >= 0):
            raise InputError(f"The start is {self.start} s: give a time of 0 s or later.")
        if self.duration is not None and not (math.isfinite(self.duration) and self.duration > 0):
            raise InputError(
                f"The duration is {self.duration} s: give one above 0 s, or leave it out to go to the end."
            )


@dataclass(frozen=True)
class SampledFrames:
    """Frames at one or more rates.

    frames: one (T, 3, size, size) uint8 tensor a rate, T = round(seconds * rate).
    duration: seconds of real material inside the window; it may exceed the seconds that were sampled.
    fps: average frame rate of the source.
    """

    frames: tuple[Tensor, ...]
    duration: float
    fps: float


def probe_video(source: VideoSource) -> VideoInfo:
    """Length, rate and displayed size, from the header and the first frame. Raises MediaError."""
    with frames_shown(source) as (container, stream, shown):
        time, frame = next(shown)
        width, height = frame.width, frame.height
        if quarter_turns(frame) % 2:
            width, height = height, width
        return VideoInfo(
            duration=_end(container, stream, at_least=time + frame_seconds(frame, frame_rate(stream))),
            fps=frame_rate(stream),
            width=width,
            height=height,
            has_audio=bool(container.streams.audio),
        )


def packet_times(source: VideoSource) -> list[float]:
    """When each frame comes up, in seconds, ascending; from the packets alone, which takes a moment.

    Some formats have packets that show nothing (VP8), or two for a frame: `decoded_times` is sure. Raises
    MediaError.
    """
    import av

    stamps: list[int | None] = []
    with open_media(source) as container:
        stream = video_stream(container, source)
        unstamped = "avi" in container.format.name.split(",")  # its display times are guesses
        try:
            for packet in container.demux(stream):
                if packet.size and not packet.is_discard:
                    stamps.append(packet.dts if unstamped or packet.pts is None else packet.pts)
        except av.error.FFmpegError as error:  # it breaks off here, as it will for the decoder
            log.debug("%s", error)
        known = sorted(stamp for stamp in stamps if stamp is not None)
        if len(known) < len(stamps) or not known:  # a bare stream, whose times are counted
            return [index / (frame_rate(stream) or 25.0) for index in range(len(stamps))]
        origin = known[0] if stream.start_time is None else stream.start_time
        return [(stamp - origin) * tick(stream) for stamp in known]


def decoded_times(source: VideoSource, check_cancelled: Callable[[], None] | None = None) -> list[float]:
    """Like `packet_times`, by decoding every frame. check_cancelled is called for each."""
    with frames_shown(source, check_cancelled=check_cancelled) as (_, _, shown):
        return sorted(time for time, _ in shown)


def frames_from_video(
    source: VideoSource,
    *,
    rates: Sequence[float],
    seconds: float,
    window: Window,
    trim: Trim | None = None,
    size: int = 224,
    resize: Resize = "squash",
    changes: Sequence[Change | None] = (),
    check_cancelled: Callable[[], None] | None = None,
) -> SampledFrames:
    """Frames on screen at window.start + i / rate, for each rate, from one decode pass.

    source: a path, or a seekable binary file (read from its beginning, whatever its position).
    rates: frames per second. seconds: how much to sample; what lies past the end of the window, of the trim
    or of the video repeats the last frame. trim: (start, duration), the part of the file that `window` counts
    in; duration 0 = to the end. resize: "squash" to size x size, or "crop" to the centre square first;
    bilinear with antialiasing. Rotation metadata is applied. changes: for each rate, what its pictures go
    through in the end; none if empty. check_cancelled is called for every decoded frame and may raise.

    Raises InputError for impossible times and rates, MediaError for what cannot be read. A video that breaks
    off is used as far as it goes, with a warning in the log.
    """
    _check_request(rates, seconds, size, resize)
    start, limit = span_of(window, trim)
    picks = _Picks(rates, seconds, start, size, changes)
    with frames_shown(source, start, check_cancelled) as (container, stream, shown):
        picks.take(shown, limit, lambda frame: _shrink_frame(frame, size, resize))
        fps = frame_rate(stream)
        if picks.exhausted:
            end = picks.seen + frame_seconds(picks.last, fps)
        else:
            end = _end(container, stream, at_least=picks.seen, stop=limit)
    if start >= end - TOLERANCE:
        raise InputError(_past_the_end(start, end))
    return SampledFrames(picks.frames, min(limit, end) - start, fps)


def frames_from_images(
    images: Tensor,
    *,
    fps: float,
    rates: Sequence[float],
    seconds: float,
    window: Window,
    trim: Trim | None = None,
    size: int = 224,
    resize: Resize = "squash",
    changes: Sequence[Change | None] = (),
    check_cancelled: Callable[[], None] | None = None,
) -> SampledFrames:
    """Like `frames_from_video`, from a batch of pictures, number i on screen from i / fps to (i + 1) / fps.

    images: (N, H, W, C), floating point, 0..1 (clamped), C = 1 grey, 3 RGB or 4 RGBA (laid over black).
    Raises InputError, also for NaN in a picture that is used.
    """
    _check_request(rates, seconds, size, resize)
    check_images(images, fps)
    start, limit = span_of(window, trim)
    end = len(images) / fps
    if start >= end - TOLERANCE:
        raise InputError(_past_the_end(start, end))

    def shown() -> Iterator[tuple[float, Tensor]]:
        for index in range(math.floor((start + TOLERANCE) * fps), len(images)):
            if check_cancelled is not None:
                check_cancelled()
            yield index / fps, images[index]

    picks = _Picks(rates, seconds, start, size, changes)
    picks.take(shown(), limit, lambda image: _shrink(_to_uint8(image), size, resize))
    return SampledFrames(picks.frames, min(limit, end) - start, float(fps))


class _Picks:
    """The frames wanted, filled in while pictures pass by in the order of their times."""

    def __init__(
        self,
        rates: Sequence[float],
        seconds: float,
        start: float,
        size: int,
        changes: Sequence[Change | None] = (),
    ) -> None:
        self.frames = tuple(
            torch.empty(round(seconds * rate), 3, size, size, dtype=torch.uint8) for rate in rates
        )
        self._rates, self._start = tuple(rates), start
        self._changes = tuple(changes) or (None,) * len(self._rates)
        self._filled = [0] * len(self.frames)
        self.last: Any = None  # the picture held at the end
        self._time = 0.0  # its time
        self.seen = 0.0  # time of the latest picture that passed by
        self.exhausted = False  # whether the source ran out, rather than enough being found

    def take(self, shown: Iterable[tuple[float, Any]], limit: float, shrink: Callable[[Any], Tensor]) -> None:
        """Pick from (time, picture) pairs. Pictures that come up at `limit` or later are not seen."""
        for time, picture in shown:
            if self.last is not None:
                self.seen = max(self.seen, time)
                if time >= limit - TOLERANCE:
                    break
                if self._fill(self.last, time, shrink):
                    return
            self.last, self._time, self.seen = picture, time, max(self.seen, time)
        else:
            self.exhausted = True
        self._fill(self.last, math.inf, shrink)

    def _fill(self, picture: Any, until: float, shrink: Callable[[Any], Tensor]) -> bool:
        """Take `picture` for the wanted times before `until`. Returns whether all are found."""
        # shrunk and changed once, whatever number of rates and times want it
        small: Tensor | None = None
        changed: dict[Change | None, Tensor] = {}
        for index, (rate, out) in enumerate(zip(self._rates, self.frames, strict=True)):
            first = stop = self._filled[index]
            while stop < len(out) and self._start + stop / rate + TOLERANCE < until:
                stop += 1
            if stop > first:
                small = shrink(picture) if small is None else small
                change = self._changes[index]
                if change not in changed:
                    changed[change] = small if change is None else change(self._time, small)
                # numpy copies in this thread; torch would wake its pool for each of these small copies
                out.numpy()[first:stop] = changed[change].numpy()
                self._filled[index] = stop
        return all(done == len(out) for done, out in zip(self._filled, self.frames, strict=True))


def _end(container: InputContainer, stream: VideoStream, *, at_least: float, stop: float = math.inf) -> float:
    """Where the video ends, in seconds: what the header says, else the packets from here on up to `stop`."""
    origin = (stream.start_time or 0) * tick(stream)
    if stream.duration:
        return max(at_least, stream.duration * tick(stream))
    tagged = _clock(stream.metadata.get("DURATION", ""))  # Matroska has no field for one track's length
    if tagged is not None:
        return max(at_least, tagged - origin)
    if container.duration:
        return max(at_least, ((container.start_time or 0) + container.duration) / 1e6 - origin)
    end = at_least
    for packet in container.demux(stream):
        if packet.pts is not None:
            end = max(end, (packet.pts + (packet.duration or 0)) * tick(stream) - origin)
        elif packet.size:  # a bare stream, whose times are counted
            end += 1 / (frame_rate(stream) or 25.0)
        if end > stop:
            break
    return end


def _clock(text: str) -> float | None:
    """'00:01:02.500' -> 62.5; None if it is no time."""
    try:
        hours, minutes, seconds = text.split(":")
        return 3600 * int(hours) + 60 * int(minutes) + float(seconds)
    except ValueError:
        return None


def span_of(window: Window, trim: Trim | None) -> tuple[float, float]:
    """Start and end of the window in seconds of the whole source; the end may be infinite.

    Raises InputError for an impossible trim, and for a window that begins after its end.
    """
    origin, length = trim or (0.0, 0.0)
    if not (math.isfinite(origin) and origin >= 0 and math.isfinite(length) and length >= 0):
        raise InputError(f"The video is trimmed to start {origin} s, duration {length} s: give 0 s or more.")
    if length and window.start >= length:
        raise InputError(_past_the_end(window.start, length))
    ends = [origin + length] if length else []
    if window.duration is not None:
        ends.append(origin + window.start + window.duration)
    return origin + window.start, min(ends, default=math.inf)


def _check_request(rates: Sequence[float], seconds: float, size: int, resize: str) -> None:
    if not (math.isfinite(seconds) and seconds > 0):
        raise InputError(f"{seconds} s of frames were asked for: give a number of seconds above 0.")
    for rate in rates:
        if not (math.isfinite(rate) and rate > 0 and round(seconds * rate) > 0):
            raise InputError(f"A rate of {rate} frames per second gives no frame in {seconds} s: raise it.")
    if size < 1:
        raise InputError(f"Frames of {size} pixels were asked for: give a size of 1 or more.")
    if resize not in get_args(Resize):
        raise InputError(f"resize is {resize!r}: choose one of {', '.join(get_args(Resize))}.")


def _past_the_end(start: float, end: float) -> str:
    return f"The start is {start:g} s, but the video is only {end:.6g} s long: choose an earlier start."


def check_images(images: Tensor, fps: float) -> None:
    """Raises InputError unless they are pictures as `frames_from_images` takes them, and fps is above 0."""
    if not (math.isfinite(fps) and fps > 0):
        raise InputError(f"The images have {fps} frames per second: give a rate above 0.")
    if images.ndim != 4 or 0 in images.shape or images.shape[-1] not in (1, 3, 4):
        raise InputError(
            f"The images have shape {tuple(images.shape)}: (count, height, width, channels) is wanted, "
            "with at least one image and 1, 3 or 4 channels."
        )
    if not images.is_floating_point():
        raise InputError(f"The images are {images.dtype}: floating point in 0..1 is wanted.")


def _to_uint8(image: Tensor) -> Tensor:
    """(H, W, C) floating point 0..1 -> (H, W, 3) uint8. Raises InputError for NaN."""
    image = image.detach().to("cpu", torch.float32)
    if image.isnan().any():
        raise InputError("An image holds NaN (no number): check the node that made it.")
    image = image.clamp(0, 1)
    if image.shape[-1] == 4:  # hidden colours of transparent places would otherwise show up
        image = image[..., :3] * image[..., 3:]
    return image.mul(255).round().to(torch.uint8).expand(-1, -1, 3)


def _shrink_frame(frame: VideoFrame, size: int, resize: Resize) -> Tensor:
    """A decoded frame -> (3, size, size) uint8, upright."""
    # RGB has no matrix of its own, but older PyAV uses the source's only if another one is named here
    picture = frame.to_ndarray(format="rgb24", dst_colorspace="ITU601")
    small = _shrink(torch.from_numpy(picture), size, resize)
    turns = quarter_turns(frame)
    return torch.rot90(small, turns, dims=(1, 2)) if turns else small  # resizing commutes with turning


def _shrink(picture: Tensor, size: int, resize: Resize) -> Tensor:
    """(H, W, 3) uint8 -> (3, size, size) uint8.

    torch's own uint8 kernel: within one level of float arithmetic with rounding, and ten times as fast.
    """
    if resize == "crop":
        height, width = picture.shape[:2]
        side = min(height, width)
        top, left = (height - side) // 2, (width - side) // 2
        picture = picture[top : top + side, left : left + side]
    batch = picture.permute(2, 0, 1)[None]
    return F.interpolate(batch, size=(size, size), mode="bilinear", antialias=True)[0]
