"""Writes items of a dataset as files: sound or video, caption, ground truth, picture."""

from __future__ import annotations

import json
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from audiox_ext.errors import InputError

from ..metrics.measures import judge
from .dataset import Dataset, Item


def write_items(folder: Path, dataset: Dataset, *, pictures: bool = True) -> Iterator[Path]:
    """Write every item of a dataset, and yield the path of each sound or video when it is written.

    Item 12 becomes 00012.wav (24 bit) or 00012.mp4, 00012.txt with the caption, 00012.json with scene and
    measurements, and 00012.png with the picture. A LoRA can be trained on such a folder.

    Args:
        folder: Created if it does not exist.
        dataset: The items.
        pictures: Whether to draw pictures.

    Raises:
        InputError: `folder` is a file.
        MediaError: A file cannot be written.
    """
    from audiox_ext.media.audio_video import write_audio

    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file. Name a folder to write to.")
    folder.mkdir(parents=True, exist_ok=True)
    import torch

    for index in range(len(dataset)):
        item = dataset[index]
        stem = folder / f"{item.number:05d}"
        media = stem.with_suffix(".wav" if item.frames is None else ".mp4")
        if item.frames is None:
            write_audio(media, torch.from_numpy(item.waveform), dataset.rate)
        else:
            write_video(media, item.frames, dataset.fps, item.waveform, dataset.rate)
        stem.with_suffix(".txt").write_text(item.caption + "\n", encoding="utf-8")
        ground_truth = json.dumps(describe(item, dataset.rate), indent=1) + "\n"
        stem.with_suffix(".json").write_text(ground_truth, encoding="utf-8")
        if pictures:
            _draw(item, dataset, stem.with_suffix(".png"))
        yield media


def describe(item: Item, rate: int) -> dict[str, Any]:
    """The ground truth of an item and the measurements of its sound, for a JSON file.

    Args:
        item: The item.
        rate: Hertz.
    """
    findings = [vars(finding) for finding in judge(item.scene, item.waveform, rate)]
    return {"caption": item.caption, "rate": rate, "scene": item.scene.as_dict(), "measured": findings}


def write_video(path: Path, frames: np.ndarray, fps: float, waveform: np.ndarray, rate: int) -> None:
    """Write an .mp4 file (H.264, AAC).

    Args:
        path: The file.
        frames: (T, H, W, 3) uint8 of even width and height.
        fps: Frames per second.
        waveform: (2, S).
        rate: Hertz.

    Raises:
        MediaError: The file cannot be written.
    """
    import av
    import torch

    from audiox_ext.media.encoding import AAC, AudioEncoder, open_output

    with open_output(path, "mp4", {"movflags": "+faststart"}) as output:
        pace = Fraction(fps).limit_denominator(60000)
        stream: Any = output.add_stream("libx264", rate=pace, options={"crf": "18", "preset": "fast"})
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], "yuv420p"
        sound = AudioEncoder(output, AAC, torch.from_numpy(waveform), rate)
        for number, picture in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = number, 1 / pace
            output.mux(stream.encode(frame))
            sound.write((number + 1) / fps)
        output.mux(stream.encode(None))
        sound.close()


def _draw(item: Item, dataset: Dataset, path: Path) -> None:
    """Draw waveform and spectrogram below the video's frames."""
    import torch
    from PIL import Image

    from audiox_ext.plotting.film_strip import TimedFrame
    from audiox_ext.plotting.sound_image import draw_sound, strip_size

    size = (1000, 520 if item.frames is None else 620)
    strip = []
    if item.frames is not None:
        height, width = item.frames.shape[1:3]
        count, tall = strip_size(size, width / height)
        for number in range(count):
            time = number * item.scene.seconds / count
            picture = Image.fromarray(item.frames[int(time * dataset.fps)])
            strip.append(TimedFrame(time, picture.resize((round(tall * width / height), tall))))
    title = f"{item.number}: {item.caption}"
    draw_sound(torch.from_numpy(item.waveform), dataset.rate, size=size, frames=strip, title=title).save(path)
