"""Replaces the audio track of a video, copying the video packets where the new file can hold them.

C channels, S samples. Waveforms are float32 in [-1, 1] on the CPU.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from ..errors import InputError
from ..utf8 import get_logger
from .containers import TOLERANCE, MediaSource, find_clock, open_frames, open_media, source_name, video_stream
from .encoding import AAC, OPUS, AudioCodec, AudioEncoder, VideoEncoder, open_output
from .frames import TimeRange
from .probing import probe_video
from .tracks.matroska import reserve_room, set_display_size
from .tracks.parameter_sets import FormatWatch
from .tracks.rates import find_pixel_aspect, frame_rate, frame_seconds, seconds_per_tick
from .tracks.tags import choose_codec_tag, copy_chapters, needs_free_tags, read_tags, read_track_tags
from .waveforms import check_waveform, conform_audio

if TYPE_CHECKING:  # PyAV is loaded only when a file is opened
    from av.container import InputContainer, OutputContainer
    from av.video.stream import VideoStream

log = get_logger(__name__)


@dataclass(frozen=True)
class _VideoFormat:
    """The format of one kind of video file.

    Attributes:
        container: FFmpeg's name of the format.
        audio: The audio codec.
        encoders: Video encoders; the first that this build of FFmpeg has is used.
        muxer_options: Options of the container.
        codecs: FFmpeg's names of the video codecs that players expect in it; empty: any that it can hold.
        orientations: Whether players turn and mirror its pictures as it asks.
    """

    container: str
    audio: AudioCodec
    encoders: tuple[str, ...] = ("libx264", "h264", "mpeg4")
    muxer_options: tuple[tuple[str, str], ...] = ()
    codecs: frozenset[str] = frozenset()
    orientations: bool = False


_FASTSTART = (("movflags", "+faststart"),)  # the index first, so that a browser can start immediately
_MP4_CODECS = frozenset({"h264", "hevc", "av1", "vvc", "vp9", "mpeg4", "mpeg2video", "mpeg1video"})
_MOV_CODECS = _MP4_CODECS - {"vp9"} | {
    *(
        "prores",
        "mjpeg",
        "png",
        "qtrle",
        "dnxhd",
        "rawvideo",
        "v210",
        "dvvideo",
        "h263",
        "jpeg2000",
        "cfhd",
        "hap",
    ),
    *("svq1", "svq3", "cinepak", "rpza", "8bps", "smc"),
}
_MP4 = _VideoFormat("mp4", AAC, muxer_options=_FASTSTART, codecs=_MP4_CODECS, orientations=True)
_VIDEO_FORMATS = {
    ".mp4": _MP4,
    ".m4v": _MP4,
    ".mov": _VideoFormat("mov", AAC, muxer_options=_FASTSTART, codecs=_MOV_CODECS, orientations=True),
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

    is_turned = probe_video(video).is_turned
    with open_media(video) as source:
        stream = video_stream(source, video)
        for suffix in (".mp4", ".webm", ".mkv"):
            with suppress(_CannotCopyError, ValueError, av.error.FFmpegError):
                _ensure_copyable(source, stream, _VIDEO_FORMATS[suffix], is_turned)
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

    Packets of a whole video are copied unchanged. The video is encoded (H.264; VP9 for .webm) if only a part
    of it is used, because players disagree about packets that are cut anywhere but at a keyframe, or if the
    new container cannot hold it as it is; the log says why. Either way every frame keeps its time, its
    colours and its proportions, and the file its tags and chapters. The first frame is at 0, where the
    waveform starts as well. Transparent pixels are encoded over black. Other tracks are dropped.

    Args:
        video: A path or a seekable binary file.
        waveform: (C, S), converted to stereo. The video's length decides: longer audio is cut, shorter audio
            is followed by silence.
        rate: Sample rate in hertz.
        out: .mp4, .m4v, .mov or .mkv (AAC audio), or .webm (Opus). May be the same file as `video`.
        start: Seconds into the video at which the output begins.
        duration: Seconds of video to write; None: to the end.
        metadata: Tags for the file, in addition to its own.
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
    time_range, info = TimeRange(start=start, duration=duration), probe_video(video)
    if start >= info.duration:
        raise InputError(
            f"start is {start:g} s, but the video is only {info.duration:.6g} s long. Choose an "
            "earlier start."
        )
    waveform = check_waveform(waveform, rate)
    audio_rate = video_format.audio.rate_for(int(rate))
    audio = conform_audio(waveform, rate, target_rate=audio_rate), audio_rate
    with open_media(video) as source:
        tags = {**read_tags(source), **(metadata or {})}
    job = _Job(out, video_format, audio, tags, check_cancelled or _do_nothing)
    half_a_frame = 0.5 / (info.fps or 25.0)
    if start == 0 and (duration is None or duration > info.duration - half_a_frame):
        try:
            _copy_video(video, job, info.is_turned)
            return
        except _CannotCopyError as reason:
            log.warning("The video of %s is encoded, not copied: %s.", source_name(video), reason)
    _encode_video(video, job, time_range)


@dataclass(frozen=True)
class _Job:
    """A file to write.

    Attributes:
        out: The file.
        video_format: The kind of file.
        audio: (2, S) and its sample rate.
        tags: Tags for the file.
        check_cancelled: Called for every frame or packet; may raise.
    """

    out: Path
    video_format: _VideoFormat
    audio: tuple[Tensor, int]
    tags: dict[str, str]
    check_cancelled: Callable[[], None]

    @contextmanager
    def open(self) -> Iterator[_Output]:
        """Open the output and give it its tags."""
        options = dict(self.video_format.muxer_options)
        if self.video_format.container in ("mp4", "mov") and needs_free_tags(self.tags):
            options["movflags"] = options.get("movflags", "") + "+use_metadata_tags"
        output = _Output()
        with open_output(self.out, self.video_format.container, options, output.finish) as output.container:
            output.container.metadata.update(self.tags)
            yield output

    def add_audio(self, output: _Output) -> AudioEncoder:
        """Add the audio track to the output."""
        return AudioEncoder(
            output.container, self.video_format.audio, *self.audio, check_cancelled=self.check_cancelled
        )


@dataclass
class _Output:
    """A file that is being written.

    Attributes:
        container: The open file.
    """

    container: OutputContainer = field(init=False)
    _display_size: tuple[int, int] | None = None

    def shape_pixels(self, stream: Any, aspect: Fraction) -> None:
        """Tell players how wide the pixels of a video are, where the encoded pictures need not say so.

        Args:
            stream: The video track, before the header is written.
            aspect: Width / height of a pixel as it is shown, upright.
        """
        if aspect != 1 and self.container.format.name in ("matroska", "webm"):
            reserve_room(stream)
            self._display_size = max(1, round(stream.width * aspect)), stream.height

    def finish(self, path: Path) -> None:
        """Complete the closed file."""
        if self._display_size is not None:
            set_display_size(path, *self._display_size)


def _do_nothing() -> None:
    """The default for `check_cancelled`."""


class _CannotCopyError(Exception):
    """The video packets do not fit the new container; the message gives the reason."""


def _ensure_copyable(
    source: InputContainer, stream: VideoStream, video_format: _VideoFormat, is_turned: bool
) -> None:
    """Raise _CannotCopyError if the packets of a video would not be shown as they are in a format."""
    codec = _codec_name(stream)
    if "avi" in source.format.name.split(","):
        raise _CannotCopyError("AVI stores no display times")
    if video_format.codecs and codec not in video_format.codecs:
        raise _CannotCopyError(f"few players show {codec} in {video_format.container}")
    if is_turned and not video_format.orientations:
        raise _CannotCopyError(f"{video_format.container} cannot say how its pictures are turned")


def _codec_name(stream: VideoStream) -> str:
    """FFmpeg's name of a codec, whichever decoder it uses."""
    return str(getattr(stream.codec_context.codec, "canonical_name", stream.codec_context.name))


