"""Reads and writes audio files, and reads the sound of videos.

C channels, S samples. Waveforms are float32 in [-1, 1] on the CPU.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError, MediaError
from ..utf8 import get_logger
from .containers import LONGEST_FILM, MediaSource, find_clock, open_media, source_name, video_stream
from .encoding import AAC, FLAC, MP3, OPUS, PCM, PCM_FLOAT, AudioEncoder, open_output
from .tracks.assembly import SoundAssembly
from .tracks.layouts import mix_by_names
from .tracks.samples import SampleReader
from .waveforms import MOST_SAMPLES, check_waveform

if TYPE_CHECKING:  # PyAV is loaded only when a file is opened
    from av.audio.frame import AudioFrame
    from av.audio.stream import AudioStream
    from av.container import InputContainer

    from .tracks.clock import Clock

log = get_logger(__name__)

_AUDIO_FILES = {
    ".wav": ("wav", PCM),
    ".flac": ("flac", FLAC),
    ".mp3": ("mp3", MP3),
    ".ogg": ("ogg", OPUS),  # newer builds of PyAV lack Vorbis
    ".opus": ("opus", OPUS),
    ".m4a": ("ipod", AAC),
}
AUDIO_SUFFIXES = tuple(_AUDIO_FILES)


def read_audio(source: MediaSource, seconds: float = math.inf) -> tuple[Tensor, int]:
    """Read the first audio track of an audio or video file.

    Integer samples are divided by full scale; floating-point samples stay as they are. All decoded samples
    are kept, including the padding at the end of an AAC track. Damaged packets are skipped, with a warning.
    Gaps in the file's times become silence; recordings that were joined follow each other.

    Args:
        source: A path or a seekable binary file, in any format that PyAV reads.
        seconds: Reading stops here; by default at the end, and `MOST_SAMPLES` samples are the limit.

    Returns:
        The waveform (C, S), float32 in -1..1, with the channels in the order of the file, and its sample rate
        in hertz.

    Raises:
        MediaError: The file cannot be read, has no audio or is too long.
    """
    track = _read_first_track(source, seconds)
    return torch.from_numpy(track.samples), track.rate


def read_stereo(source: MediaSource, seconds: float = math.inf) -> tuple[Tensor, int]:
    """Like `read_audio`, but mix surround sound to stereo by the names of its channels.

    A waveform alone does not say whether four channels are quad or 4.0; the file does.

    Args:
        source: A path or a seekable binary file, in any format that PyAV reads.
        seconds: As in `read_audio`.

    Returns:
        The waveform (1 or 2, S), float32, and its sample rate in hertz. Channels without names are not mixed.

    Raises:
        MediaError: The file cannot be read, has no audio or is too long.
    """
    track = _read_first_track(source, seconds)
    return track.mix(), track.rate


def read_soundtrack(source: MediaSource, end: float = math.inf) -> tuple[Tensor, int, float] | None:
    """Read the first audio track of a video, and when it begins.

    Args:
        source: A path or a seekable binary file.
        end: Seconds after the first frame at which reading stops; by default at the end of the audio.

    Returns:
        The waveform (1 or 2, S), mixed as by `read_stereo`, its sample rate in hertz, and its start in
        seconds after the first frame (may be negative), by the file's timestamps. None if the video has no
        audio.

    Raises:
        MediaError: The file cannot be read, has no video or is too long.
    """
    clock = find_clock(source)
    with open_media(source) as container:
        origin = clock.origin(video_stream(container, source)) or 0.0
        if not container.streams.audio:
            return None
        track = _decode_first_track(container, source, clock, end=origin + end)
    return track.mix(), track.rate, track.start - origin


def holds_floats(source: MediaSource) -> bool:
    """Whether the first audio track of a file is uncompressed floating point, as editors exchange it.

    Raises:
        MediaError: The file cannot be read or has no audio.
    """
    with open_media(source) as container:
        return _first_stream(container, source).codec_context.name.startswith("pcm_f")


def write_audio(path: str | Path, waveform: Tensor, rate: int, *, keep_floats: bool = False) -> None:
    """Write a waveform to an audio file. The file appears only once it is complete.

    The suffix chooses the format: .wav and .flac are 24-bit PCM at any rate with 1, 2, 6 or 8 channels.
    .mp3 (320 kbit/s), .ogg and .opus (both Opus, 192 kbit/s) and .m4a (AAC, 256 kbit/s) take 1 or 2 channels
    and are resampled to the next rate that the format supports.

    Args:
        path: The file to write.
        waveform: (C, S) floating point; values beyond -1..1 are clipped, with a warning in the log.
        rate: Sample rate in hertz.
        keep_floats: Whether .wav holds 32-bit floating point instead, which keeps every value. Other formats
            ignore this.

    Raises:
        InputError: The suffix is unknown, or the format cannot hold the waveform.
        MediaError: The file cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() not in _AUDIO_FILES:
        raise InputError(
            f"{path.name} does not end in a known audio suffix. Use one of {', '.join(_AUDIO_FILES)}."
        )
    container, codec = _AUDIO_FILES[path.suffix.lower()]
    if keep_floats and codec is PCM:
        codec = PCM_FLOAT
    waveform = check_waveform(waveform, rate)
    if len(waveform) not in codec.channels:
        allowed = ", ".join(map(str, codec.channels))
        raise InputError(
            f"The waveform has {len(waveform)} channels, but {path.suffix} can hold {allowed}. "
            "Mix it down first."
        )
    with open_output(path, container) as output:
        encoder = AudioEncoder(output, codec, waveform, int(rate))
        encoder.write()
        encoder.close()


