"""Read and write audio files, and give a video another sound track.

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

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError, MediaError
from .containers import (
    TOLERANCE,
    MediaSource,
    frame_rate,
    frame_seconds,
    frames_shown,
    name_of,
    open_media,
    tick,
    video_stream,
)
from .encoding import AAC, FLAC, MP3, OPUS, PCM, AudioCodec, AudioEncoder, PictureEncoder, output_file
from .frames import Window, probe_video
from .waveforms import check_waveform, conform_audio

if TYPE_CHECKING:  # PyAV is loaded only when a file is opened
    from av.audio.frame import AudioFrame
    from av.audio.stream import AudioStream
    from av.container import InputContainer, OutputContainer
    from av.video.stream import VideoStream

__all__ = [
    "AUDIO_SUFFIXES",
    "VIDEO_SUFFIXES",
    "carrying_suffix",
    "conform_audio",
    "read_audio",
    "read_soundtrack",
    "replace_audio_track",
    "write_audio",
]

log = logging.getLogger(__name__)

_FULL_SCALE = {"u8": 2**7, "s16": 2**15, "s32": 2**31, "s64": 2**63}
_AUDIO_FILES = {
    ".wav": ("wav", PCM),
    ".flac": ("flac", FLAC),
    ".mp3": ("mp3", MP3),
    ".ogg": ("ogg", OPUS),  # Vorbis is missing from newer builds of PyAV
    ".opus": ("opus", OPUS),
    ".m4a": ("ipod", AAC),
}


@dataclass(frozen=True)
class _VideoFile:
    """How one kind of video file is written where its pictures cannot be copied."""

    container: str
    audio: AudioCodec
    encoders: tuple[str, ...] = ("libx264", "h264", "mpeg4")  # the first that this build of FFmpeg has
    muxer_options: tuple[tuple[str, str], ...] = ()


_FASTSTART = (("movflags", "+faststart"),)  # the index first, so that a browser can start at once
_VIDEO_FILES = {
    ".mp4": _VideoFile("mp4", AAC, muxer_options=_FASTSTART),
    ".m4v": _VideoFile("mp4", AAC, muxer_options=_FASTSTART),
    ".mov": _VideoFile("mov", AAC, muxer_options=_FASTSTART),
    ".mkv": _VideoFile("matroska", AAC),
    ".webm": _VideoFile("webm", OPUS, encoders=("libvpx-vp9",)),
}
AUDIO_SUFFIXES = tuple(_AUDIO_FILES)
VIDEO_SUFFIXES = tuple(_VIDEO_FILES)


def read_audio(source: MediaSource) -> tuple[Tensor, int]:
    """The first audio track of any file that PyAV reads: ((C, S) float32, rate in hertz).

    Integer samples become value / full scale, others stay as they are. All samples that the decoder gives are
    kept, also the padding at the end of an AAC track. What cannot be decoded is left out, with a warning.
    Raises MediaError for what cannot be read or holds no audio.
    """
    with open_media(source) as container:
        if not container.streams.audio:
            raise MediaError(f"{name_of(source)} holds no audio: choose a file with an audio track.")
        waveform, rate, _ = _all_audio(container, source)
    return waveform, rate


def read_soundtrack(source: MediaSource) -> tuple[Tensor, int, float] | None:
    """The first audio track of a video as `read_audio` gives it, and when it begins; None if there is none.

    When: seconds after the first picture, as the file's own times have it, also below 0.
    Raises MediaError for what cannot be read or holds no video.
    """
    with open_media(source) as container:
        stream = video_stream(container, source)
        origin = (stream.start_time or 0) * tick(stream)
        if not container.streams.audio:
            return None
        waveform, rate, begin = _all_audio(container, source)
    return waveform, rate, begin - origin


def _all_audio(container: InputContainer, source: MediaSource) -> tuple[Tensor, int, float]:
    """((C, S), rate, time of the first sample in seconds) of the first audio track."""
    parts: list[np.ndarray] = []
    rate, begin = 0, 0.0
    for frame in _decoded_audio(container, container.streams.audio[0]):
        samples = _samples(frame)
        if parts and (len(samples) != len(parts[0]) or frame.sample_rate != rate):
            raise MediaError(
                f"{name_of(source)} changes midway from {len(parts[0])} channels at {rate} Hz to "
                f"{len(samples)} at {frame.sample_rate} Hz: convert it to one format."
            )
        if not parts:
            begin = frame.time or 0.0
        parts.append(samples)
        rate = frame.sample_rate
    if not parts:
        raise MediaError(f"No sound of {name_of(source)} can be decoded: the file is damaged or cut off.")
    return torch.from_numpy(np.concatenate(parts, axis=1)), rate, begin


def write_audio(path: str | Path, waveform: Tensor, rate: int) -> None:
    """Write a waveform; the suffix chooses the format. The file appears when it is complete.

    .wav and .flac hold 24-bit PCM at any rate with 1, 2, 6 or 8 channels; .mp3 (320 kbit/s), .ogg and .opus
    (both Opus, 192 kbit/s) and .m4a (AAC, 256 kbit/s) hold 1 or 2 channels at the next rate that the format
    knows. waveform: (C, S); values beyond +-1 are clipped, with a warning in the log.
    Raises InputError for a waveform or a suffix that cannot be written, MediaError if writing fails.
    """
    path = Path(path)
    if path.suffix.lower() not in _AUDIO_FILES:
        raise InputError(f"{path.name} has no known audio suffix: use one of {', '.join(_AUDIO_FILES)}.")
    container, codec = _AUDIO_FILES[path.suffix.lower()]
    waveform = check_waveform(waveform, rate)
    if len(waveform) not in codec.channels:
        allowed = ", ".join(map(str, codec.channels))
        raise InputError(
            f"{path.suffix} can hold {allowed} channels, the waveform has {len(waveform)}: mix it down first."
        )
    with output_file(path, container) as output:
        encoder = AudioEncoder(output, codec, waveform, int(rate))
        encoder.write()
        encoder.close()


def carrying_suffix(video: MediaSource) -> str:
    """The file suffix under which the pictures of a video can be copied: .mp4, .webm or .mkv, as the first of
    them does, in the order of how many players take it; .mp4 also where none does.

    Raises MediaError for what is no video.
    """
    import av

    with open_media(video) as source:
        stream = video_stream(source, video)
        for suffix in (".mp4", ".webm", ".mkv"):
            with suppress(ValueError, av.error.FFmpegError):
                # Not written to in earnest: only the header says whether the codec is taken.
                with av.open(io.BytesIO(), "w", format=_VIDEO_FILES[suffix].container) as trial:
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
    """Write `video`, a path or a seekable binary file, with the waveform as its only sound.

    `out` may be the same file.

    The whole video: its packets are copied as they are, bit by bit. A part of it (seconds from `start` on),
    or a codec that the new container does not take: the pictures are encoded anew (H.264; VP9 for .webm), as
    packets cut anywhere but at a keyframe are shown differently from player to player.
    Either way every picture keeps its time, the first one being at 0, where the waveform starts too.

    out: .mp4, .m4v, .mov, .mkv (AAC sound) or .webm (Opus). waveform: (C, S), made stereo; the video's length
    decides: longer sound is cut, shorter is followed by silence. Other tracks (subtitles, data) are dropped.
    metadata: written into the file. check_cancelled is called for every picture and may raise.
    Raises InputError for times and waveforms that cannot be used, MediaError for files that cannot be.
    """
    out = Path(out)
    kind = _VIDEO_FILES.get(out.suffix.lower())
    if kind is None:
        raise InputError(f"{out.name} has no known video suffix: use one of {', '.join(_VIDEO_FILES)}.")
    window = Window(start=start, duration=duration)
    info = probe_video(video)
    if start >= info.duration:
        raise InputError(f"The start is {start:g} s, but the video is only {info.duration:.6g} s long.")
    waveform = check_waveform(waveform, rate)
    audio_rate = kind.audio.rate_for(int(rate))
    sound = conform_audio(waveform, rate, target_rate=audio_rate), audio_rate
    job = _Job(out, kind, sound, dict(metadata or {}), check_cancelled or _never)
    half_a_frame = 0.5 / (info.fps or 25.0)
    if start == 0 and (duration is None or duration > info.duration - half_a_frame):
        try:
            _copy_pictures(video, job)
            return
        except _CannotCopyError as reason:
            log.info("The pictures of %s are encoded anew: %s.", name_of(video), reason)
    _encode_pictures(video, job, window)


@dataclass(frozen=True)
class _Job:
    """What is to be written: where, as which kind of file, with what sound ((2, S), its rate)."""

    out: Path
    kind: _VideoFile
    sound: tuple[Tensor, int]
    metadata: dict[str, str]
    check_cancelled: Callable[[], None]

    @contextmanager
    def open(self) -> Iterator[OutputContainer]:
        """The output, with its metadata."""
        options = dict(self.kind.muxer_options)
        if self.metadata and self.kind.container in ("mp4", "mov"):  # which else drop names they do not know
            options["movflags"] = options.get("movflags", "") + "+use_metadata_tags"
        with output_file(self.out, self.kind.container, options) as output:
            output.metadata.update(self.metadata)
            yield output


def _never() -> None:
    """Nobody cancels."""


class _CannotCopyError(Exception):
    """The packets of a video do not fit the new container; the message says why."""


def _copy_pictures(video: MediaSource, job: _Job) -> None:
    """Copy the video packets, from the start of the stream on, and encode the sound beside them."""
    import av

    # The output is the outer one: it is renamed, perhaps onto the source, when the source is closed.
    with job.open() as output, open_media(video) as source:
        stream = video_stream(source, video)
        if "avi" in source.format.name.split(","):
            raise _CannotCopyError("AVI stores no display times")
        try:
            copy = output.add_stream_from_template(stream, opaque=True)  # no encoder behind it
            encoder = AudioEncoder(output, job.kind.audio, *job.sound)
            output.start_encoding()
        except (ValueError, av.error.FFmpegError) as error:
            raise _CannotCopyError(str(error)) from error
        origin, seconds, end = stream.start_time or 0, tick(stream), 0.0
        for packet in _timed_packets(source, stream):
            job.check_cancelled()
            packet.pts, packet.dts, packet.stream = packet.pts - origin, packet.dts - origin, copy
            end = max(end, (packet.pts + packet.duration) * seconds)
            encoder.write(max(0.0, packet.dts * seconds))
            output.mux(packet)
        encoder.write(end)
        encoder.close()


def _encode_pictures(video: MediaSource, job: _Job, window: Window) -> None:
    """Encode the frames on screen during the window, at their own times, and the sound beside them."""
    limit = math.inf if window.duration is None else window.start + window.duration
    with (
        job.open() as output,
        frames_shown(video, window.start, job.check_cancelled) as (_, source, shown),
    ):
        first = next(shown)
        pictures = PictureEncoder(output, job.kind.encoders, source, first[1])
        encoder = AudioEncoder(output, job.kind.audio, *job.sound)
        pending, begin, end = first[1], 0.0, first[0] + frame_seconds(first[1], frame_rate(source))
        for time, frame in shown:
            if time >= limit - TOLERANCE:
                end = limit
                break
            if time > window.start + TOLERANCE:  # else: over before the window starts
                pictures.write(pending, begin)
                encoder.write(begin)
                begin = time - window.start
            pending, end = frame, time + frame_seconds(frame, frame_rate(source))
        if end <= window.start:  # a file that is cut off, whose header promised more
            raise InputError(f"The start is {window.start:g} s, but the video breaks off at {end:.6g} s.")
        pictures.write(pending, begin)
        pictures.close()
        encoder.write(min(end, limit) - window.start)
        encoder.close()


def _timed_packets(container: InputContainer, stream: VideoStream) -> Iterator[Any]:
    """The packets of a video, with the times that some containers leave out: muxers want them all."""
    frame = round(1 / ((frame_rate(stream) or 25.0) * tick(stream)))
    waiting: list[Any] = []  # before the first decoding time that Matroska gives, as many as frames reorder
    for packet in _packets(container, stream):
        if packet.pts is None:
            raise _CannotCopyError("its packets have no display times")
        packet.duration = packet.duration or frame  # 0 in MPEG-TS
        waiting.append(packet)
        if packet.dts is None:
            continue
        for back, earlier in enumerate(reversed(waiting)):
            earlier.dts = packet.dts - back * frame
        yield from waiting
        waiting = []
    if waiting:
        raise _CannotCopyError("its packets have no decoding times")


def _packets(container: InputContainer, stream: Any) -> Iterator[Any]:
    """The packets of one stream; where the container breaks off they end, with a warning."""
    import av

    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets, None)
        except av.error.FFmpegError as error:
            log.warning("The file breaks off (%s); going on with what came before.", error)
            return
        if packet is None:
            return
        if packet.size:
            yield packet


def _decoded_audio(container: InputContainer, stream: AudioStream) -> Iterator[AudioFrame]:
    """All frames; packets that cannot be decoded are left out, with one warning."""
    import av

    broken = 0
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets, None)
            if packet is None:
                break
            yield from packet.decode()
        except av.error.FFmpegError:
            broken += 1
    if broken:
        log.warning("%d packets of the audio cannot be decoded; going on with the rest.", broken)


def _samples(frame: AudioFrame) -> np.ndarray:
    """One decoded frame -> (C, S) float32."""
    kind = frame.format.packed.name  # "s16" for both "s16" and "s16p"
    array = frame.to_ndarray()
    if not frame.format.is_planar:
        array = array.reshape(-1, len(frame.layout.channels)).T
    if kind not in _FULL_SCALE:
        return array.astype(np.float32)
    scale = _FULL_SCALE[kind]
    return ((array.astype(np.float64) - (scale if kind == "u8" else 0)) / scale).astype(np.float32)
