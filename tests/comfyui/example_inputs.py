"""Small versions of the files that the example workflows use: a long video, sounds, a mask and images."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import videos
from PIL import Image

SOUND_SECONDS, TRACK_SECONDS, LONG_SECONDS = 3, 8, 60
TRACK_RATE = 44100
FILES = (
    "long_video.mp4",
    "mask.png",
    "picture_1.png",
    "picture_2.png",
    "picture_3.png",
    "pocket_film.mp4",
    "sound.wav",
    "track.wav",
    "video.mp4",
)
"""All input files of the examples; video.mp4 is not written here."""


def write_inputs(folder: Path) -> None:
    """Write all `FILES` except video.mp4, which other tests also use."""
    from scipy.io import wavfile

    shutil.copy(Path(__file__).parents[2] / "examples" / "pocket_film.mp4", folder)
    times = videos.frame_times(8 * LONG_SECONDS, 8)
    videos.write_video(folder / "long_video.mp4", times, audio_seconds=LONG_SECONDS)
    random = np.random.default_rng(0)
    for name, seconds, rate in (
        ("sound.wav", SOUND_SECONDS, 22050),
        ("track.wav", TRACK_SECONDS, TRACK_RATE),
    ):
        noise = random.uniform(-0.3, 0.3, (seconds * rate, 2)) * 2**15
        wavfile.write(folder / name, rate, noise.astype(np.int16))
    mask = np.zeros((180, 320, 3), np.uint8)
    mask[40:140, 80:200] = 255
    Image.fromarray(mask).save(folder / "mask.png")
    for number, size in enumerate(((320, 240), (240, 320), (161, 121)), 1):
        Image.new("RGB", size, (60 * number, 200 - 40 * number, 90)).save(folder / f"picture_{number}.png")
