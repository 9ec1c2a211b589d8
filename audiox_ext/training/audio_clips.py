"""Cuts files of any length, rate and channel count into clips of a model's length.

C channels, S samples.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..errors import AudioXError, InputError, MediaError
from ..media.audio_video import read_soundtrack, read_stereo
from ..media.containers import open_media, video_stream
from ..media.waveforms import conform_audio
from ..utf8 import escape_surrogates
from .audio_folder import AudioFolder, CaptionedFile, list_some

_SILENT_PEAK = 10 ** (-60 / 20)  # -60 dBFS
_SHORTEST_REST = 0.25  # fraction of a clip; a shorter rest at the end of a long file is not used


@dataclass(frozen=True, kw_only=True)
class ClipShape:
    """The clips that a model takes.

    Attributes:
        rate: sample rate in hertz.
        channels: channels of the waveform.
        samples: samples per clip.
        min_seconds: shortest file that is used.
    """

    rate: int
    channels: int
    samples: int
    min_seconds: float = 0.5

    @property
    def seconds(self) -> float:
        """Length of a clip."""
        return self.samples / self.rate


@dataclass(frozen=True, kw_only=True, eq=False)
class Clip:
    """A part of a file.

    Attributes:
        file: file that the clip was cut from.
        start: seconds into the file.
        seconds: length of the part.
        waveform: (C, S), padded with silence.
        has_pictures: whether the file is a video with a picture at `start`.
    """

    file: CaptionedFile
    start: float
    seconds: float
    waveform: Tensor
    has_pictures: bool

    @property
    def name(self) -> str:
        """Name for messages: the file's name, and the start if it is not 0."""
        return self.file.name if self.start == 0 else f"{self.file.name} from {self.start:.1f} s"


@dataclass
class ClipSummary:
    """Collects what the user should know about the clips of a folder.

    Attributes:
        folder: folder that the clips come from.
        shape: shape of the clips.
        clips: number of clips that are used.
        seconds: seconds of sound in the clips.
        videos: clips with pictures.
        cut: files that are longer than a clip, with their number of clips.
        rates: sample rates of the files, in hertz.
        mono: number of mono files.
        silent_parts: parts of long files that are not used.
        skipped: files that are not used, with the reason.
    """

    folder: AudioFolder
    shape: ClipShape
    clips: int = 0
    seconds: float = 0.0
    videos: int = 0
    cut: list[str] = field(default_factory=list)
    rates: set[int] = field(default_factory=set)
    mono: int = 0
    silent_parts: int = 0
    skipped: list[str] = field(default_factory=list)

    def add(self, clip: Clip) -> None:
        """Count a clip that is used."""
        self.clips += 1
        self.seconds += clip.seconds
        self.videos += clip.has_pictures

    def skip(self, file: CaptionedFile, error: Exception) -> None:
        """Record that a file cannot be used, and why."""
        self.skipped.append(f"{file.name} ({_first_line(error)})")

    def check(self) -> None:
        """Raise `InputError` if no clip is used."""
        if not self.clips:
            raise InputError(
                f"No file in {self.folder.folder} can be used for training: {list_some(self.skipped)}. "
                "Add audible sounds."
            )

    def describe(self) -> list[str]:
        """Return sentences for the user."""
        length = f"{self.seconds:.0f} s" if self.seconds < 120 else f"{self.seconds / 60:.1f} min"
        videos = f", {self.videos} of them with pictures" if self.videos else ""
        name = (
            self.folder.folder.resolve().name
        )  # the name alone, because it goes into files that users share
        sentences = [
            f"{name}: {self.clips} clips of {self.shape.seconds:.4g} s{videos}, "
            f"{length} of sound, from {len(self.folder.files)} files."
        ]
        sentences += self.folder.notes
        others = sorted(self.rates - {self.shape.rate})
        if others:
            rates = ", ".join(f"{rate:g}" for rate in others)
            sentences.append(f"Sounds at {rates} Hz are resampled to the model's {self.shape.rate} Hz.")
        if self.mono and self.shape.channels > 1:
            sentences.append(f"{self.mono} files are mono; both channels get their sound.")
        if self.cut:
            sentences.append(f"Longer than a clip, and cut: {list_some(self.cut)}.")
        if self.silent_parts:
            sentences.append(f"{self.silent_parts} silent parts of long files are skipped.")
        if self.skipped:
            sentences.append(f"{len(self.skipped)} files are skipped: {list_some(self.skipped)}.")
        return [escape_surrogates(sentence) for sentence in sentences]


def cut_clips(folder: AudioFolder, shape: ClipShape, summary: ClipSummary) -> Iterator[Clip]:
    """Yield the clips of a folder, file by file.

    The summary notes skipped files. The caller adds each clip that it uses.
    """
    for file in folder.files:
        try:
            clips = _cut_file(file, shape, summary)
        except (AudioXError, OSError) as error:
            summary.skip(file, error)
            continue
        yield from clips


def _cut_file(file: CaptionedFile, shape: ClipShape, summary: ClipSummary) -> list[Clip]:
    """Return the clips of a file. Raises `InputError` with the reason why a file is skipped."""
    waveform, rate, video_seconds = _read_sound(file)
    channels = len(waveform)
    waveform = conform_audio(waveform, rate, target_rate=shape.rate, channels=shape.channels)
    length = waveform.shape[1] / shape.rate
    if length < shape.min_seconds:
        raise InputError(f"only {length:.2f} s long")
    if float(waveform.abs().max()) < _SILENT_PEAK:
        raise InputError("silent")
    starts = range(0, waveform.shape[1], shape.samples)
    if len(starts) > 1 and waveform.shape[1] - starts[-1] < _SHORTEST_REST * shape.samples:
        starts = starts[:-1]
    clips = []
    for start in starts:
        part = waveform[:, start : start + shape.samples]
        if float(part.abs().max()) < _SILENT_PEAK:
            summary.silent_parts += 1
            continue
        clips.append(
            Clip(
                file=file,
                start=start / shape.rate,
                seconds=part.shape[1] / shape.rate,
                waveform=torch.nn.functional.pad(part, (0, shape.samples - part.shape[1])),
                has_pictures=start / shape.rate < video_seconds,
            )
        )
    summary.rates.add(rate)
    summary.mono += channels == 1
    if len(starts) > 1:
        summary.cut.append(f"{file.name} into {len(clips)}")
    return clips


def _read_sound(file: CaptionedFile) -> tuple[Tensor, int, float]:
    """Return (waveform, rate, seconds of pictures). The sound of a video starts at its first picture."""
    seconds = _measure_pictures(file) if file.may_be_video else 0.0
    if not seconds:
        return *read_stereo(file.path), 0.0
    track = read_soundtrack(file.path)
    if track is None:
        raise InputError("a video without sound")
    waveform, rate, start = track
    shift = round(start * rate)
    return torch.nn.functional.pad(waveform, (shift, 0)), rate, seconds  # a negative shift cuts


def _measure_pictures(file: CaptionedFile) -> float:
    """Return the seconds of pictures in a file, 0 if it holds none."""
    from ..media.probing import probe_video

    with open_media(file.path) as container:
        try:
            video_stream(container, file.path)
        except MediaError:
            return 0.0
    duration = probe_video(file.path).duration
    return duration if math.isfinite(duration) else 0.0


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")[:160]
