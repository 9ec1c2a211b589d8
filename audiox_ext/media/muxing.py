"""Replaces the audio track of a video, copying the video packets where the new file can hold them.

C channels, S samples. Waveforms are float32 in [-1, 1] on the CPU.
"""

from __future__ import annotations

import io
import logging
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from ..errors import InputError
from .containers import (
    TOLERANCE,
    MediaSource,
    frame_rate,
    frame_seconds,
    open_frames,
    open_media,
    seconds_per_tick,
    source_name,
    video_stream,
)
from .encoding import AAC, OPUS, AudioCodec, AudioEncoder, VideoEncoder, open_output
from .frames import TimeRange
from .probing import probe_video
from .waveforms import check_waveform, conform_audio

if TYPE_CHECKING:  # PyAV is loaded only when a file is opened
    from av.container import InputContainer, OutputContainer
    from av.video.stream import VideoStream

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _VideoFormat:
    """The format of one kind of video file.

    Attributes:
        container: FFmpeg's name of the format.
        audio: The audio codec.
        encoders: Video encoders; the first that this build of FFmpeg has is used.
        muxer_options: Options of the container.
    """

    container: str
    audio: AudioCodec
    encoders: tuple[str, ...] = ("libx264", "h264", "mpeg4")
    muxer_options: tuple[tuple[str, str], ...] = ()


_FASTSTART = (("movflags", "+faststart"),)  # the index first, so that a browser can start immediately
_VIDEO_FORMATS = {
    ".mp4": _VideoFormat("mp4", AAC, muxer_options=_FASTSTART),
    ".m4v": _VideoFormat("mp4", AAC, muxer_options=_FASTSTART),
    ".mov": _VideoFormat("mov", AAC, muxer_options=_FASTSTART),
    ".mkv": _VideoFormat("matroska", AAC),
    ".webm": _VideoFormat("webm", OPUS, encoders=("libvpx-vp9",)),
}
VIDEO_SUFFIXES = tuple(_VIDEO_FORMATS)


def choose_video_suffix(video: MediaSource) -> str:
    """Choose the file suffix under which the video packets can be copied without encoding.

    Returns:
        The first of .mp4, .webm and .mkv that can hold the video; .mp4 if none can.

    Raises:
        MediaError: The source is not a readable video.
    """
    import av

    with open_media(video) as source:
        stream = video_stream(source, video)
        for suffix in (".mp4", ".webm", ".mkv"):
            with suppress(ValueError, av.error.FFmpegError):
                # Only the header is written: it shows whether the container takes the codec.
                with av.open(io.BytesIO(), "w", format=_VIDEO_FORMATS[suffix].container) as trial:
                    trial.add_stream_from_template(stream, opaque=True)
                    trial.start_encoding()
                return suffix
    return ".mp4"


def replace_audio_track(
    video: MediaSource,
    waveform: Tensor,
    rate: int,
    out: str | Path,
    *,
    start: float = 0.0,
    duration: float | None = None,
    metadata: Mapping[str, str] | None = None,
    check_cancelled: Callable[[], None] | None = None,
) -> None:
    """Write a video, or a part of it, with the waveform as its only audio track.

    Packets of a whole video are copied unchanged. A part of a video, or a codec that the new container cannot
    hold, is encoded (H.264; VP9 for .webm), because players disagree about packets that are cut anywhere but
    at a keyframe. Either way every frame keeps its time; the first is at 0, where the waveform starts as
    well. Other tracks (subtitles, data) are dropped.

    Args:
        video: A path or a seekable binary file.
        waveform: (C, S), converted to stereo. The video's length decides: longer audio is cut, shorter audio
            is followed by silence.
        rate: Sample rate in hertz.
        out: .mp4, .m4v, .mov or .mkv (AAC audio), or .webm (Opus). May be the same file as `video`.
        start: Seconds into the video at which the output begins.
        duration: Seconds of video to write; None: to the end.
        metadata: Tags for the file.
        check_cancelled: Called for every frame or packet; may raise.

    Raises:
        InputError: A time, the suffix or the waveform is invalid.
        MediaError: A file cannot be read or written.
    """
    out = Path(out)
    video_format = _VIDEO_FORMATS.get(out.suffix.lower())
    if video_format is None:
        raise InputError(
            f"{out.name} does not end in a known video suffix. Use one of {', '.join(_VIDEO_FORMATS)}."
        )
    time_range = TimeRange(start=start, duration=duration)
    info = probe_video(video)
    if start >= info.duration:
        raise InputError(
            f"start is {start:g} s, but the video is only {info.duration:.6g} s long. Choose an "
            "earlier start."
        )
    waveform = check_waveform(waveform, rate)
    audio_rate = video_format.audio.rate_for(int(rate))
    audio = conform_audio(waveform, rate, target_rate=audio_rate), audio_rate
    job = _Job(out, video_format, audio, dict(metadata or {}), check_cancelled or _do_nothing)
    half_a_frame = 0.5 / (info.fps or 25.0)
    if start == 0 and (duration is None or duration > info.duration - half_a_frame):
        try:
            _copy_video(video, job)
            return
        except _CannotCopyError as reason:
            log.info("Encoding the video of %s instead of copying it: %s.", source_name(video), reason)
    _encode_video(video, job, time_range)