def _copy_video(video: MediaSource, job: _Job, is_turned: bool) -> None:
    """Copy all video packets, and encode the audio beside them."""
    import av

    clock = find_clock(video)
    with open_media(video) as source:  # before there is an output: this may read all packets
        stream = video_stream(source, video)
        _ensure_copyable(source, stream, job.video_format, is_turned)
        dates = clock.date_packets(source, stream) if clock.is_undated else None
    # The output is the outer context: when it is renamed, perhaps onto the source, the source is closed.
    with job.open() as output, open_media(video) as source:
        stream = video_stream(source, video)
        start = clock.origin(stream) or 0.0
        try:
            # Without an encoder.
            copy: Any = output.container.add_stream_from_template(stream, opaque=True)
            tag = choose_codec_tag(source, stream, job.video_format.container)
            if tag:
                copy.codec_context.codec_tag = tag
            copy.metadata.update(read_track_tags(stream))
            copy.codec_context.sample_aspect_ratio = find_pixel_aspect(stream)
            output.shape_pixels(copy, find_pixel_aspect(stream))
            encoder = job.add_audio(output)
            copy_chapters(source, output.container, origin=start, start=0.0, end=math.inf)
            output.container.start_encoding()
        except (ValueError, av.error.FFmpegError) as error:
            raise _CannotCopyError(
                f"{job.video_format.container} cannot hold {_codec_name(stream)}"
            ) from error
        seconds, end, watch = seconds_per_tick(stream), 0.0, FormatWatch(stream)
        origin = round(start / seconds)
        for packet in _timed_packets(clock.demux(source, stream), stream, dates):
            job.check_cancelled()
            if watch.changes(packet):
                raise _CannotCopyError("its picture format changes midway")
            packet.pts, packet.dts, packet.stream = packet.pts - origin, packet.dts - origin, copy
            if packet.is_discard and not (job.video_format.container in ("mp4", "mov") and packet.pts < 0):
                raise _CannotCopyError("it hides some of its pictures")
            end = max(end, (packet.pts + packet.duration) * seconds)
            encoder.write(max(0.0, packet.dts * seconds))
            output.container.mux(packet)
        encoder.write(end)
        encoder.close()


