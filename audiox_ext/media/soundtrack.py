"""A sound on a video: where it begins, how loud it is, and whether the video's own sound stays under it.

C channels, S samples. Times are seconds, gains decibels.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ..errors import InputError
from .audio_video import read_soundtrack
from .containers import MediaSource
from .muxing import replace_audio_track
from .probing import probe_video
from .waveforms import check_waveform, conform_audio

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, eq=False)
class PlacedSound:
    """A sound in time: waveform (C, S), its rate in hertz, when it begins (below 0: its beginning is cut)."""

    waveform: Tensor
    rate: int
    start: float = 0.0
    gain: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Mix:
    """How a sound goes onto a video.

    start: when it begins, in seconds of the part of the video that is used; below 0 its beginning is cut.
    original_gain: of the video's own sound, which is dropped if it is None. shortest: the video ends with the
    sound, if that is earlier; else the video's length decides.
    """

    start: float = 0.0
    gain: float = 0.0
    original_gain: float | None = None
    shortest: bool = False


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
    """Write `video` with a sound on it to `out`; its pictures are copied where `replace_audio_track` does.

    sound: (waveform (C, S), rate). trim: (start, duration), the part of the video that is used; duration 0 =
    to the end. original: (waveform, rate) of the video's own sound where its file does not hold it, beginning
    with the used part. metadata, check_cancelled: see `replace_audio_track`.
    Raises InputError for times, gains and waveforms that cannot be used, MediaError for files that cannot be.
    """
    sound = check_waveform(*sound), sound[1]
    begin, length = trim
    available = probe_video(video).duration - begin
    length = min(length or math.inf, available)
    end = mix.start + sound[0].shape[-1] / sound[1]
    if end <= 0 or mix.start >= length:
        raise InputError(
            f"The sound would be heard from {mix.start:g} to {end:g} s, but the video lasts from 0 to "
            f"{length:.6g} s: choose a start at which something of it is heard."
        )
    if mix.shortest:
        length = min(length, end)
    sounds = [PlacedSound(waveform=sound[0], rate=sound[1], start=mix.start, gain=mix.gain)]
    if mix.original_gain is not None:
        own = read_soundtrack(video) if original is None else (*original, begin)
        if own is None:
            log.info("The video has no sound of its own to mix with.")
        else:
            waveform, rate, start = own
            sounds.append(
                PlacedSound(waveform=waveform, rate=rate, start=start - begin, gain=mix.original_gain)
            )
    mixed, rate = mix_down(sounds, length)
    replace_audio_track(
        video,
        mixed,
        rate,
        out,
        start=begin,
        duration=length if length < available else None,
        metadata=metadata,
        check_cancelled=check_cancelled,
    )


def mix_down(sounds: Sequence[PlacedSound], seconds: float) -> tuple[Tensor, int]:
    """((2, S) float32, rate): all sounds together, as far as they lie in 0..seconds.

    rate is the highest of theirs; S ends with the last sound. A mix that would clip is scaled down as a
    whole, with a warning in the log.
    Raises InputError for gains that are no number, and for what is no sound.
    """
    rate = max(int(sound.rate) for sound in sounds)
    total = torch.zeros(2, 0)
    for sound in sounds:
        if not (math.isfinite(sound.gain) and math.isfinite(sound.start)):
            raise InputError(
                f"The gain is {sound.gain} dB and the start {sound.start} s: give numbers for both."
            )
        wave = conform_audio(sound.waveform, sound.rate, target_rate=rate) * 10 ** (sound.gain / 20)
        first = round(sound.start * rate)
        wave = wave[:, max(0, -first) : max(0, round(seconds * rate) - first)]
        end = max(0, first) + wave.shape[1]
        if end > total.shape[1]:
            total = torch.nn.functional.pad(total, (0, end - total.shape[1]))
        total[:, end - wave.shape[1] : end] += wave
    peak = float(total.abs().max()) if total.numel() else 0.0
    if peak > 1:
        log.warning(
            "The sound on the video would peak %.1f dB above full scale: all of it is made as much quieter. "
            "Lower the gains to keep their proportion to other sounds.",
            20 * math.log10(peak),
        )
        total = total / peak
    return total, rate
