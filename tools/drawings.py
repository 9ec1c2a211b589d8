"""Draw pictures of synthesised music for the documentation: `python -m tools.drawings`.

Nothing in them comes from a published model or a film. This module synthesises the music, the video and the
drum fill that stands for a model's output in the picture of an edit. S samples.
"""

from __future__ import annotations

import math
import tempfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from audiox_ext.checkpoints.config_parser import parse_config
from audiox_ext.checkpoints.untrusted.json_files import read_config
from audiox_ext.media.frames import TimeRange
from audiox_ext.model_info import ModelFacts
from audiox_ext.pipeline.edit_track import WindowJob, edit_track
from audiox_ext.pipeline.editing import AudioEdit, Region
from audiox_ext.plotting.layout import lay_out
from audiox_ext.plotting.sound_image import draw_sound, fill_film_strip

ROOT = Path(__file__).parents[1]
HELP = ROOT / "web" / "docs" / "images"
DOCUMENTS = ROOT / "docs" / "images"
CONFIGURATION = ROOT / "audiox_ext" / "config" / "AudioX-Turbo.json"
RATE = 44100
BEAT = 0.5  # seconds
# One per bar, in semitones above A (110 Hz): A minor, F, C, G.
CHORDS = ((0, 3, 7, 12), (-4, 3, 8, 12), (3, 7, 10, 15), (-2, 5, 10, 14))
QUALITY = 70
MARK = (255, 180, 84)


