"""Draws a sound: film strip, waveform and spectrogram on one time axis. Draws latents as a small picture.

B pictures, C channels, S samples, L latents, H height, W width. Uses only Pillow and numpy.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError, is_number, is_whole, quote_value
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
SMALLEST, LARGEST = 256, 8192  # pixels per side

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
    """Draw a sound: caption, film strip if there are frames, one track per channel, spectrogram, colour bar.

    Tracks show the lowest and highest value per column, and the RMS in a brighter colour. Red marks samples
    beyond full scale.

    Args:
        waveform: (C, S) or (1, C, S), floating point, 1 to 8 channels, any length.
        rate: Sample rate in hertz.
        size: (width, height) in pixels, 256 to 8192 each.
        start: Seconds at which the visible part begins.
        duration: Seconds of the visible part; None: to the end.
        frames: Frames of a video; their times count from the start of the visible part.
        title: Shown at the top left.

    Returns:
        RGB.

    Raises:
        InputError: The waveform is invalid, the part lies outside of it, or the size is out of range.
    """
    from PIL import Image, ImageDraw

    waveform = check_waveform(waveform, rate)
    if len(waveform) > 8:
        raise InputError(f"The sound has {len(waveform)} channels. Choose a sound with 1 to 8.")
    if not all(is_whole(side) and SMALLEST <= side <= LARGEST for side in size):
        raise InputError(
            f"The picture would have {' x '.join(map(quote_value, size))} pixels. Choose {SMALLEST} to "
            f"{LARGEST} for width and height."
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
    decibels = spectrogram(waveform, rate, columns=view.columns, edges=edges)
    draw_spectrum(canvas, decibels, lowest=lowest, highest=highest)
    draw_bar(canvas)
    draw_times(canvas, view)
    return image


def frequency_range(rate: int) -> tuple[float, float]:
    """Ends of the frequency axis in hertz: 20 Hz, or less at very low sample rates, and half the rate."""
    return min(LOWEST, rate / 200), rate / 2


def visible_seconds(waveform: Tensor, rate: int, start: float, duration: float | None) -> float:
    """Compute how much of a sound lies in the visible part.

    Args:
        waveform: (C, S).
        rate: Sample rate in hertz.
        start: Seconds at which the part begins.
        duration: Seconds of the part; None: to the end.

    Returns:
        Seconds.

    Raises:
        InputError: The part lies outside of the sound, or a time is invalid.
    """
    length = waveform.shape[1] / rate
    if not (is_number(start) and 0 <= start < length):
        raise InputError(
            f"start is {_quote(start)} s, but the sound is {length:.6g} s long. Choose an earlier start."
        )
    if duration is not None and not (is_number(duration) and duration > 0):
        raise InputError(
            f"duration is {_quote(duration)} s. Choose one above 0 s, or none to show the sound to its end."
        )
    return length - start if duration is None else min(length - start, duration)


def _quote(seconds: float) -> str:
    """Return a time for a message: 5, not 5.0; it may also be what is not a number."""
    return f"{seconds:g}" if is_number(seconds) else quote_value(seconds)


def strip_size(size: tuple[int, int], aspect: float) -> tuple[int, int]:
    """Compute how many frames fill the film strip.

    Args:
        size: (width, height) of the picture in pixels.
        aspect: Width / height of a frame.

    Returns:
        (count, height in pixels) of the frames.
    """
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
    """Stack RGB pictures of one size to (B, H, W, 3) float32 in 0..1, the form of images in ComfyUI."""
    return torch.stack([torch.from_numpy(np.array(picture)) for picture in pictures]).float().div_(255)


def draw_latents(latents: Tensor, *, size: tuple[int, int] = (512, 192)) -> Image:
    """Draw latents as a small picture: channels down, time across; bright is high, dark is low.

    The colours span the 1st to the 99th percentile. NaN counts as 0.

    Args:
        latents: (C, L), any floating point, on any device.
        size: (width, height) in pixels.

    Returns:
        RGB.
    """
    from PIL import Image

    values = latents.detach().float()
    if values.shape[1] > size[0]:
        values = torch.nn.functional.adaptive_avg_pool1d(values[None], size[0])[0]
    array = np.nan_to_num(values.cpu().numpy(), nan=0.0, posinf=0.0, neginf=0.0)
    low, high = np.percentile(array, (1, 99))
    scaled = (array - low) / max(float(high - low), 1e-6)
    return Image.fromarray(apply_colormap(scaled)).resize(size, Image.Resampling.NEAREST)


def format_decibels(amplitude: float) -> str:
    """Format an amplitude in dBFS; 1 is 0 dBFS."""
    return f"{20 * math.log10(amplitude):.1f} dBFS" if amplitude > 0 else "-inf dBFS"


def _view(waveform: Tensor, rate: int, start: float, duration: float | None, count: int) -> View:
    """The visible part, in `count` columns."""
    end = start + visible_seconds(waveform, rate, start, duration)
    return View(start=start, end=end, columns=Columns(first=start * rate, last=end * rate, count=count))


def _draw_tracks(canvas: Canvas, waveform: Tensor, view: View) -> None:
    """Draw all channels on one scale: up to full scale, or to the highest amplitude beyond it."""
    outlines = [outline(channel, view.columns) for channel in waveform]
    highest = max(1.0, *(float(max(-shape.low.min(), shape.high.max())) for shape in outlines))
    names = _NAMES.get(len(outlines), tuple(str(index + 1) for index in range(len(outlines))))
    for box, shape, name in zip(canvas.layout.tracks, outlines, names, strict=True):
        draw_track(canvas, box, shape, highest=highest, name=name)


def _facts(waveform: Tensor, rate: int, view: View) -> list[str]:
    """The facts of the caption: length, sample rate, channels, peak and RMS of the visible part."""
    length = waveform.shape[1] / rate
    whole = view.start == 0 and view.end >= length
    part = "" if whole else f"{format_duration(view.start)} to {format_duration(view.end)} of "
    first = min(int(view.start * rate), waveform.shape[1] - 1)
    visible = waveform[:, first : max(first + 1, math.ceil(view.end * rate))]
    lowest, highest = visible.aminmax()
    rms = float(torch.linalg.vector_norm(visible)) / math.sqrt(visible.numel())
    count = {1: "mono", 2: "stereo"}.get(len(waveform), f"{len(waveform)} channels")
    return [
        part + format_duration(length),
        f"{rate / 1000:g} kHz",
        count,
        f"peak {format_decibels(float(max(-lowest, highest)))}",
        f"RMS {format_decibels(rms)}",
    ]