@dataclass(frozen=True)
class _SoundTrack:
    """A decoded audio track.

    Attributes:
        samples: (C, S) float32.
        rate: Hertz.
        start: Time of the first sample, in seconds of the file.
        names: FFmpeg's name of each channel.
    """

    samples: np.ndarray
    rate: int
    start: float
    names: list[str]

    def mix(self) -> Tensor:
        """(1 or 2, S), or all channels if they have no names."""
        waveform = torch.from_numpy(self.samples)
        is_surround = len(waveform) > 2 and waveform.numel() > 0
        mixed = mix_by_names(waveform, self.names) if is_surround else None
        return waveform if mixed is None else mixed


def _read_first_track(source: MediaSource, seconds: float) -> _SoundTrack:
    """Decode the first audio track of a file, or its first seconds."""
    if not seconds > 0:
        raise InputError(f"{seconds} s of {source_name(source)} would be read. Give a length above 0 s.")
    clock = find_clock(source)
    with open_media(source) as container:
        track = _decode_first_track(container, source, clock, seconds=seconds)
    return replace(track, samples=track.samples[:, : math.ceil(min(seconds, LONGEST_FILM) * track.rate)])


def _decode_first_track(
    container: InputContainer,
    source: MediaSource,
    clock: Clock,
    *,
    seconds: float = math.inf,
    end: float = math.inf,
) -> _SoundTrack:
    """Decode the first audio track of a file that was just opened, up to a length or a time of the file."""
    reader, assembly, names = SampleReader(), None, []
    if math.isinf(min(seconds, end)):
        _check_length(container, source, clock)
    for frame in _decoded_frames(clock.demux(container, _first_stream(container, source))):
        channels, rate, time = frame.layout.nb_channels, frame.sample_rate, frame.time
        if assembly is None:
            assembly = SoundAssembly(rate, channels, time or 0.0, MOST_SAMPLES)
            names = [channel.name for channel in frame.layout.channels]
        elif (channels, rate) != (assembly.channels, assembly.rate):
            raise MediaError(
                f"{source_name(source)} changes midway from {assembly.channels} channels at "
                f"{assembly.rate} Hz to {channels} at {rate} Hz. Convert it to a single format first."
            )
        assembly.add(reader.read(frame), time)
        if assembly.seconds >= seconds or assembly.start + assembly.seconds >= end:
            break
    if assembly is None:
        raise MediaError(
            f"No audio of {source_name(source)} can be decoded. The file is damaged or incomplete. Choose "
            "another file."
        )
    return _SoundTrack(assembly.join(), assembly.rate, assembly.start, names)


def _check_length(container: InputContainer, source: MediaSource, clock: Clock) -> None:
    """Refuse audio that is too long by its packets or its header, before it is decoded. Raises MediaError.

    Uncompressed audio is as large as its file, whatever the header says. Where a file claims more than a day
    its times are damaged, and only what can be decoded counts.
    """
    stream: Any = _first_stream(container, source)
    codec = stream.codec_context
    rate, channels = codec.sample_rate or 0, codec.channels or 0
    if stream.index in clock.ends:
        seconds = clock.ends[stream.index] - clock.starts.get(stream.index, 0.0)
    elif stream.duration:
        seconds = float(stream.duration * stream.time_base)
    else:
        seconds = (container.duration or 0) / 1e6
    if codec.name.startswith("pcm_") or seconds > LONGEST_FILM:
        return
    if seconds * rate * channels > MOST_SAMPLES:
        raise MediaError(
            f"{source_name(source)} lasts {seconds:.6g} s, with {channels} channels at {rate} Hz. At most "
            f"{MOST_SAMPLES // channels // rate} s of this can be used at once. Cut it into parts."
        )


def _first_stream(container: InputContainer, source: MediaSource) -> AudioStream:
    """The first audio track. Raises MediaError if there is none, or none that FFmpeg can decode."""
    if not container.streams.audio:
        raise MediaError(f"{source_name(source)} has no audio. Choose a file with an audio track.")
    stream: AudioStream = container.streams.audio[0]
    if stream.codec_context is None:
        raise MediaError(
            f"The audio of {source_name(source)} cannot be decoded: FFmpeg does not know its codec. Convert "
            "it, or choose another file."
        )
    return stream


def _decoded_frames(packets: Iterator[Any]) -> Iterator[AudioFrame]:
    """All audio frames. Damaged packets are skipped, with one warning."""
    import av

    damaged = 0
    while True:
        try:
            packet = next(packets, None)
            if packet is None:
                break
            yield from packet.decode()
        except av.error.FFmpegError:
            damaged += 1
    if damaged:
        log.warning("Skipped %d audio packets that cannot be decoded.", damaged)