def make_music(seconds: float = 10.0) -> Tensor:
    """Synthesise chords with bass, hi-hat, snare and kick.

    Args:
        seconds: length.

    Returns:
        (2, S), float32, at `RATE`, peak 0.8. Equal calls return equal sounds.
    """
    random = np.random.default_rng(1)
    music = np.zeros((2, round(seconds * RATE)))
    for beat in range(math.ceil(seconds / BEAT)):
        start = beat * BEAT
        chord = CHORDS[beat // 4 % len(CHORDS)]
        note = chord[(0, 2, 1, 3)[beat % 4]] + 24
        _add(music, start, _tone(110 * 2 ** (note / 12), BEAT * 1.6, decay=5.0), 0.22, pan=(-1) ** beat * 0.5)
        if beat % 4 == 0:
            for place, step in enumerate(chord):
                tone = _tone(110 * 2 ** (step / 12 + 1), 4 * BEAT, decay=1.0)
                _add(music, start, tone, 0.13, pan=0.6 * place - 0.9)
            _add(music, start, _tone(55 * 2 ** (chord[0] / 12), 4 * BEAT, decay=0.8), 0.3)
        if beat % 2 == 0:
            _add(music, start, _kick(), 0.45)
        else:
            _add(music, start, _noise(random, 0.2, decay=22.0), 0.25)
        for half in (0, 0.5):
            hat = np.diff(_noise(random, 0.06, decay=90.0), prepend=0.0)
            _add(music, start + half * BEAT, hat, 0.2 if half else 0.1, pan=0.3)
    return _master(music)


def make_fill(seconds: float = 10.0) -> Tensor:
    """Synthesise a drum fill that accelerates within each bar.

    Args:
        seconds: length.

    Returns:
        (2, S), as `make_music`.
    """
    random = np.random.default_rng(2)
    fill = np.zeros((2, round(seconds * RATE)))
    for beat in range(math.ceil(seconds / BEAT)):
        strokes = 2 ** (beat % 4 + 1)
        for stroke in range(strokes):
            start, gain = (beat + stroke / strokes) * BEAT, 0.3 + 0.1 * (beat % 4)
            _add(fill, start, _kick() if stroke % 4 == 0 else _noise(random, 0.15, decay=35.0), gain)
    return _master(fill)


def draw_music(file: Path) -> None:
    """Draw the music as AudioX View does.

    Args:
        file: the picture to write.
    """
    _save(draw_sound(make_music(), RATE, size=(720, 400)), file)


def write_film(file: Path, seconds: float = 10.0) -> Path:
    """Write a silent video: a ball bounces over hills, whose colour changes with the chord.

    Args:
        file: the video to write.
        seconds: length.

    Returns:
        The file.
    """
    import av

    width, height, rate = 640, 272, 25
    with av.open(str(file), "w") as container:
        stream = container.add_stream("libx264", rate=rate)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for index in range(round(seconds * rate)):
            picture = _draw_scene(index / rate, width, height)
            container.mux(stream.encode(av.VideoFrame.from_image(picture)))
        container.mux(stream.encode())
    return file


def _draw_scene(time: float, width: int, height: int) -> Image.Image:
    """Draw the video's frame at a time in seconds."""
    bar, phase = divmod(time / (4 * BEAT), 1.0)
    hue = int(bar) * 60 % 256
    picture = Image.new("HSV", (width, height), (hue, 90, 235))
    draw = ImageDraw.Draw(picture)
    for layer, shade in enumerate((190, 140, 90)):
        line = [
            (x, height * (0.5 + 0.15 * layer) + 22 * math.sin(x / (90 - 20 * layer) + layer + time / 2))
            for x in range(0, width + 8, 8)
        ]
        draw.polygon([(0, height), *line, (width, height)], fill=((hue + 20) % 256, 130, shade))
    x, y = width * (0.12 + 0.76 * phase), height * (0.7 - 0.5 * abs(math.sin(math.pi * 2 * phase)))
    draw.ellipse((x - 30, y - 30, x + 30, y + 30), fill=(18, 210, 255))
    return picture.convert("RGB")


def draw_with_video(file: Path, folder: Path) -> None:
    """Draw the music below frames of the video.

    Args:
        file: the picture to write.
        folder: folder for the video.
    """
    size, video, music = (1000, 560), write_film(folder / "film.mp4"), make_music()
    seconds = music.shape[-1] / RATE
    frames = fill_film_strip(video, size=size, time_range=TimeRange(), seconds=seconds)
    _save(draw_sound(music, RATE, size=size, frames=frames, title="Chords and drums (synthesised)"), file)


def draw_edit(file: Path, *, region: Region) -> None:
    """Draw a track before and after *AudioX Edit Region*, with a drum fill for the model's output.

    Args:
        file: the picture to write.
        region: the part to replace.
    """
    model = ModelFacts()
    model.config = parse_config(read_config(CONFIGURATION))
    fill = make_fill()

    def make(job: WindowJob) -> Tensor:
        first, count = round(job.seconds * RATE), job.waveform.shape[-1]
        return torch.nn.functional.pad(
            fill[None, :, first : first + count], (0, max(0, first + count - fill.shape[-1]))
        )

    music = make_music()
    edited = edit_track(model, AudioEdit(waveform=music[None], rate=RATE, regions=(region,)), make)[0]
    size = (960, 340)
    both = Image.new("RGB", (size[0], 2 * size[1]))
    for number, (sound, title) in enumerate(
        ((music, "Before"), (edited, "After, with a drum fill in place of a model's sound"))
    ):
        picture = draw_sound(sound, RATE, size=size, title=title)
        _mark(picture, region, music.shape[-1] / RATE)
        both.paste(picture, (0, number * size[1]))
    _save(both, file)


def _mark(picture: Image.Image, region: Region, seconds: float) -> None:
    """Draw a frame around the region."""
    layout = lay_out(picture.size, channels=2)
    draw = ImageDraw.Draw(picture)
    box = layout.spectrum
    left, right = (box.left + round(time / seconds * box.width) for time in (region.start, region.end))
    draw.rectangle((left, layout.tracks[0].top, right, box.bottom - 1), outline=MARK, width=2)


def _master(music: np.ndarray) -> Tensor:
    """Compress gently and normalise to a peak of 0.8: (2, S), float32."""
    loud = np.tanh(1.8 * music / np.abs(music).max())
    return torch.from_numpy((0.8 * loud / np.abs(loud).max()).astype(np.float32))


def _tone(hertz: float, seconds: float, *, decay: float) -> np.ndarray:
    """Synthesise a soft plucked tone with a peak of about 1."""
    time = np.arange(round(seconds * RATE)) / RATE
    parts = sum(
        np.sin(2 * np.pi * hertz * n * time) * np.exp(-decay * n * time) / n**1.5 for n in range(1, 9)
    )
    fade = np.minimum(1, np.minimum(time / 0.005, (time[-1] - time) / 0.03))
    return np.asarray(parts * fade)


def _kick() -> np.ndarray:
    """Synthesise a bass drum."""
    time = np.arange(round(0.3 * RATE)) / RATE
    return np.asarray(np.sin(2 * np.pi * (50 * time + 6 * (1 - np.exp(-25 * time)))) * np.exp(-10 * time))


def _noise(random: np.random.Generator, seconds: float, *, decay: float) -> np.ndarray:
    """Synthesise decaying noise."""
    time = np.arange(round(seconds * RATE)) / RATE
    return np.asarray(random.uniform(-1, 1, time.size) * np.exp(-decay * time))


def _add(music: np.ndarray, start: float, sound: np.ndarray, gain: float, pan: float = 0.0) -> None:
    """Mix a sound into (2, S), panned from -1 (left) to 1 (right)."""
    first = round(start * RATE)
    target = music[:, first : first + sound.size]
    for channel, weight in enumerate((1 - pan, 1 + pan)):
        target[channel] += gain * min(1.0, weight) * sound[: target.shape[1]]


def _save(picture: Image.Image, file: Path) -> None:
    """Write a picture and print its size."""
    file.parent.mkdir(parents=True, exist_ok=True)
    picture.save(file, quality=QUALITY, optimize=True)
    print(f"{file}: {picture.width} x {picture.height}, {file.stat().st_size / 1000:.0f} kB")


def main() -> None:
    """Draw all pictures."""
    draw_music(HELP / "music.jpg")
    with tempfile.TemporaryDirectory() as folder:
        draw_with_video(DOCUMENTS / "view.jpg", Path(folder))
    draw_edit(DOCUMENTS / "edit_region.jpg", region=Region(start=4.0, end=6.0))


if __name__ == "__main__":
    main()
