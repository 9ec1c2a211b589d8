"""A picture of a sound: waveform and spectrogram, and a video's pictures above them.

`python -m tools.picture sound.mp4 picture.png`
"""

import argparse
from pathlib import Path

from torch import Tensor

from audiox_ext.film_strip import TimedFrame, film_strip, video_aspect
from audiox_ext.frames import Window
from audiox_ext.media import read_audio
from audiox_ext.pictures import draw_sound, strip_size

SIZE = (1100, 650)


def draw(waveform: Tensor, rate: int, file: Path, *, title: str, video: Path | None = None) -> None:
    """Write the picture of `waveform` (C, S) as a PNG, with pictures of `video` along its time line."""
    frames: list[TimedFrame] = []
    if video is not None:
        seconds = waveform.shape[1] / rate
        count, height = strip_size(SIZE, video_aspect(video))
        frames = film_strip(video, window=Window(), seconds=seconds, count=count, height=height)
    draw_sound(waveform, rate, size=SIZE, frames=frames, title=title).save(file)


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
