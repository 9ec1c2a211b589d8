"""A sound as a picture: film strip, waveform and spectrogram on one time line. Latents as a small picture.

B pictures, C channels, S samples, L latents, H height, W width. Drawn with Pillow and numpy alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError
from ..media.frames import TimeRange, Trim, VideoSource
from ..media.probing import probe_video
from ..media.waveforms import check_waveform
from .colormap import apply_colormap
from .film_strip import TimedFrame, sample_film_strip
from .layout import format_duration, lay_out
from .panels import (
    PAGE,
    Canvas,
    View,
    draw_bar,
    draw_caption,
    draw_spectrum,
    draw_strip,
    draw_times,
    draw_track,
)
from .spectrogram import Columns, log_frequencies, outline, spectrogram

if TYPE_CHECKING:
    from PIL.Image import Image

LOWEST = 20.0  # hertz; the lower end of the frequency axis
SMALLEST, LARGEST = 256, 8192  # pixels a side

_NAMES = {1: ("",), 2: ("L", "R")}


def draw_sound(
    waveform: Tensor,
    rate: int,
    *,
    size: tuple[int, int] = (1100, 650),
    start: float = 0.0,
    duration: float | None = None,
    frames: Sequence[TimedFrame] = (),
    title: str = "",
) -> Image:
    """An RGB picture: caption, film strip (if there are frames), a track a channel, spectrogram, colour bar.

    waveform: (C, S) or (1, C, S), floating point, 1 to 8 channels, any length. size: (width, height), 256 to
    8192 each. start, duration: the part to look at, in seconds; duration None: to the end. frames: their
    times count from the start of the part; each is drawn from there to the next. Tracks show lowest and
    highest value a column, and the RMS in a brighter colour; red marks what is beyond full scale. Raises
    InputError for an empty or broken waveform, or a part that is not in it.
    """
    from PIL import Image, ImageDraw

    waveform = check_waveform(waveform, rate)
    if len(waveform) > 8:
        raise InputError(f"The sound has {len(waveform)} channels: 1 to 8 can be drawn.")
    if not all(SMALLEST <= side <= LARGEST for side in size):
        raise InputError(
            f"A picture of {size[0]} x {size[1]} pixels was asked for: give {SMALLEST} to {LARGEST} each."
        )
    layout = lay_out(size, channels=len(waveform), strip=bool(frames))
    view = _view(waveform, rate, start, duration, layout.spectrum.width)
    image = Image.new("RGB", size, PAGE)
    canvas = Canvas(image=image, draw=ImageDraw.Draw(image, "RGBA"), layout=layout)
    draw_caption(canvas, _facts(waveform, rate, view), title)
    if frames:
        draw_strip(canvas, frames, view)
    _draw_tracks(canvas, waveform, view)
    lowest, highest = frequency_range(rate)
    edges = log_frequencies(lowest, highest, layout.spectrum.height)
    levels = spectrogram(waveform, rate, columns=view.columns, edges=edges)
    draw_spectrum(canvas, levels, lowest=lowest, highest=highest)
    draw_bar(canvas)
    draw_times(canvas, view)
    return image


def frequency_range(rate: int) -> tuple[float, float]:
    """The frequency axis at a sample rate, in hertz: 20 Hz, or less at very low rates, to half the rate."""
    return min(LOWEST, rate / 200), rate / 2


def visible_seconds(waveform: Tensor, rate: int, start: float, duration: float | None) -> float:
    """How much of a sound (C, S) is in the part. Raises InputError if there is nothing of it."""
    length = waveform.shape[1] / rate
    if not (math.isfinite(start) and 0 <= start < length):
        raise InputError(f"The start is {start:g} s, but the sound is {length:.6g} s long: start earlier.")
    if duration is not None and not (math.isfinite(duration) and duration > 0):
        raise InputError(f"The duration is {duration:g} s: give one above 0 s, or none to go to the end.")
    return length - start if duration is None else min(length - start, duration)


def strip_size(size: tuple[int, int], aspect: float) -> tuple[int, int]:
    """(count, height) of frames, width / height `aspect`, that fill the strip of a picture of `size`."""
    strip = lay_out(size, channels=1, strip=True).strip
    return max(1, math.ceil(strip.width / max(1.0, strip.height * aspect) - 0.05)), strip.height


def fill_film_strip(
    source: VideoSource,
    *,
    size: tuple[int, int],
    time_range: TimeRange,
    seconds: float,
    trim: Trim | None = None,
    check_cancelled: Callable[[], None] | None = None,
) -> list[TimedFrame]:
    """Sample as many frames as fit the film strip of a picture of `size`.

    Args:
        source: A path, a seekable binary file, or images.
        size: (width, height) of the picture in pixels.
        time_range: The part of the trimmed video to use.
        seconds: Length of the strip.
        trim: (start, duration) of the part of the source that counts as the video.
        check_cancelled: Called for every decoded frame; may raise.

    Returns:
        The frames up to the end of the time range or of the video; there may be none.

    Raises:
        InputError: A setting or the images are invalid.
        MediaError: The file cannot be read.
    """
    count, height = strip_size(size, probe_video(source).aspect_ratio)
    return sample_film_strip(
        source,
        time_range=time_range,
        seconds=seconds,
        count=count,
        height=height,
        trim=trim,
        check_cancelled=check_cancelled,
    )


def stack_images(pictures: Sequence[Image]) -> Tensor:
    """RGB pictures of one size -> (B, H, W, 3) float32 in 0..1, as ComfyUI has images."""
    return torch.stack([torch.from_numpy(np.array(picture)) for picture in pictures]).float().div_(255)


def draw_latents(latents: Tensor, *, size: tuple[int, int] = (512, 192)) -> Image:
    """A small picture of latents (C, L), any floating point, on any device: channels down, time across.

    Bright is high, dark is low, between the 1st and the 99th percentile. Never fails over NaN.
    """
    from PIL import Image

    values = latents.detach().float()
    if values.shape[1] > size[0]:
        values = torch.nn.functional.adaptive_avg_pool1d(values[None], size[0])[0]
    numbers = np.nan_to_num(values.cpu().numpy(), nan=0.0, posinf=0.0, neginf=0.0)
    low, high = np.percentile(numbers, (1, 99))
    scaled = (numbers - low) / max(float(high - low), 1e-6)
    return Image.fromarray(apply_colormap(scaled)).resize(size, Image.Resampling.NEAREST)


def format_decibels(amplitude: float) -> str:
    """A level relative to full scale, for people."""
    return f"{20 * math.log10(amplitude):.1f} dBFS" if amplitude > 0 else "-inf dBFS"


def _view(waveform: Tensor, rate: int, start: float, duration: float | None, count: int) -> View:
    end = start + visible_seconds(waveform, rate, start, duration)
    return View(start=start, end=end, columns=Columns(first=start * rate, last=end * rate, count=count))


def _draw_tracks(canvas: Canvas, waveform: Tensor, view: View) -> None:
    """All on one scale: full scale, or where something is beyond it, that."""
    parts = [outline(channel, view.columns) for channel in waveform]
    highest = max(1.0, *(float(max(-part.low.min(), part.high.max())) for part in parts))
    names = _NAMES.get(len(parts), tuple(str(index + 1) for index in range(len(parts))))
    for box, part, name in zip(canvas.layout.tracks, parts, names, strict=True):
        draw_track(canvas, box, part, highest=highest, name=name)


def _facts(waveform: Tensor, rate: int, view: View) -> list[str]:
    """What the caption says of the part that is shown."""
    length = waveform.shape[1] / rate
    whole = view.start == 0 and view.end >= length
    part = "" if whole else f"{format_duration(view.start)} to {format_duration(view.end)} of "
    first = min(int(view.start * rate), waveform.shape[1] - 1)
    shown = waveform[:, first : max(first + 1, math.ceil(view.end * rate))]
    lowest, highest = shown.aminmax()
    rms = float(torch.linalg.vector_norm(shown)) / math.sqrt(shown.numel())
    count = {1: "mono", 2: "stereo"}.get(len(waveform), f"{len(waveform)} channels")
    return [
        part + format_duration(length),
        f"{rate / 1000:g} kHz",
        count,
        f"peak {format_decibels(float(max(-lowest, highest)))}",
        f"RMS {format_decibels(rms)}",
    ]