@dataclass(frozen=True)
class _Job:
    """A file to write.

    Attributes:
        out: The file.
        video_format: The kind of file.
        audio: (2, S) and its sample rate.
        metadata: Tags for the file.
        check_cancelled: Called for every frame or packet; may raise.
    """

    out: Path
    video_format: _VideoFormat
    audio: tuple[Tensor, int]
    metadata: dict[str, str]
    check_cancelled: Callable[[], None]

    @contextmanager
    def open(self) -> Iterator[OutputContainer]:
        """Open the output and write its metadata."""
        options = dict(self.video_format.muxer_options)
        if self.metadata and self.video_format.container in ("mp4", "mov"):
            # Without this flag these formats drop unknown tags.
            options["movflags"] = options.get("movflags", "") + "+use_metadata_tags"
        with open_output(self.out, self.video_format.container, options) as output:
            output.metadata.update(self.metadata)
            yield output


def _do_nothing() -> None:
    """The default for `check_cancelled`."""


class _CannotCopyError(Exception):
    """The video packets do not fit the new container; the message gives the reason."""


def _copy_video(video: MediaSource, job: _Job) -> None:
    """Copy all video packets, and encode the audio beside them."""
    import av

    # The output is the outer context: when it is renamed, perhaps onto the source, the source is closed.
    with job.open() as output, open_media(video) as source:
        stream = video_stream(source, video)
        if "avi" in source.format.name.split(","):
            raise _CannotCopyError("AVI stores no display times")
        try:
            copy = output.add_stream_from_template(stream, opaque=True)  # without an encoder
            encoder = AudioEncoder(output, job.video_format.audio, *job.audio)
            output.start_encoding()
        except (ValueError, av.error.FFmpegError) as error:
            raise _CannotCopyError(str(error)) from error
        origin, seconds, end = stream.start_time or 0, seconds_per_tick(stream), 0.0
        for packet in _timed_packets(source, stream):
            job.check_cancelled()
            packet.pts, packet.dts, packet.stream = packet.pts - origin, packet.dts - origin, copy
            end = max(end, (packet.pts + packet.duration) * seconds)
            encoder.write(max(0.0, packet.dts * seconds))
            output.mux(packet)
        encoder.write(end)
        encoder.close()


def _encode_video(video: MediaSource, job: _Job, time_range: TimeRange) -> None:
    """Encode the frames on screen during the time range, at their own times, and the audio beside them."""
    limit = math.inf if time_range.duration is None else time_range.start + time_range.duration
    with (
        job.open() as output,
        open_frames(video, time_range.start, job.check_cancelled) as (_, source, timed_frames),
    ):
        time, pending = next(timed_frames)
        frames = VideoEncoder(output, job.video_format.encoders, source, pending)
        encoder = AudioEncoder(output, job.video_format.audio, *job.audio)
        pending_time, end = 0.0, time + frame_seconds(pending, frame_rate(source))
        for time, frame in timed_frames:
            if time >= limit - TOLERANCE:
                end = limit
                break
            if time > time_range.start + TOLERANCE:  # else the pending frame is over before the range starts
                frames.write(pending, pending_time)
                encoder.write(pending_time)
                pending_time = time - time_range.start
            pending, end = frame, time + frame_seconds(frame, frame_rate(source))
        if end <= time_range.start:  # the file is shorter than its header says
            raise InputError(
                f"start is {time_range.start:g} s, but the video ends at {end:.6g} s. Choose an "
                "earlier start."
            )
        frames.write(pending, pending_time)
        frames.close()
        encoder.write(min(end, limit) - time_range.start)
        encoder.close()


def _timed_packets(container: InputContainer, stream: VideoStream) -> Iterator[Any]:
    """The packets of a video, with the times that some containers omit: muxers need all of them."""
    frame_ticks = round(1 / ((frame_rate(stream) or 25.0) * seconds_per_tick(stream)))
    waiting: list[Any] = []  # Matroska omits the first decoding times, as many as it reorders frames
    for packet in _packets(container, stream):
        if packet.pts is None:
            raise _CannotCopyError("its packets have no display times")
        packet.duration = packet.duration or frame_ticks  # 0 in MPEG-TS
        waiting.append(packet)
        if packet.dts is None:
            continue
        for distance, earlier in enumerate(reversed(waiting)):
            earlier.dts = packet.dts - distance * frame_ticks
        yield from waiting
        waiting = []
    if waiting:
        raise _CannotCopyError("its packets have no decoding times")


def _packets(container: InputContainer, stream: Any) -> Iterator[Any]:
    """The packets of one stream, up to the first damage, with a warning."""
    import av

    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets, None)
        except av.error.FFmpegError as error:
            log.warning("The video is damaged (%s). Using the part before the damage.", error)
            return
        if packet is None:
            return
        if packet.size:
            yield packet
