"""The picture of a sound: its parts are in place, and its colours match the dBFS of the colour bar."""

from __future__ import annotations

import math
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from videos import frame_times, read_code, write_video

from audiox_ext.errors import InputError
from audiox_ext.media.frames import ImageSequence, TimeRange
from audiox_ext.media.probing import probe_video
from audiox_ext.plotting.colormap import apply_colormap
from audiox_ext.plotting.film_strip import TimedFrame, sample_film_strip
from audiox_ext.plotting.layout import (
    Box,
    Layout,
    format_clock,
    lay_out,
    shorten,
    text_width,
    time_ticks,
    to_ascii,
)
from audiox_ext.plotting.panels import frequency_row
from audiox_ext.plotting.sound_image import (
    draw_latents,
    draw_sound,
    frequency_range,
    stack_images,
    strip_size,
)
from audiox_ext.plotting.spectrogram import FLOOR, Columns, log_frequencies, outline, spectrogram

RATE, SIZE = 44100, (1100, 650)


def tone(frequency: float, seconds: float = 2.0, rate: int = RATE, amplitude: float = 1.0) -> Tensor:
    times = torch.arange(round(seconds * rate), dtype=torch.float64) / rate
    return (amplitude * torch.sin(2 * math.pi * frequency * times)).float()[None]


def part(picture: Image.Image, box: Box) -> np.ndarray:
    """The pixels inside a box: (H, W, 3)."""
    return np.asarray(picture)[box.top : box.bottom, box.left : box.right].astype(int)


