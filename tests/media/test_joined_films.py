"""Recordings that are joined end to end, or whose times restart, are one film with one clock."""

from __future__ import annotations

import io
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from corpus import FPS, KINDS, SECONDS, TS, Film, Kind, write_film
from independent import needs_ffmpeg
from watching import hear, see, write_with_clicks

from audiox_ext.media.containers import find_clock
from audiox_ext.media.probing import decode_frame_times, probe_video

pytestmark = pytest.mark.slow

COUNT = FPS * SECONDS
WRAP = 2**33 / 90000
"""Seconds after which MPEG times begin again."""
MKV = next(kind for kind in KINDS if kind.suffix == ".mkv" and kind.video == "libx264")
SILENT_TS = Kind(".ts", "mpegts", "libx264", "", options=TS.options)


def join(path: Path, *parts: Path) -> Path:
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    return path


def numbers(first: int, count: int = COUNT) -> list[int]:
    return list(range(first, first + count))


@needs_ffmpeg
@pytest.mark.parametrize("live", [False, True])
def test_three_matroska_recordings_are_all_used(live: bool, tmp_path: Path) -> None:
    parts = [
        write_film(tmp_path / f"{first}.mkv", MKV, Film(numbers=numbers(first), offset=offset))
        for first, offset in ((0, 0.0), (100, 0.0), (200, 3.0))
    ]
    for part in parts if live else []:  # a live recording does not say how long it is
        data = part.read_bytes()
        size = data.index(b"\x18\x53\x80\x67") + 4
        part.write_bytes(data[:size] + b"\x01" + 7 * b"\xff" + data[size + 8 :])
    film = join(tmp_path / "film.mkv", *parts)
    expected = [*numbers(0), *numbers(100), *numbers(200)]
    assert list(dict.fromkeys(see(film, seconds=9.05, rate=50))) == expected
    assert hear(film) == pytest.approx([1, 2, 4, 5, 7, 8], abs=0.1)
    assert list(dict.fromkeys(see(io.BytesIO(film.read_bytes()), seconds=9.05, rate=50))) == expected
    for suffix in (".mp4", ".mkv"):
        played = write_with_clicks(film, tmp_path / f"out{suffix}", clicks=(1, 2, 4, 5, 7, 8))
        assert played.codes == expected
        assert np.diff(played.times).min() > 0.02
        assert np.diff(played.times).max() < 0.1


@needs_ffmpeg
@pytest.mark.parametrize("kind", [MKV, TS], ids=str)
def test_sound_that_ends_early_costs_no_picture(kind: Kind, tmp_path: Path) -> None:
    short = Film(seconds=2.5)
    first = write_film(tmp_path / f"first{kind.suffix}", kind, short)
    second = write_film(tmp_path / f"second{kind.suffix}", kind, Film(numbers=numbers(100)))
    film = join(tmp_path / f"film{kind.suffix}", first, second)
    assert probe_video(film).duration == pytest.approx(2 * SECONDS, abs=0.03)
    assert decode_frame_times(film) == pytest.approx([index / FPS for index in range(2 * COUNT)], abs=0.03)
    assert hear(film) == pytest.approx([1, 2, 4, 5], abs=0.03)
    assert write_with_clicks(film, tmp_path / "out.mp4", clicks=(1, 2, 4, 5)).codes == [
        *numbers(0),
        *numbers(100),
    ]


@pytest.mark.parametrize("offset", [0.0, 500.0])
def test_sound_that_begins_in_the_second_recording_is_in_place(offset: float, tmp_path: Path) -> None:
    """FFmpeg takes the restart for a wrap, but only of the picture's times."""
    silent = write_film(tmp_path / "silent.ts", SILENT_TS, Film(offset=offset))
    loud = write_film(tmp_path / "loud.ts", TS, Film(numbers=numbers(100)))
    film = join(tmp_path / "film.ts", silent, loud)
    assert hear(film) == pytest.approx([4, 5], abs=0.05)
    assert list(dict.fromkeys(see(film, seconds=6.05, rate=50))) == [*numbers(0), *numbers(100)]


@needs_ffmpeg
@pytest.mark.parametrize("joined", [False, True])
def test_times_that_wrap_go_on(joined: bool, tmp_path: Path) -> None:
    film = write_film(tmp_path / "film.ts", TS, Film(offset=WRAP - 1.5))
    expected, clicks = numbers(0), [1.0, 2.0]
    if joined:
        later = write_film(tmp_path / "later.ts", TS, Film(numbers=numbers(100)))
        film = join(tmp_path / "joined.ts", later, film, later)
        expected, clicks = [*numbers(100), *numbers(0), *numbers(100)], [1.0, 2.0, 4.0, 5.0, 7.0, 8.0]
    assert hear(film) == pytest.approx(clicks, abs=0.1)
    played = write_with_clicks(film, tmp_path / "out.mp4", clicks=clicks)
    assert played.codes == expected
    assert np.diff(played.times).max() < 0.11


def test_a_file_in_memory_has_the_clock_of_the_same_file_on_disk(tmp_path: Path) -> None:
    for kind in (TS, MKV):
        part = write_film(tmp_path / f"part{kind.suffix}", kind)
        film = join(tmp_path / f"film{kind.suffix}", *[part] * 6)
        assert film.stat().st_size > 1 << 16
        assert find_clock(io.BytesIO(film.read_bytes())) == find_clock(film)


def test_two_pictures_far_apart_do_not_share_a_time(tmp_path: Path) -> None:
    film = write_film(tmp_path / "film.ts", SILENT_TS, Film(times=[Fraction(0), Fraction(30)]))
    assert np.diff(decode_frame_times(film)) >= 0.02


@needs_ffmpeg
def test_uneven_pictures_of_matroska_are_copied(tmp_path: Path) -> None:
    """FFmpeg guesses decoding times after the display times, because it expects B-frames."""
    plain = Kind(".mkv", "matroska", "libx264", "flac", options=(("preset", "ultrafast"), ("bf", "0")))
    times = [Fraction(value, 1000) for value in (3, 123, 124, 8123, 8203, 8903, 9203, 9243, 9723)]
    film = write_film(tmp_path / "film.mkv", plain, Film(times=times, seconds=10, clicks=(1.0,)))
    assert hear(film) == pytest.approx([1.0 - 0.003], abs=0.03)
    for suffix in (".mp4", ".mkv"):
        played = write_with_clicks(film, tmp_path / f"out{suffix}", clicks=(1.0, 9.0))
        assert played.codes == list(range(len(times)))
        assert played.times == pytest.approx([float(time) - 0.003 for time in times], abs=1.1e-3)
