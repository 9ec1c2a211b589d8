"""Reads and writes audio files, and reads the sound of videos.

C channels, S samples. Waveforms are float32 in [-1, 1] on the CPU.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError, MediaError
from .containers import MediaSource, open_media, seconds_per_tick, source_name, video_stream
from .encoding import AAC, FLAC, MP3, OPUS, PCM, AudioEncoder, open_output
from .waveforms import check_waveform

if TYPE_CHECKING:  # PyAV is loaded only when a file is opened
    from av.audio.frame import AudioFrame
    from av.audio.stream import AudioStream
    from av.container import InputContainer

log = logging.getLogger(__name__)

_FULL_SCALE = {"u8": 2**7, "s16": 2**15, "s32": 2**31, "s64": 2**63}
_AUDIO_FILES = {
    ".wav": ("wav", PCM),
    ".flac": ("flac", FLAC),
    ".mp3": ("mp3", MP3),
    ".ogg": ("ogg", OPUS),  # newer builds of PyAV lack Vorbis
    ".opus": ("opus", OPUS),
    ".m4a": ("ipod", AAC),
}
AUDIO_SUFFIXES = tuple(_AUDIO_FILES)


def read_audio(source: MediaSource) -> tuple[Tensor, int]:
    """Read the first audio track of an audio or video file.

    Integer samples are divided by full scale; floating-point samples stay as they are. All decoded samples
    are kept, including the padding at the end of an AAC track. Damaged packets are skipped, with a warning.

    Args:
        source: A path or a seekable binary file, in any format that PyAV reads.

    Returns:
        The waveform (C, S), float32 in -1..1, and its sample rate in hertz.

    Raises:
        MediaError: The file cannot be read or has no audio.
    """
    with open_media(source) as container:
        if not container.streams.audio:
            raise MediaError(f"{source_name(source)} has no audio. Choose a file with an audio track.")
        waveform, rate, _ = _decode_first_track(container, source)
    return waveform, rate


def read_soundtrack(source: MediaSource) -> tuple[Tensor, int, float] | None:
    """Read the first audio track of a video, and when it begins.

    Args:
        source: A path or a seekable binary file.

    Returns:
        The waveform (C, S), its sample rate in hertz, and its start in seconds after the first frame (may be
        negative), by the file's timestamps. None if the video has no audio.

    Raises:
        MediaError: The file cannot be read or has no video.
    """
    with open_media(source) as container:
        stream = video_stream(container, source)
        origin = (stream.start_time or 0) * seconds_per_tick(stream)
        if not container.streams.audio:
            return None
        waveform, rate, start = _decode_first_track(container, source)
    return waveform, rate, start - origin


def write_audio(path: str | Path, waveform: Tensor, rate: int) -> None:
    """Write a waveform to an audio file. The file appears only once it is complete.

    The suffix chooses the format: .wav and .flac are 24-bit PCM at any rate with 1, 2, 6 or 8 channels.
    .mp3 (320 kbit/s), .ogg and .opus (both Opus, 192 kbit/s) and .m4a (AAC, 256 kbit/s) take 1 or 2 channels
    and are resampled to the next rate that the format supports.

    Args:
        path: The file to write.
        waveform: (C, S) floating point; values beyond -1..1 are clipped, with a warning in the log.
        rate: Sample rate in hertz.

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


def _decode_first_track(container: InputContainer, source: MediaSource) -> tuple[Tensor, int, float]:
    """((C, S), rate, time of the first sample in seconds) of the first audio track."""
    chunks: list[np.ndarray] = []
    rate, start = 0, 0.0
    for frame in _decoded_frames(container, container.streams.audio[0]):
        samples = _to_float(frame)
        if chunks and (len(samples) != len(chunks[0]) or frame.sample_rate != rate):
            raise MediaError(
                f"{source_name(source)} changes midway from {len(chunks[0])} channels at {rate} Hz to "
                f"{len(samples)} at {frame.sample_rate} Hz. Convert it to a single format first."
            )
        if not chunks:
            start = frame.time or 0.0
        chunks.append(samples)
        rate = frame.sample_rate
    if not chunks:
        raise MediaError(
            f"No audio of {source_name(source)} can be decoded. The file is damaged or incomplete. Choose "
            "another file."
        )
    return torch.from_numpy(np.concatenate(chunks, axis=1)), rate, start


def _decoded_frames(container: InputContainer, stream: AudioStream) -> Iterator[AudioFrame]:
    """All audio frames. Damaged packets are skipped, with one warning."""
    import av

    damaged = 0
    packets = container.demux(stream)
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


def _to_float(frame: AudioFrame) -> np.ndarray:
    """One decoded frame -> (C, S) float32."""
    sample_format = frame.format.packed.name  # "s16" for both "s16" and "s16p"
    array = frame.to_ndarray()
    if not frame.format.is_planar:
        array = array.reshape(-1, len(frame.layout.channels)).T
    if sample_format not in _FULL_SCALE:
        return array.astype(np.float32)
    scale = _FULL_SCALE[sample_format]
    offset = scale if sample_format == "u8" else 0
    return ((array.astype(np.float64) - offset) / scale).astype(np.float32)
