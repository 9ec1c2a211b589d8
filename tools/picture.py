"""Draw a sound: waveform and spectrogram, with a video's frames above them.

C channels, S samples. `python -m tools.picture sound.mp4 picture.png`
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
    """Draw a sound and write the picture.

    Args:
        waveform: (C, S), in [-1, 1].
        rate: sample rate in hertz.
        file: the .png to write.
        title: text above the picture.
        video: a video whose frames are drawn along the time axis.
        marks: times in seconds at which to draw a vertical line.
    """
    frames: list[TimedFrame] = []
    if video is not None:
        seconds = waveform.shape[1] / rate
        frames = fill_film_strip(video, size=SIZE, time_range=TimeRange(), seconds=seconds)
    picture = draw_sound(waveform, rate, size=SIZE, frames=frames, title=title)
    _draw_marks(picture, [mark / (waveform.shape[1] / rate) for mark in marks], len(waveform), bool(frames))
    picture.save(file)


def _draw_marks(picture: Image.Image, positions: Sequence[float], channels: int, strip: bool) -> None:
    """Draw lines through tracks and spectrogram at positions from 0 to 1 on the time axis."""
    layout = lay_out(picture.size, channels=channels, strip=strip)
    pen = ImageDraw.Draw(picture, "RGBA")
    top, tip = layout.tracks[0].top, layout.unit // 2
    for position in positions:
        x = layout.spectrum.left + position * layout.spectrum.width
        pen.line((x, top, x, layout.spectrum.bottom - 1), fill=_MARK)
        pen.polygon(((x - tip, top - tip), (x + tip, top - tip), (x, top)), fill=_MARK)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("sound", type=Path, help="an audio or video file")
    parser.add_argument("picture", type=Path, help="the .png to write")
    parser.add_argument("--video", type=Path, help="a video to show along the time line")
    arguments = parser.parse_args()
    waveform, rate = read_audio(arguments.sound)
    draw(waveform, rate, arguments.picture, title=arguments.sound.name, video=arguments.video)


if __name__ == "__main__":
    main()