def shown_levels(picture: Image.Image, layout: Layout) -> np.ndarray:
    """The spectrum's colours read back as dBFS by the picture's own colour bar: (H, W)."""
    bar = part(picture, layout.bar)[:, layout.bar.width // 2]
    levels = FLOOR * (np.arange(len(bar)) + 0.5) / len(bar)
    pixels = part(picture, layout.spectrum)
    kinds, which = np.unique(pixels.reshape(-1, 3), axis=0, return_inverse=True)
    distance = np.abs(kinds[:, None] - bar[None]).sum(axis=-1)
    return levels[distance.argmin(axis=-1)][which].reshape(pixels.shape[:2])


def bright(picture: Image.Image, box: Box) -> np.ndarray:
    """Where a waveform is drawn: (H, W)."""
    return part(picture, box).max(axis=-1) > 100


@pytest.mark.slow
@pytest.mark.parametrize(("rate", "channels"), [(44100, 1), (44100, 2), (16000, 1), (96000, 2), (8000, 6)])
def test_a_tone_is_a_bright_row_at_its_frequency(rate: int, channels: int) -> None:
    picture = draw_sound(tone(1000, rate=rate).expand(channels, -1), rate, size=SIZE)
    box = lay_out(SIZE, channels=channels).spectrum
    lowest, highest = frequency_range(rate)
    row = part(picture, box)[:, box.width // 2 - 20].sum(axis=-1).argmax()
    frequency = highest * (lowest / highest) ** ((row + 0.5) / box.height)
    assert frequency == pytest.approx(1000, rel=0.02)
    tick = frequency_row(box, 1000, lowest=lowest, highest=highest)
    assert abs(tick - (box.top + row)) <= 1, "and at its tick"
    assert (
        np.asarray(picture)[tick, box.left - 2].tolist()
        != np.asarray(picture)[tick - 3, box.left - 2].tolist()
    )


@pytest.mark.slow
@pytest.mark.parametrize("frequency", [60.0, 440.0, 1003.7, 9871.0])
@pytest.mark.parametrize("level", [0.0, -20.0, -63.0])
def test_colours_agree_with_the_amplitude_of_a_sine(frequency: float, level: float) -> None:
    small = (512, 512)
    picture = draw_sound(tone(frequency, amplitude=10 ** (level / 20)), RATE, size=small)
    levels = shown_levels(picture, lay_out(small, channels=1))
    # Half a decibel for where the sine lies between two bins, a quarter for the steps of the colours.
    # Between two lines of the time axis, which lighten what is under them.
    assert levels[:, 110:190].max(axis=0) == pytest.approx(level, abs=0.75)


@pytest.mark.slow
@pytest.mark.parametrize(("seconds", "rate"), [(2.0, 44100), (0.2, 44100), (40.0, 8000)])
def test_a_click_is_a_bright_column_at_its_time(seconds: float, rate: int) -> None:
    waveform = torch.zeros(1, round(seconds * rate))
    waveform[0, round(0.37 * seconds * rate)] = 1
    layout = lay_out(SIZE, channels=1)
    picture = draw_sound(waveform, rate)
    loudness = shown_levels(picture, layout)[:60].mean(axis=0)  # high frequencies, with short windows
    (columns,) = np.nonzero(loudness > loudness.max() - 1)
    assert columns.mean() / layout.spectrum.width == pytest.approx(0.37, abs=0.003)
    heights = bright(picture, layout.tracks[0]).sum(axis=0)
    assert heights.argmax() / layout.spectrum.width == pytest.approx(0.37, abs=0.002)


def test_a_track_shows_its_own_channel() -> None:
    waveform = torch.cat([tone(3000, amplitude=0.9), torch.zeros(1, 2 * RATE)])
    layout = lay_out(SIZE, channels=2)
    left, right = (bright(draw_sound(waveform, RATE), box)[:, 100:].sum(axis=0) for box in layout.tracks)
    height = layout.tracks[0].height
    assert left.min() > 0.8 * height
    assert right.max() <= 2, "silence is a thin line"
    swapped = draw_sound(waveform.flip(0), RATE)
    assert bright(swapped, layout.tracks[0])[:, 100:].sum() == right.sum()


def test_full_scale_reaches_the_edges_and_only_more_is_red() -> None:
    def red(waveform: Tensor) -> int:
        pixels = part(draw_sound(waveform, RATE), lay_out(SIZE, channels=1).tracks[0])
        return int(((pixels[..., 0] > 240) & (pixels[..., 2] < 100)).sum())

    full = bright(draw_sound(tone(3000), RATE), lay_out(SIZE, channels=1).tracks[0])[:, 100:-1]
    assert full[1].mean() > 0.9
    assert full[-2].mean() > 0.9
    assert red(tone(300)) == 0
    assert red(tone(300, amplitude=1.5)) > 1000


@pytest.mark.slow
@pytest.mark.parametrize("channels", [1, 2])
def test_silence_is_dark(channels: int) -> None:
    layout = lay_out(SIZE, channels=channels)
    picture = draw_sound(torch.zeros(channels, RATE), RATE)
    assert shown_levels(picture, layout).max() < FLOOR + 10  # grid lines do not read as levels
    assert np.median(part(picture, layout.spectrum).sum(axis=-1)) <= 8


@pytest.mark.slow
@pytest.mark.parametrize("samples", [1, 2, 37, 441, 4410, 100_000])
@pytest.mark.parametrize("channels", [1, 2, 8])
@pytest.mark.parametrize("rate", [50, 8000, 192000])
def test_any_sound_can_be_drawn(samples: int, channels: int, rate: int) -> None:
    generator = torch.Generator().manual_seed(samples)
    waveform = torch.rand(channels, samples, generator=generator) - 0.5
    picture = draw_sound(waveform, rate, size=(512, 512), title="Ä name ü of 中文")
    assert picture.size == (512, 512)
    assert picture.mode == "RGB"


@pytest.mark.slow
def test_ten_minutes_do_not_take_gigabytes() -> None:
    # In a separate process, whose peak is measured before and after.
    code = """
import resource, torch
from audiox_ext.plotting.sound_image import draw_sound
torch.set_num_threads(1)
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
draw_sound(torch.zeros(2, 10000), 44100)
waveform = torch.zeros(2, 600 * 44100)
waveform[:, ::50] = 0.5
before = peak()
draw_sound(waveform, 44100)
print(peak() - before)
"""
    if sys.platform != "linux":
        pytest.skip("the unit of ru_maxrss is known for Linux")
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
    )
    # MB besides the sound's own 202, mostly for two copies of the sound in the search for NaN.
    assert float(done.stdout) < 600


def test_a_part_looks_like_the_whole_there() -> None:
    generator = torch.Generator().manual_seed(3)
    waveform = 0.3 * torch.randn(1, 3 * RATE, generator=generator) * torch.linspace(0, 1, 3 * RATE)
    waveform[0, RATE : 2 * RATE] = tone(500, 1)[0]
    layout = lay_out(SIZE, channels=1)
    levels = shown_levels(draw_sound(waveform, RATE, start=1.2, duration=0.5), layout)
    row = frequency_row(layout.spectrum, 500, lowest=20, highest=RATE / 2) - layout.spectrum.top
    # Nothing is cut at the borders of the part: there is no splash, and the tone is as loud as inside.
    assert levels[row].min() > -1.5
    assert levels[:60].max() < -75


def test_columns_hold_every_sample() -> None:
    generator = torch.Generator().manual_seed(4)
    channel = torch.randn(10_007, generator=generator)
    envelope = outline(channel, Columns(first=0, last=10_007, count=300))
    edges = np.ceil(np.linspace(0, 10_007, 301)).astype(int)
    for column, (begin, end) in enumerate(pairwise(edges)):
        assert envelope.low[column] <= channel[begin:end].min()
        assert envelope.high[column] >= channel[begin:end].max()
        assert envelope.rms[column] == pytest.approx(
            float(channel[begin:end].square().mean().sqrt()), rel=1e-5
        )


def test_noise_has_the_power_that_its_windows_give() -> None:
    """White noise of variance v reads v * 4 sum(w^2) / sum(w)^2, at every column length."""
    generator = torch.Generator().manual_seed(5)
    waveform = 0.1 * torch.randn(2, 20 * RATE, generator=generator)
    edges = log_frequencies(9700, 10_000, 4)
    window = torch.hann_window(1024)
    expected = 10 * math.log10(0.01 * 4 * float(window.square().sum() / window.sum() ** 2))
    columns = Columns(first=0, last=20.0 * RATE, count=1700)  # 519 samples: one window each
    levels = spectrogram(waveform, RATE, columns=columns, edges=edges)
    # A row shows the loudest of the bins in it, up to four decibels above their mean.
    assert 10 * np.log10(np.mean(10 ** (levels / 10))) == pytest.approx(expected + 2, abs=2.5)


@pytest.mark.parametrize(
    ("waveform", "words"),
    [
        (torch.zeros(2, 0), "empty"),
        (torch.full((1, 100), math.nan), "NaN"),
        (torch.zeros(9, 100), "9 channels"),
    ],
)
def test_invalid_sounds_are_refused(waveform: Tensor, words: str) -> None:
    with pytest.raises(InputError, match=words):
        draw_sound(waveform, RATE)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"start": 5.0}, "start is 5 s, but the sound is 2 s"),
        ({"duration": -1.0}, "duration is -1 s"),
        ({"size": (100, 650)}, "100 x 650"),
    ],
)
def test_impossible_parts_and_sizes_are_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        draw_sound(tone(100), RATE, **settings)


