"""Adds sound to a video: where it begins, its gain, and whether the video's own audio stays under it.

C channels, S samples. Times are seconds, gains decibels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ..errors import InputError, check_range
from ..utf8 import get_logger
from .audio_video import read_soundtrack
from .containers import MediaSource
from .muxing import replace_audio_track
from .probing import probe_video
from .waveforms import check_waveform, conform_audio

log = get_logger(__name__)

_GAINS = (-200.0, 100.0)  # decibels
_LATEST = 86400.0  # seconds


@dataclass(frozen=True, kw_only=True, eq=False)
class PlacedSound:
    """A sound at a position in time.

    Attributes:
        waveform: (C, S).
        rate: Sample rate in hertz.
        start: Seconds at which it begins; a negative start cuts its beginning.
        gain: Decibels.
    """

    waveform: Tensor
    rate: int
    start: float = 0.0
    gain: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Mix:
    """Position and gains of a sound that is added to a video.

    Attributes:
        start: Seconds into the used part of the video at which the sound begins; a negative start cuts its
            beginning.
        gain: Decibels for the sound.
        original_gain: Decibels for the video's own audio; None drops it.
        shortest: Whether the video ends with the sound, if that is earlier. Otherwise the video keeps its
            length.
    """

    start: float = 0.0
    gain: float = 0.0
    original_gain: float | None = None
    shortest: bool = False

    def __post_init__(self) -> None:
        """Raise `InputError` for values out of range."""
        _check_placement(self.start, self.gain)
        if self.original_gain is not None:
            check_range("original_gain", self.original_gain, *_GAINS, " dB")


def add_sound_to_video(
    video: MediaSource,
    sound: tuple[Tensor, int],
    out: Path,
    mix: Mix,
    *,
    trim: tuple[float, float] = (0.0, 0.0),
    original: tuple[Tensor, int] | None = None,
    metadata: Mapping[str, str] | None = None,
    check_cancelled: Callable[[], None] | None = None,
) -> None:
    """Write a video with a sound added to it, by `replace_audio_track`.

    Args:
        video: A path or a seekable binary file.
        sound: Waveform (C, S) and its sample rate.
        out: The file to write.
        mix: Position and gains.
        trim: (start, duration) of the part of the video that is used; duration 0: to the end.
        original: Waveform and rate of the video's own audio in the used part, if the file lacks it.
        metadata: Tags for the file.
        check_cancelled: Called for every frame or packet; may raise.

    Raises:
        InputError: A time, a gain or a waveform is invalid.
        MediaError: A file cannot be read or written.
    """
    sound = check_waveform(*sound), sound[1]
    trim_start, available = trim[0], probe_video(video).duration - trim[0]
    length = min(trim[1] or math.inf, available)
    end = mix.start + sound[0].shape[-1] / sound[1]
    if end <= 0 or mix.start >= length:
        raise InputError(
            f"The sound lies at {mix.start:g} to {end:g} s, but the video lasts from 0 to {length:.6g} s. "
            "Choose a start at which the sound overlaps the video."
        )
    if mix.shortest:
        length = min(length, end)
    sounds = [PlacedSound(waveform=sound[0], rate=sound[1], start=mix.start, gain=mix.gain)]
    if mix.original_gain is not None:
        own = original and (*original, trim_start)
        soundtrack = own or read_soundtrack(video, trim_start + length)
        if soundtrack is None:
            log.info("The video has no audio of its own to mix with.")
        else:
            waveform, rate, start = soundtrack
            sounds.append(
                PlacedSound(waveform=waveform, rate=rate, start=start - trim_start, gain=mix.original_gain)
            )
    mixed, rate = mix_down(sounds, length)
    replace_audio_track(
        video,
        mixed,
        rate,
        out,
        start=trim_start,
        duration=length if length < available else None,
        metadata=metadata,
        check_cancelled=check_cancelled,
    )


def _check_placement(start: float, gain: float) -> None:
    """Raise `InputError` for a start or gain out of range."""
    check_range("start", start, -_LATEST, _LATEST, " s")
    check_range("gain", gain, *_GAINS, " dB")


def mix_down(sounds: Sequence[PlacedSound], seconds: float) -> tuple[Tensor, int]:
    """Mix sounds, as far as they lie in 0..seconds.

    A mix that would clip is scaled down as a whole, with a warning in the log.

    Args:
        sounds: At least one.
        seconds: Upper end of the mix.

    Returns:
        (2, S) float32, ending with the last sound, and its sample rate: the highest of the sounds.

    Raises:
        InputError: A gain or start is not finite, or a waveform is invalid.
    """
    for sound in sounds:
        _check_placement(sound.start, sound.gain)
        check_waveform(sound.waveform, sound.rate)
    rate = max(int(sound.rate) for sound in sounds)
    total = torch.zeros(2, 0)
    for sound in sounds:
        wave = conform_audio(sound.waveform, sound.rate, target_rate=rate) * 10 ** (sound.gain / 20)
        first = round(sound.start * rate)
        wave = wave[:, max(0, -first) : max(0, round(seconds * rate) - first)]
        if not wave.numel():  # it begins after the end
            continue
        end = max(0, first) + wave.shape[1]
        if end > total.shape[1]:
            total = torch.nn.functional.pad(total, (0, end - total.shape[1]))
        total[:, end - wave.shape[1] : end] += wave
    peak = float(total.abs().max()) if total.numel() else 0.0
    if peak > 1:
        log.warning(
            "The mix would peak %.1f dB above full scale, so it is turned down by that much. Lower the gains "
            "to keep the level of the video's own audio.",
            20 * math.log10(peak),
        )
        total = total / peak
    return total, rate