def _encode_video(video: MediaSource, job: _Job, time_range: TimeRange) -> None:
    """Encode the frames on screen during the time range, at their own times, and the audio beside them."""
    limit = math.inf if time_range.duration is None else time_range.start + time_range.duration
    with job.open() as output, open_frames(video, time_range.start, job.check_cancelled) as film:
        time, pending = next(film.frames)
        frames = VideoEncoder(output.container, job.video_format.encoders, film, pending)
        turned = film.orientation.transposed
        output.shape_pixels(frames.stream, 1 / film.pixel_aspect if turned else film.pixel_aspect)
        encoder = job.add_audio(output)
        origin = film.clock.origin(film.stream) or 0.0
        copy_chapters(film.container, output.container, origin=origin, start=time_range.start, end=limit)
        pending_time, end = 0.0, time + frame_seconds(pending, film.fps)
        for time, frame in film.frames:
            if time >= limit - TOLERANCE:
                end = limit
                break
            # Otherwise the pending frame is over before the range starts.
            if time > time_range.start + film.tolerance:
                next_time = time - time_range.start
                frames.write(pending, pending_time, next_time - pending_time)
                encoder.write(pending_time)
                pending_time = next_time
            pending, end = frame, time + frame_seconds(frame, film.fps)
        if end <= time_range.start:  # the file is shorter than its header says
            raise InputError(
                f"start is {time_range.start:g} s, but the video ends at {end:.6g} s. Choose an "
                "earlier start."
            )
        length = min(end, limit) - time_range.start
        frames.write(pending, pending_time, length - pending_time)
        frames.close()
        encoder.write(length)
        encoder.close()


def _timed_packets(packets: Iterator[Any], stream: VideoStream, dates: Sequence[int] | None) -> Iterator[Any]:
    """The packets of a video, with the times that some containers omit: muxers need all of them, in order.

    Args:
        packets: All packets.
        stream: Their track.
        dates: Decoding times in ticks; None: those of the packets.
    """
    frame_ticks = round(1 / ((frame_rate(stream) or 25.0) * seconds_per_tick(stream)))
    waiting: list[Any] = []  # packets without decoding times
    latest: int | None = None
    for number, packet in enumerate(_undamaged(packets)):
        if packet.pts is None:
            raise _CannotCopyError("its packets have no display times")
        if dates is not None:
            packet.dts = dates[number]
        packet.duration = packet.duration or frame_ticks  # 0 in MPEG-TS
        waiting.append(packet)
        if packet.dts is None:
            continue
        for distance, earlier in enumerate(reversed(waiting)):
            earlier.dts = packet.dts - distance * frame_ticks
        for ready in waiting:
            if latest is not None and ready.dts <= latest:  # recordings that were joined overlap by a little
                ready.dts = latest + 1
                ready.pts = max(ready.pts, ready.dts)
            latest = ready.dts
            yield ready
        waiting = []
    if waiting:
        raise _CannotCopyError("its packets have no decoding times")


def _undamaged(packets: Iterator[Any]) -> Iterator[Any]:
    """Packets up to the first damage, with a warning."""
    import av

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
