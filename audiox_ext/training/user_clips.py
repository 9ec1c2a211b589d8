"""Files of any length, rate and channels as clips of a model's length.

C channels, S samples.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..errors import AudioXError, InputError, MediaError
from ..media.audio_video import read_audio, read_soundtrack
from ..media.containers import open_media, video_stream
from ..media.waveforms import conform_audio
from .audio_folder import CaptionedFile, UserFolder, some

_SILENT = 10 ** (-60 / 20)  # a peak below it is no sound
_REST = 0.25  # of a clip's length: what is left at the end of a long file is used if it is as long


@dataclass(frozen=True, kw_only=True)
class ClipShape:
    """What a model takes. rate: hertz. samples: of a clip. shortest: seconds that a file must have."""

    rate: int
    channels: int
    samples: int
    shortest: float = 0.5

    @property
    def seconds(self) -> float:
        return self.samples / self.rate


@dataclass(frozen=True, kw_only=True, eq=False)
class Clip:
    """start, seconds: which part of its file it is. waveform: (C, S), quiet behind its end. has_pictures: the
    file is a video that shows something at `start`.
    """

    file: CaptionedFile
    start: float
    seconds: float
    waveform: Tensor
    has_pictures: bool

    @property
    def name(self) -> str:
        return self.file.name if self.start == 0 else f"{self.file.name} from {self.start:.1f} s"


@dataclass
class ClipSummary:
    """What `clips_of` has found, for the user."""

    folder: UserFolder
    shape: ClipShape
    clips: int = 0
    seconds: float = 0.0
    videos: int = 0
    cut: list[str] = field(default_factory=list)
    rates: set[int] = field(default_factory=set)
    mono: int = 0
    quiet_parts: int = 0
    skipped: list[str] = field(default_factory=list)

    def add(self, clip: Clip) -> None:
        """One more that is used."""
        self.clips += 1
        self.seconds += clip.seconds
        self.videos += clip.has_pictures

    def leave_out(self, file: CaptionedFile, error: Exception) -> None:
        """A file that cannot be used, and why."""
        self.skipped.append(f"{file.name} ({_first_line(error)})")

    def check(self) -> None:
        """Raises `InputError` where nothing is used."""
        if not self.clips:
            raise InputError(
                f"Nothing in {self.folder.folder} can be trained on: {some(self.skipped)}. Put sounds there "
                "that can be heard."
            )

    def lines(self) -> list[str]:
        """Sentences."""
        length = f"{self.seconds:.0f} s" if self.seconds < 120 else f"{self.seconds / 60:.1f} min"
        of_videos = f", {self.videos} of them with pictures" if self.videos else ""
        name = self.folder.folder.resolve().name  # alone: it goes into files that others get
        told = [
            f"{name}: {self.clips} clips of {self.shape.seconds:.4g} s{of_videos}, "
            f"{length} of sound, from {len(self.folder.files)} files."
        ]
        told += self.folder.notes
        others = sorted(self.rates - {self.shape.rate})
        if others:
            rates = ", ".join(f"{rate:g}" for rate in others)
            told.append(f"Sounds at {rates} Hz are brought to the model's {self.shape.rate} Hz.")
        if self.mono and self.shape.channels > 1:
            told.append(f"{self.mono} files are mono; their sound goes to both channels.")
        if self.cut:
            told.append(f"Longer than a clip, and cut: {some(self.cut)}.")
        if self.quiet_parts:
            told.append(f"{self.quiet_parts} silent parts of long files are left out.")
        if self.skipped:
            told.append(f"{len(self.skipped)} files are left out: {some(self.skipped)}.")
        return told


def clips_of(folder: UserFolder, shape: ClipShape, summary: ClipSummary) -> Iterator[Clip]:
    """The clips of a folder, file by file; what is left out, and why, is told in the summary. Whoever uses a
    clip adds it there.
    """
    for file in folder.files:
        try:
            parts = _parts(file, shape, summary)
        except (AudioXError, OSError) as error:
            summary.leave_out(file, error)
            continue
        yield from parts


def _parts(file: CaptionedFile, shape: ClipShape, summary: ClipSummary) -> list[Clip]:
    """The clips of one file. Raises `InputError` for one that is left out, saying why."""
    waveform, rate, seconds_of_pictures = _sound(file)
    channels = len(waveform)
    waveform = conform_audio(waveform, rate, target_rate=shape.rate, channels=shape.channels)
    length = waveform.shape[1] / shape.rate
    if length < shape.shortest:
        raise InputError(f"only {length:.2f} s long")
    if float(waveform.abs().max()) < _SILENT:
        raise InputError("silent")
    starts = range(0, waveform.shape[1], shape.samples)
    if len(starts) > 1 and waveform.shape[1] - starts[-1] < _REST * shape.samples:
        starts = starts[:-1]
    clips = []
    for begin in starts:
        part = waveform[:, begin : begin + shape.samples]
        if float(part.abs().max()) < _SILENT:
            summary.quiet_parts += 1
            continue
        clips.append(
            Clip(
                file=file,
                start=begin / shape.rate,
                seconds=part.shape[1] / shape.rate,
                waveform=torch.nn.functional.pad(part, (0, shape.samples - part.shape[1])),
                has_pictures=begin / shape.rate < seconds_of_pictures,
            )
        )
    summary.rates.add(rate)
    summary.mono += channels == 1
    if len(starts) > 1:
        summary.cut.append(f"{file.name} into {len(clips)}")
    return clips


def _sound(file: CaptionedFile) -> tuple[Tensor, int, float]:
    """(waveform, rate, seconds of pictures): of a video from its first picture on."""
    seconds = _seconds_of_pictures(file) if file.may_be_video else 0.0
    if not seconds:
        return *read_audio(file.path), 0.0
    track = read_soundtrack(file.path)
    if track is None:
        raise InputError("a video without sound")
    waveform, rate, begin = track
    shift = round(begin * rate)
    return torch.nn.functional.pad(waveform, (shift, 0)), rate, seconds  # a negative one cuts


def _seconds_of_pictures(file: CaptionedFile) -> float:
    """0 for a file that holds none."""
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
