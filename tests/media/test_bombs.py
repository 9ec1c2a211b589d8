"""Small files that claim to be large: no memory or time is spent on what they claim."""

from __future__ import annotations

import io
import struct
import time
import tracemalloc
import zlib
from collections.abc import Callable
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from PIL import Image
from scipy.signal import firwin, resample_poly
from videos import frame_times, video_bytes, write_video

from audiox_ext.errors import InputError, MediaError
from audiox_ext.media import containers, pictures
from audiox_ext.media.audio_video import read_audio, read_soundtrack, read_stereo
from audiox_ext.media.images import read_images
from audiox_ext.media.probing import probe_video
from audiox_ext.media.soundtrack import Mix, add_sound_to_video
from audiox_ext.media.tracks import clock, matroska
from audiox_ext.media.waveforms import conform_audio

MEGABYTE = 1 << 20
COMMON_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44056, 44100, 47952, 48000, 88200, 96000)
COMMON_RATES += (176400, 192000, 352800, 384000, 705600, 2822400, 5644800)


def peak_of(action: Callable[[], Any]) -> int:
    """Bytes of numpy and Python that an action holds at most."""
    tracemalloc.start()
    try:
        action()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def wave_file(rate: int) -> io.BytesIO:
    """A WAV of 1000 stereo samples that claims a rate."""
    head = struct.pack("<IHHIIHH", 16, 1, 2, rate, rate * 4 & 0xFFFFFFFF, 4, 16)
    return io.BytesIO(
        b"RIFF"
        + struct.pack("<I", 4036)
        + b"WAVEfmt "
        + head
        + b"data"
        + struct.pack("<I", 4000)
        + bytes(4000)
    )


def silent_flac(seconds: int) -> io.BytesIO:
    """Stereo at 48 kHz, small for its length."""
    file = io.BytesIO()
    with av.open(file, "w", format="flac") as output:
        stream = output.add_stream("flac", rate=48000, layout="stereo")
        for start in range(seconds):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 96000), np.int16), format="s16", layout="stereo")
            frame.sample_rate, frame.pts, frame.time_base = 48000, start * 48000, Fraction(1, 48000)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return file


