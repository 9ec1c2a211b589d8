"""Films of every container and codec are seen at the right times, and written in sync for another player."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from corpus import FPS, H264, HEIGHT, KINDS, RATE, SECONDS, TS, WIDTH, Film, Kind, write_film
from independent import needs_ffmpeg, play
from videos import code_picture, packets
from watching import hear, see, write_with_clicks

from audiox_ext.media.frames import TimeRange, sample_frames
from audiox_ext.media.muxing import replace_audio_track
from audiox_ext.media.probing import decode_frame_times, probe_video, read_packet_times
from audiox_ext.media.tracks.orientation import Orientation

pytestmark = [pytest.mark.slow, needs_ffmpeg]

NUMBERS = list(range(FPS * SECONDS))
BY_NAME = {str(kind): kind for kind in KINDS}
IRREGULAR = [Fraction(value, 100) for value in (0, 4, 10, 50, 54, 58, 120, 122, 200)]


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_every_film_is_seen_and_written_in_time(kind: Kind, tmp_path: Path) -> None:
    film = write_film(tmp_path / f"film{kind.suffix}", kind)
    assert probe_video(film).duration == pytest.approx(SECONDS, abs=0.06)
    assert see(film) == NUMBERS
    assert see(film, start=1.6, seconds=1, rate=5) == [40, 45, 50, 55, 60]
    times = [index / FPS for index in NUMBERS]
    assert read_packet_times(film) == pytest.approx(times, abs=6e-4)
    if kind.audio:
        assert hear(film) == pytest.approx([1.0, 2.0], abs=0.03)
    for suffix in (".mp4", ".mkv", ".webm"):
        played = write_with_clicks(film, tmp_path / f"out{suffix}")
        assert played.codes == NUMBERS, suffix
        assert played.times == pytest.approx(times, abs=1.1e-3), suffix
    part = write_with_clicks(film, tmp_path / "part.mp4", clicks=(1.0,), start=1.0)
    assert part.codes == NUMBERS[FPS:]


@pytest.mark.parametrize("name", ["mp4-libx264-yuv420p", "webm-libvpx-vp9-yuv420p", "mpegts-libx264-yuv420p"])
@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".webm"])
def test_irregular_pictures_keep_their_times(name: str, suffix: str, tmp_path: Path) -> None:
    film = write_film(tmp_path / f"film{BY_NAME[name].suffix}", BY_NAME[name], Film(times=IRREGULAR))
    assert decode_frame_times(film) == pytest.approx([float(time) for time in IRREGULAR], abs=1e-3)
    assert see(film, start=0.02, seconds=1.5, rate=10) == [0, *[2] * 4, 3, *[5] * 6, *[7] * 3]
    for start in (0.0, 0.3):
        played = write_with_clicks(film, tmp_path / f"out{suffix}", clicks=(1.0,), start=start)
        shown = [time for time in (float(stamp) - start for stamp in IRREGULAR) if time > 0]
        assert played.codes == list(range(len(IRREGULAR)))[-len(shown) - 1 :]
        assert played.times == pytest.approx([0.0, *shown], abs=1.1e-3)


def test_a_gif_keeps_the_time_of_its_last_picture(tmp_path: Path) -> None:
    film = write_film(tmp_path / "film.gif", BY_NAME["gif-gif-rgb8"], Film(times=IRREGULAR))
    played = write_with_clicks(film, tmp_path / "out.mp4")
    assert played.times == pytest.approx([float(time) for time in IRREGULAR], abs=1.1e-3)
    assert probe_video(tmp_path / "out.mp4").duration == pytest.approx(probe_video(film).duration, abs=0.02)


@pytest.mark.parametrize(
    "matrix", [(0, 1, -1, 0), (-1, 0, 0, -1), (-1, 0, 0, 1), (1, 0, 0, -1), (0, 1, 1, 0)]
)
def test_turned_and_mirrored_films_stay_upright(matrix: tuple[int, ...], tmp_path: Path) -> None:
    a, b, c, d = matrix
    turned = a == d == 0
    orientation = (
        Orientation(transposed=True, mirrored=c < 0, flipped=b < 0)
        if turned
        else Orientation(mirrored=a < 0, flipped=d < 0)
    )

    def stored_picture(number: int, width: int, height: int) -> np.ndarray:
        upright = code_picture(number, *((height, width) if turned else (width, height)))
        if orientation.mirrored:
            upright = upright[:, ::-1]
        if orientation.flipped:
            upright = upright[::-1]
        return np.ascontiguousarray(upright.swapaxes(0, 1) if turned else upright)

    full = 1 << 16
    rows = [a * full, b * full, 0, c * full, d * full, 0, 0, 0, 1 << 30]
    film = write_film(
        tmp_path / "film.mp4",
        H264,
        Film(picture=stored_picture, setup=lambda video: video.set_display_matrix(rows)),
    )
    assert see(film) == NUMBERS
    info = probe_video(film)
    assert (info.width, info.height) == ((HEIGHT, WIDTH) if turned else (WIDTH, HEIGHT))
    for suffix in (".mp4", ".mov", ".mkv", ".webm"):
        assert write_with_clicks(film, tmp_path / f"out{suffix}").codes == NUMBERS, suffix
        if suffix in (".mp4", ".mov"):
            assert packets(tmp_path / f"out{suffix}") == packets(film)
    assert write_with_clicks(film, tmp_path / "part.mp4", clicks=(1.0,), start=1.0).codes == NUMBERS[FPS:]


@pytest.mark.parametrize("name", ["mp4-libx264-yuv420p", "webm-libvpx-vp9-yuv420p", "avi-mpeg4-yuv420p"])
def test_anamorphic_films_keep_their_shape(name: str, tmp_path: Path) -> None:
    def squeeze(video: Any) -> None:
        video.codec_context.sample_aspect_ratio = Fraction(4, 3)

    source = tmp_path / f"film{BY_NAME[name].suffix}"
    if name.startswith("webm"):  # PyAV writes no shape for VP9: take a copy that has it
        write_film(tmp_path / "wide.mp4", H264, Film(setup=squeeze))
        write_with_clicks(tmp_path / "wide.mp4", source)
    else:
        write_film(source, BY_NAME[name], Film(setup=squeeze))
    assert probe_video(source).aspect_ratio == pytest.approx(WIDTH * 4 / 3 / HEIGHT, rel=1e-3)
    for suffix in (".mp4", ".mkv", ".webm"):
        for start in (0.0, 1.0):
            played = write_with_clicks(source, tmp_path / f"out{suffix}", clicks=(1.0,), start=start)
            assert "SAR 4:3" in played.report, (suffix, start)
            assert played.codes == NUMBERS[round(start * FPS) :]


COLOURS = {"plain": (210, 60, 90), "dark": (16, 24, 12), "white": (255, 255, 255)}


@pytest.mark.parametrize("colour", COLOURS.values(), ids=COLOURS)
@pytest.mark.parametrize(
    ("name", "matrix", "colour_range"),
    [
        ("mp4-libx264-yuv420p", 1, 1),
        ("mp4-libx264-yuv420p", 5, 1),
        ("mp4-libx264-yuv420p", 1, 2),
        ("mp4-libx264-yuv420p", 9, 1),
        ("mp4-libx265-yuv420p10le", 1, 1),
        ("mov-mjpeg-yuvj420p", 0, 0),
        ("mov-png-rgb24", 0, 0),
        ("matroska-ffv1-bgr0", 0, 0),
    ],
)
def test_encoded_films_keep_their_colours(
    name: str, matrix: int, colour_range: int, colour: tuple[int, ...], tmp_path: Path
) -> None:
    def flat(number: int, width: int, height: int) -> np.ndarray:
        return np.full((height, width, 3), colour, np.uint8)

    def convert(frame: av.VideoFrame) -> av.VideoFrame:
        if not matrix:
            return frame
        wanted = "JPEG" if colour_range == 2 else "MPEG"
        frame = frame.reformat(format="yuv444p", dst_colorspace=matrix, dst_color_range=wanted)
        frame.colorspace, frame.color_range = matrix, colour_range
        return frame

    def tag(video: Any) -> None:
        if matrix:
            video.codec_context.colorspace, video.codec_context.color_range = matrix, colour_range

    kind = BY_NAME[name]
    film = write_film(
        tmp_path / f"film{kind.suffix}", kind, Film(picture=flat, setup=tag, convert=convert, clicks=())
    )
    source = play(film).colours[30]
    assert np.abs(np.subtract(source, colour)).max() <= 6
    frames = sample_frames(film, rates=(5,), seconds=1, time_range=TimeRange()).frames[0]
    assert np.abs(frames[2, :, 112, 112].numpy().astype(int) - source).max() <= 6
    for suffix in (".mp4", ".webm"):
        played = write_with_clicks(film, tmp_path / f"out{suffix}", clicks=(1.0,), start=0.4)
        assert np.abs(np.subtract(played.colours[30], source)).max() <= 6, suffix


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv", ".webm"])
def test_pictures_that_an_edit_list_hides_stay_hidden(suffix: str, tmp_path: Path) -> None:
    film = write_film(tmp_path / "film.mp4", H264, Film(offset=-0.4))
    assert see(film, seconds=2.6) == NUMBERS[10:]
    assert hear(film) == pytest.approx([0.6, 1.6], abs=0.03)
    assert write_with_clicks(film, tmp_path / f"out{suffix}").codes == NUMBERS[10:]


@pytest.mark.parametrize(("offset", "delay"), [(1000.0, 0.0), (0.0, 0.5), (30.0, 0.25)])
@pytest.mark.parametrize("kind", [TS, BY_NAME["matroska-libx264-yuv444p"]], ids=str)
def test_late_starts_and_late_sound_stay_in_sync(
    kind: Kind, offset: float, delay: float, tmp_path: Path
) -> None:
    film = write_film(tmp_path / f"film{kind.suffix}", kind, Film(offset=offset, audio_delay=delay))
    assert see(film) == NUMBERS
    assert hear(film) == pytest.approx([1.0, 2.0], abs=0.03)
    assert write_with_clicks(film, tmp_path / "out.mp4").codes == NUMBERS


@pytest.mark.parametrize(
    "name",
    ["mp4-libx264-yuv420p", "matroska-libvpx-vp9-yuv420p", "mpegts-libx264-yuv420p", "flv-libx264-yuv420p"],
)
def test_gaps_in_the_sound_are_kept(name: str, tmp_path: Path) -> None:
    kind = BY_NAME[name]
    film = write_film(
        tmp_path / f"film{kind.suffix}",
        kind,
        Film(keep=lambda media, time: media != "audio" or not 1.2 <= time < 1.7),
    )
    assert hear(film) == pytest.approx([1.0, 2.0], abs=0.03)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".webm"])
@pytest.mark.parametrize(
    ("name", "offset"),
    [
        ("mpegts-libx264-yuv420p", 0.0),
        ("mpegts-libx264-yuv420p", 5000.0),
        ("mpeg-mpeg2video-yuv420p", 0.0),
        ("matroska-libvpx-vp9-yuv420p", 0.0),
    ],
)
def test_joined_recordings_follow_each_other(name: str, offset: float, suffix: str, tmp_path: Path) -> None:
    kind, later = BY_NAME[name], [100 + number for number in NUMBERS]
    parts = [
        write_film(tmp_path / f"first{kind.suffix}", kind),
        write_film(tmp_path / f"second{kind.suffix}", kind, Film(numbers=later, offset=offset)),
    ]
    film = tmp_path / f"film{kind.suffix}"
    film.write_bytes(b"".join(part.read_bytes() for part in parts))
    assert probe_video(film).duration == pytest.approx(2 * SECONDS, abs=0.05)
    assert list(dict.fromkeys(see(film, seconds=6.1, rate=50))) == NUMBERS + later
    assert hear(film) == pytest.approx([1.0, 2.0, 4.0, 5.0], abs=0.06)
    played = write_with_clicks(film, tmp_path / f"out{suffix}", clicks=(1.0, 2.0, 4.0, 5.0))
    assert played.codes == NUMBERS + later
    assert np.diff(played.times).max() < 0.12


@pytest.mark.parametrize(
    "name",
    [
        "mpegts-libx264-yuv420p",
        "matroska-libx264-yuv444p",
        "mp4-libx264-yuv420p",
        "flv-flv-yuv420p",
        "asf-wmv2-yuv420p",
    ],
)
def test_a_jump_in_the_times_is_closed(name: str, tmp_path: Path) -> None:
    kind = BY_NAME[name]
    times = [Fraction(number, FPS) + (5000 if number >= 40 else 0) for number in NUMBERS]
    film = write_film(tmp_path / f"film{kind.suffix}", kind, Film(times=times, seconds=1.6, clicks=(1.0,)))
    assert probe_video(film).duration == pytest.approx(SECONDS, abs=0.05)
    assert see(film) == NUMBERS
    played = write_with_clicks(film, tmp_path / "out.mp4")
    assert played.codes == NUMBERS
    assert played.times[-1] == pytest.approx(2.96, abs=0.01)


def test_joined_recordings_of_two_sizes_are_encoded(tmp_path: Path) -> None:
    def enlarge(video: Any) -> None:
        video.width, video.height = 2 * WIDTH, 2 * HEIGHT

    def draw(number: int, width: int, height: int) -> np.ndarray:
        return code_picture(number, 2 * WIDTH, 2 * HEIGHT)

    later = [100 + number for number in NUMBERS]
    small = write_film(tmp_path / "small.ts", TS)
    large = write_film(tmp_path / "large.ts", TS, Film(numbers=later, picture=draw, setup=enlarge))
    film = tmp_path / "film.ts"
    film.write_bytes(small.read_bytes() + large.read_bytes())
    played = write_with_clicks(film, tmp_path / "out.mp4", clicks=(1.0, 2.0, 4.0, 5.0))
    assert played.codes == NUMBERS + later
    assert f"{WIDTH}x{HEIGHT}" in played.report


@pytest.mark.parametrize("suffix", [".mkv", ".flv", ".ts", ".mp4"])
def test_a_film_that_was_cut_off_is_as_long_as_what_is_left(suffix: str, tmp_path: Path) -> None:
    kind = next(kind for kind in KINDS if kind.suffix == suffix)
    whole = write_film(tmp_path / f"whole{suffix}", kind)
    if suffix == ".mp4":  # its index must come first
        replace_audio_track(whole, torch.zeros(2, RATE * SECONDS), RATE, tmp_path / "fast.mp4")
        whole = tmp_path / "fast.mp4"
    data = whole.read_bytes()
    film = tmp_path / f"film{suffix}"
    film.write_bytes(data[: round(len(data) * 0.7)])
    length = probe_video(film).duration
    assert 0.5 < length < SECONDS - 0.3
    numbers = see(film)
    before = numbers[-1] - 3  # the last pictures may need what is missing
    assert numbers[:before] == NUMBERS[:before]
    assert length == pytest.approx((numbers[-1] + 1) / FPS, abs=0.15)
    wave = torch.full((2, RATE * SECONDS), 0.1)
    replace_audio_track(film, wave, RATE, tmp_path / "out.mp4")
    assert play(tmp_path / "out.mp4").codes[:before] == NUMBERS[:before]