def test_the_strip_puts_each_frame_at_its_time() -> None:
    red, green = Image.new("RGB", (64, 48), (255, 0, 0)), Image.new("RGB", (64, 48), (0, 255, 0))
    picture = draw_sound(tone(100, 10), RATE, frames=[TimedFrame(6.0, green), TimedFrame(2.0, red)])
    box = lay_out(SIZE, channels=1, strip=True).strip
    row = part(picture, box)[box.height // 2]
    rows = round(box.height * 64 / 48)
    for start, channel in ((0.2, 0), (0.6, 1)):
        left = round(start * box.width)
        assert (row[left + 2 : left + rows - 2, channel] > 200).all()
        assert row[left - 3, channel] < 30
        assert row[left + rows + 3, channel] < 30


def coded_video(path: Path, *, rate: int, frames: int, **settings: Any) -> Path:
    write_video(path, frame_times(frames, rate), **settings)
    return path


@pytest.mark.parametrize(("seconds", "count"), [(4.0, 7), (40.0, 8)])  # by decoding, and by seeking
def test_the_film_strip_shows_what_is_on_screen(seconds: float, count: int, tmp_path: Path) -> None:
    video = coded_video(tmp_path / "v.mp4", rate=25, frames=round(25 * seconds), width=192, height=96)
    strip = sample_film_strip(video, time_range=TimeRange(start=0.5), seconds=seconds, count=8, height=48)
    assert probe_video(video).aspect_ratio == pytest.approx(2)
    for index, frame in enumerate(strip):
        assert frame.image.size == (96, 48)
        assert frame.time == pytest.approx(index * seconds / 8)
        picture = torch.from_numpy(np.array(frame.image)).permute(2, 0, 1)
        assert read_code(picture) == math.floor((0.5 + frame.time) * 25 + 1e-6)
    assert len(strip) == count, "the eighth is at 4 s, the end of the short video"


def test_the_film_strip_ends_with_the_video(tmp_path: Path) -> None:
    video = coded_video(tmp_path / "v.mp4", rate=25, frames=50)
    strip = sample_film_strip(video, time_range=TimeRange(), seconds=8.0, count=8, height=48)
    assert [frame.time for frame in strip] == [0.0, 1.0]
    strip = sample_film_strip(video, time_range=TimeRange(), seconds=80.0, count=8, height=48)
    assert [frame.time for frame in strip] == [0.0]
    assert sample_film_strip(video, time_range=TimeRange(start=3.0), seconds=4.0, count=8, height=48) == []
    images = ImageSequence(torch.rand(10, 20, 40, 3), 5.0)
    assert len(sample_film_strip(images, time_range=TimeRange(), seconds=4.0, count=8, height=48)) == 4
    assert sample_film_strip(images, time_range=TimeRange(start=2.5), seconds=4.0, count=8, height=48) == []


def test_the_strip_is_filled() -> None:
    for aspect in (0.5, 1.0, 16 / 9, 640 / 272):
        for size in ((512, 512), (1100, 650), (4096, 1000)):
            count, height = strip_size(size, aspect)
            width = lay_out(size, channels=1, strip=True).strip.width
            assert width * 0.94 <= count * height * aspect < width + height * aspect


def test_colours_rise_evenly_in_lightness() -> None:
    """CIE 1976 L* of the colours is nearly a straight line (the line is straight in CAM02-UCS)."""
    linear = apply_colormap(np.linspace(0, 1, 101)) / 255
    linear = np.where(linear <= 0.04045, linear / 12.92, ((linear + 0.055) / 1.055) ** 2.4)
    luminance = linear @ (0.2126, 0.7152, 0.0722)
    lightness = np.where(luminance > 0.008856, 116 * np.cbrt(luminance) - 16, 903.3 * luminance)
    assert (np.diff(lightness) > 0).all()
    assert np.abs(lightness - np.linspace(lightness[0], lightness[-1], 101)).max() < 6
    clipped = apply_colormap(np.array([np.nan, -1.0, 2.0, np.inf])).tolist()
    assert clipped == [[0, 0, 4], [0, 0, 4], [252, 253, 191], [252, 253, 191]]


@pytest.mark.parametrize("length", [1, 236, 3900])
def test_latents_show_time_across_and_channels_down(length: int) -> None:
    latents = torch.zeros(64, length)
    latents[:32, : length // 2] = 5
    picture = draw_latents(latents.to(torch.bfloat16))
    assert picture.size == (512, 192)
    brightness = np.asarray(picture).astype(int).sum(axis=-1)
    if length > 1:
        assert brightness[:90, :250].min() > brightness[100:].max()
        assert brightness[:90, :250].min() > brightness[:, 262:].max()


def test_broken_latents_are_drawn() -> None:
    draw_latents(torch.full((64, 236), math.nan))
    latents = torch.randn(64, 236, generator=torch.Generator().manual_seed(6))
    latents[3, 5] = math.inf
    assert np.asarray(draw_latents(latents)).std() > 20


def test_pictures_are_stacked_to_a_batch() -> None:
    pictures = [Image.new("RGB", (40, 30), (255, 0, 51)), Image.new("RGB", (40, 30))]
    batch = stack_images(pictures)
    assert batch.shape == (2, 30, 40, 3)
    assert batch[0, 0, 0].tolist() == pytest.approx([1.0, 0.0, 0.2])
    assert batch[1].max() == 0


@pytest.mark.parametrize("end", [0.01, 0.3, 1.0, 10.24, 59.0, 61.0, 600.0, 7200.0])
@pytest.mark.parametrize("width", [512, 1100, 4096])
def test_time_labels_do_not_touch(end: float, width: int) -> None:
    layout = lay_out((width, 650), channels=1)
    box = layout.spectrum
    ticks = time_ticks(0.0, end, most=max(2, box.width // (5 * layout.unit)))
    assert len(ticks) >= 2
    assert len({label for _, label in ticks}) == len(ticks)
    step = (ticks[1][0] - ticks[0][0]) / end * box.width
    assert step > max(text_width(label, layout.unit) for _, label in ticks) + 4


def test_times_and_names_are_legible() -> None:
    assert [format_clock(seconds) for seconds in (0, 59.6, 75, 3675)] == ["0:00", "1:00", "1:15", "1:01:15"]
    assert format_clock(75.25, 1) == "1:15.2"
    assert to_ascii("Übung é 中") == "Ubung e ?"
    assert shorten("a long title", 13, 50).endswith("...")
    assert text_width(shorten("a long title", 13, 50), 13) <= 50