@pytest.mark.parametrize("rate", [200003, 999983, 3000017, 6143999, 44099])
def test_the_filter_does_not_grow_with_the_rate_that_a_file_claims(rate: int) -> None:
    waveform, claimed = read_audio(wave_file(rate))
    assert claimed == rate
    assert peak_of(lambda: conform_audio(waveform, rate, target_rate=16000)) < 60 * MEGABYTE
    assert conform_audio(waveform, rate, target_rate=16000).shape == (2, -(-1000 * 16000 // rate))


@pytest.mark.parametrize(
    "rate", [0, 1, 7, 6144001, 2**32 - 1, 10**30, 44100.5, float("nan"), float("inf"), True]
)
def test_rates_that_do_not_occur_are_refused_with_the_value(rate: float) -> None:
    with pytest.raises(InputError, match=r"sample rate is .* from 8 to 6144000"):
        conform_audio(torch.zeros(2, 100), rate, target_rate=16000)  # type: ignore[arg-type]


def test_common_rates_are_converted_by_the_exact_filter() -> None:
    wave = torch.randn(2, 3000, generator=torch.Generator().manual_seed(0))
    for rate in COMMON_RATES:
        for target in (16000, 24000, 44100, 48000):
            if rate == target:
                continue
            ratio = Fraction(target, rate)
            widest = max(ratio.as_integer_ratio())
            taps = firwin(128 * widest + 1, 0.955 / widest, window=("kaiser", 9.0)).astype(np.float32)
            exact = resample_poly(wave.numpy(), ratio.numerator, ratio.denominator, axis=1, window=taps)
            assert np.array_equal(conform_audio(wave, rate, target_rate=target).numpy(), exact), (
                rate,
                target,
            )


def test_an_odd_rate_keeps_the_pitch_and_the_length() -> None:
    rate = 44099
    seconds = torch.arange(10 * rate, dtype=torch.float64) / rate
    converted = conform_audio(
        torch.sin(2 * torch.pi * 1000 * seconds)[None], rate, target_rate=16000, channels=1
    )
    ideal = torch.sin(2 * torch.pi * 1000 * torch.arange(160000, dtype=torch.float64) / 16000)
    assert converted.shape == (1, 160000)
    assert float((converted[0] - ideal)[2000:-2000].abs().max()) < 0.02  # 10 s are 3 µs late at most


def test_a_slow_rate_does_not_make_an_endless_sound() -> None:
    with pytest.raises(InputError, match=r"lasts 100000 s\. At 48000 Hz, at most 2796 s"):
        conform_audio(torch.zeros(2, 10**7), 100, target_rate=48000)


def test_reading_stops_where_no_more_is_needed() -> None:
    file = silent_flac(600)
    peaks = [peak_of(lambda seconds=seconds: read_stereo(file, seconds)) for seconds in (2.0, 600.0)]
    assert read_stereo(file, 2.0)[0].shape == (2, 96000)
    assert peaks[0] < peaks[1] / 20


def test_a_sound_that_is_too_long_is_refused_before_it_is_decoded() -> None:
    file = silent_flac(2900)

    def read() -> None:
        with pytest.raises(MediaError, match=r"lasts 2900 s, with 2 channels at 48000 Hz\. At most 2796 s"):
            read_audio(file)

    assert peak_of(read) < 50 * MEGABYTE


def test_a_sound_longer_than_it_claims_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("audiox_ext.media.audio_video.MOST_SAMPLES", 96000 * 5)
    monkeypatch.setattr("audiox_ext.media.audio_video._check_length", lambda *_: None)
    with pytest.raises(MediaError, match="longer than 5 s"):
        read_audio(silent_flac(6))


def damaged_film(path: Path, box: bytes, offset: int, value: int, which: int | None = None) -> Path:
    """A film of 2 s in which a number of a box has another value."""
    film = io.BytesIO()
    times = frame_times(50, 25)
    write_video(film, times, audio_seconds=2.0, options={"bf": "0"})
    film.seek(0)
    plain = io.BytesIO()  # without edit lists, which would hide the damage
    with (
        av.open(film) as source,
        av.open(plain, "w", format="mp4", container_options={"use_editlist": "0"}) as output,
    ):
        tracks = {track.index: output.add_stream_from_template(track) for track in source.streams}
        for packet in source.demux():
            if packet.dts is not None:
                packet.stream = tracks[packet.stream.index]
                output.mux(packet)
    data, place, count = bytearray(plain.getvalue()), -1, 0
    while (place := data.find(box, place + 1)) >= 0:
        if which in (None, count):
            data[place + 4 + offset : place + 8 + offset] = struct.pack(">I", value)
        count += 1
    assert count
    path.write_bytes(data)
    return path


def test_gaps_of_a_damaged_time_scale_are_not_filled(tmp_path: Path) -> None:
    film = damaged_film(tmp_path / "film.mp4", b"mdhd", 12, 100, which=1)  # 10 s between packets of 23 ms

    def read() -> None:
        with pytest.raises(MediaError, match=r"gaps of .* at most 600 s"):
            read_soundtrack(film)

    assert peak_of(read) < 250 * MEGABYTE


@pytest.mark.parametrize("box", [b"mdhd", b"mvhd", b"stts"])
@pytest.mark.parametrize("value", [0, 1, 10, 2**31 - 1, 2**32 - 1])
def test_no_damaged_number_of_a_film_takes_memory_or_time(tmp_path: Path, box: bytes, value: int) -> None:
    film = damaged_film(tmp_path / "film.mp4", box, 12, value)

    def use() -> None:
        with suppress(MediaError):
            assert probe_video(film).duration <= 86400
        with suppress(MediaError):
            read_soundtrack(film)

    start = time.process_time()
    assert peak_of(use) < 250 * MEGABYTE
    assert time.process_time() - start < 5


def test_a_film_that_claims_days_is_refused(tmp_path: Path) -> None:
    film = tmp_path / "film.mp4"
    write_video(film, [Fraction(500 * index) for index in range(200)], time_base=Fraction(1, 100))
    with pytest.raises(MediaError, match=r"lasts .* s, and at most 86400 s are possible"):
        probe_video(film)
    with pytest.raises(MediaError, match="at most 86400 s"):
        add_sound_to_video(film, (torch.zeros(2, 100), 16000), tmp_path / "out.mp4", Mix())
    assert not (tmp_path / "out.mp4").exists()


def test_the_silence_after_a_sound_can_be_cancelled(tmp_path: Path) -> None:
    film = tmp_path / "still.mp4"
    write_video(film, [Fraction(0), Fraction(36000)], time_base=Fraction(1, 100), options={"bf": "0"})
    calls = 0

    def cancel() -> None:
        nonlocal calls
        calls += 1
        if calls > 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        add_sound_to_video(
            film, (torch.zeros(2, 100), 16000), tmp_path / "out.mp4", Mix(), check_cancelled=cancel
        )
    assert [path.name for path in tmp_path.iterdir()] == ["still.mp4"]


def test_a_pixel_that_is_impossibly_wide_counts_as_square(tmp_path: Path) -> None:
    film = tmp_path / "film.mkv"
    write_video(film, frame_times(5, 25), container="matroska", sample_aspect_ratio=Fraction(1, 65535))
    assert probe_video(film).pixel_aspect == 1


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def empty_png(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds nothing."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(b"")), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize(("width", "height"), [(65535, 65535), (2**31 - 1, 1), (13000, 13000), (9000, 9000)])
def test_a_picture_of_a_few_bytes_that_claims_to_be_huge(tmp_path: Path, width: int, height: int) -> None:
    path = tmp_path / "huge.png"
    path.write_bytes(empty_png(width, height))

    def read() -> None:
        with pytest.raises(MediaError, match=f"huge.png .*{width}|too large"):
            read_images(path)

    assert peak_of(read) < 10 * MEGABYTE


@pytest.mark.parametrize("size", [(0, 0), (0, 5)])
def test_a_picture_without_pixels(tmp_path: Path, size: tuple[int, int]) -> None:
    path = tmp_path / "zero.png"
    path.write_bytes(empty_png(*size))
    with pytest.raises(MediaError, match="cannot be read"):
        read_images(path)


def test_an_animation_of_too_many_pixels_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "_MOST_ANIMATED_PIXELS", 16 * 16 * 5)
    path = tmp_path / "long.gif"
    frames = [Image.new("L", (16, 16), 20 * index) for index in range(9)]
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=100)
    with pytest.raises(MediaError, match=r"long.gif has more than 6 frames of 16 x 16 pixels"):
        probe_video(path)


def test_a_film_of_huge_pictures_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "film.mp4"
    write_video(path, frame_times(5, 25))
    monkeypatch.setattr(containers, "MOST_PIXELS", 64 * 48 - 1)
    with pytest.raises(MediaError, match="64 x 48 pixels"):
        probe_video(path)


def test_a_film_of_very_many_recordings_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "film.mkv"
    path.write_bytes(video_bytes(frame_times(25, 25), container="matroska") * 5)
    assert probe_video(path).duration == pytest.approx(5.0, abs=0.3)
    monkeypatch.setattr(matroska, "_MOST_RECORDINGS", 3)
    containers._find_clock_of_path.cache_clear()
    with pytest.raises(MediaError, match="joins more than 3 recordings"):
        probe_video(path)


def test_times_that_restart_very_often_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "film.ts"
    path.write_bytes(video_bytes(frame_times(25, 25), container="mpegts") * 5)
    assert probe_video(path).duration == pytest.approx(5.0, abs=0.3)
    monkeypatch.setattr(clock, "_MOST_PARTS", 3)
    containers._find_clock_of_path.cache_clear()
    with pytest.raises(MediaError, match="more than 3 times"):
        probe_video(path)
