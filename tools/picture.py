"""A picture of a sound: waveform and spectrogram, and a video's pictures above them.

`python -m tools.picture sound.mp4 picture.png`
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw
from torch import Tensor

from audiox_ext.media.audio_video import read_audio
from audiox_ext.media.frames import TimeRange
from audiox_ext.plotting.film_strip import TimedFrame
from audiox_ext.plotting.layout import lay_out
from audiox_ext.plotting.sound_image import draw_sound, fill_film_strip

SIZE = (1100, 650)
_MARK = (255, 255, 255, 150)


def draw(
    waveform: Tensor,
    rate: int,
    file: Path,
    *,
    title: str,
    video: Path | None = None,
    marks: Sequence[float] = (),
) -> None:
    """Write the picture of `waveform` (C, S) as a PNG, with pictures of `video` along its time line.

    marks: seconds at which something happens; a line goes down from the video there.
    """
    frames: list[TimedFrame] = []
    if video is not None:
        seconds = waveform.shape[1] / rate
        frames = fill_film_strip(video, size=SIZE, time_range=TimeRange(), seconds=seconds)
    picture = draw_sound(waveform, rate, size=SIZE, frames=frames, title=title)
    _draw_marks(picture, [mark / (waveform.shape[1] / rate) for mark in marks], len(waveform), bool(frames))
    picture.save(file)


def _draw_marks(picture: Image.Image, places: Sequence[float], channels: int, strip: bool) -> None:
    """Lines from above the tracks to the bottom of the spectrogram. places: 0 to 1, along the time line."""
    layout = lay_out(picture.size, channels=channels, strip=strip)
    pen = ImageDraw.Draw(picture, "RGBA")
    top, tip = layout.tracks[0].top, layout.unit // 2
    for place in places:
        x = layout.spectrum.left + place * layout.spectrum.width
        pen.line((x, top, x, layout.spectrum.bottom - 1), fill=_MARK)
        pen.polygon(((x - tip, top - tip), (x + tip, top - tip), (x, top)), fill=_MARK)


def main() -> None:
    """Draw the sound of a file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("sound", type=Path, help="an audio or video file")
    parser.add_argument("picture", type=Path, help="the .png to write")
    parser.add_argument("--video", type=Path, help="a video to show along the time line")
    arguments = parser.parse_args()
    waveform, rate = read_audio(arguments.sound)
    draw(waveform, rate, arguments.picture, title=arguments.sound.name, video=arguments.video)


if __name__ == "__main__":
    main()
