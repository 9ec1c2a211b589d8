"""Draw the README's picture: frames of the example film above the sound that audiox-pocket makes for it.

`python -m tools.film_picture` runs the model and writes docs/images/film_and_sound.jpg.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from PIL import Image, ImageDraw
from torch import Tensor

from audiox_ext import (
    AudioRequest,
    GenerationSettings,
    extract_video_features,
    get_pretrained_model,
    make_audio,
)
from audiox_ext.checkpoints.catalog import DEFAULT_MODEL
from audiox_ext.checkpoints.encoders import load_synchformer
from audiox_ext.media.frames import TimeRange, sample_frames
from audiox_ext.media.loudness import normalise
from audiox_ext.plotting.layout import lay_out
from audiox_ext.plotting.sound_image import draw_sound
from tools.film import FILM, PROMPT, film_scene

PICTURE = Path(__file__).parents[1] / "docs" / "images" / "film_and_sound.jpg"
SIZE = (1200, 470)  # pixels of the sound's picture
FRAME = 150  # pixels of a frame's side
START, SECONDS = 2.25, 5.0  # the part of the film with its four blows
FLASH = 0.05  # seconds after a blow at which its flash is drawn
MARK = (255, 255, 255, 170)
GAP = 8  # pixels between the frames and the sound
QUALITY = 85


def make_sound() -> tuple[Tensor, int]:
    """Make the sound of the film.

    Returns:
        The waveform (channels, samples), at a peak of -1 dBFS, and its sample rate.
    """
    model, _ = get_pretrained_model(DEFAULT_MODEL)
    assert model.folder is not None
    synchformer = load_synchformer(model.folder / "synchformer_state_dict.safetensors")
    features = extract_video_features(
        FILM,
        encode_sync=lambda frames: synchformer(frames).float(),
        video_fps=model.video_fps,
        seconds=model.conditioning_seconds,
    )
    settings = GenerationSettings(duration=features.duration)
    request = AudioRequest(prompt=PROMPT, features=features, settings=settings)
    waveform = make_audio(model, request, device="cpu")[0]
    return normalise(waveform, model.sample_rate, mode="peak", target=-1.0, ceiling=-1.0), model.sample_rate


def draw(waveform: Tensor, rate: int, blows: Sequence[float]) -> Image.Image:
    """Draw the sound below frames of the film, with a line at every blow.

    Args:
        waveform: (channels, samples), in [-1, 1].
        rate: Hertz.
        blows: Seconds of the film at which the hammer strikes.

    Returns:
        An RGB picture.
    """
    title = f"Film and prompt: {PROMPT}"
    sound = draw_sound(waveform, rate, size=SIZE, start=START, duration=SECONDS, title=title)
    layout = lay_out(SIZE, channels=len(waveform))
    top, box = layout.title.bottom, layout.spectrum

    def column(time: float) -> int:
        return box.left + round((time - START) / SECONDS * box.width)

    picture = Image.new("RGB", (SIZE[0], SIZE[1] + FRAME + GAP), sound.getpixel((0, 0)))
    picture.paste(sound.crop((0, 0, SIZE[0], top)), (0, 0))
    picture.paste(sound.crop((0, top, *SIZE)), (0, top + FRAME + GAP))
    times = sorted([START, *blows, *((a + b) / 2 for a, b in pairwise(blows))])
    for time, until in pairwise([*times, START + SECONDS]):
        frame = read_frame(time + FLASH if time in blows else time)
        width = min(FRAME, column(until) - column(time) - 2)
        margin = (FRAME - width) // 2
        picture.paste(frame.crop((margin, 0, margin + width, FRAME)), (column(time), top))
    pen = ImageDraw.Draw(picture, "RGBA")
    for blow in blows:
        pen.line((column(blow), top, column(blow), box.bottom + FRAME + GAP), fill=MARK, width=2)
    return picture


def read_frame(time: float) -> Image.Image:
    """The film's frame at a time in seconds, as a square of `FRAME` pixels."""
    moment = TimeRange(start=time, duration=1.0)
    pixels = sample_frames(FILM, rates=(1.0,), seconds=1.0, time_range=moment).frames[0][0]
    frame = Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy())
    return frame.resize((FRAME, FRAME), Image.Resampling.LANCZOS)


def main() -> None:
    """Run the model and write the picture."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.film_picture", description="Draw the README's picture."
    )
    parser.add_argument("file", type=Path, nargs="?", default=PICTURE, help="the .jpg to write")
    file = parser.parse_args().file
    waveform, rate = make_sound()
    picture = draw(waveform, rate, film_scene(waveform.shape[1] / rate).parts[0].onsets)
    picture.save(file, quality=QUALITY, optimize=True)
    print(f"{file}: {picture.width} x {picture.height}, {file.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
