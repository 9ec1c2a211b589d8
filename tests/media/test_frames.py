"""Sampled frames are the ones on screen at the requested times."""

from __future__ import annotations

import io
import itertools
import math
import os
import random
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
import videos
from av.stream import Disposition
from PIL import Image
from videos import code_picture, frame_times, on_screen, read_code, stamps, video_bytes

from audiox_ext.errors import InputError, MediaError
from audiox_ext.media.frames import ImageSequence, SampledFrames, TimeRange, sample_frames
from audiox_ext.media.probing import probe_video

RATES = (5, 25)
SOURCE_RATES = [Fraction(24000, 1001), 24, 25, Fraction(30000, 1001), 30, 50, 60]
CONTAINERS = {"mp4": Fraction(1, 90000), "matroska": Fraction(1, 1000), "mpegts": Fraction(1, 90000)}


def sample(source: Any, start: float = 0.0, seconds: float = 1.0, **settings: Any) -> SampledFrames:
    source = io.BytesIO(source) if isinstance(source, bytes) else source
    time_range = TimeRange(start=start, duration=settings.pop("duration", None))
    return sample_frames(source, **{"rates": RATES, "seconds": seconds, "time_range": time_range} | settings)


def codes(frames: torch.Tensor) -> list[int]:
    return [read_code(frame) for frame in frames]


def expected(times: list[Fraction], start: float, seconds: float, rate: int) -> list[int]:
    exact = Fraction(start).limit_denominator(10**6)
    return [on_screen(times, exact + Fraction(index, rate)) for index in range(round(seconds * rate))]


@pytest.fixture(scope="module")
def clip() -> bytes:
    """3 s at 30 fps, 64 x 48, mp4."""
    return video_bytes(frame_times(90, 30))


@pytest.mark.parametrize("container", ["mp4", "matroska"])
@pytest.mark.parametrize("rate", SOURCE_RATES, ids=lambda rate: f"{float(rate):.5g}fps")
def test_every_frame_is_the_one_on_screen(rate: Fraction, container: str) -> None:
    video = video_bytes(
        frame_times(round(2.6 * rate), rate), container=container, time_base=CONTAINERS[container]
    )
    times = stamps(video)
    for start, seconds in ((1.0 / 3, 1.0), (1.3, 1.6)):  # the second by seeking, and past the end
        sampled = sample(video, start, seconds)
        for per_second, frames in zip(RATES, sampled.frames, strict=True):
            assert codes(frames) == expected(times, start, seconds, per_second), (
                f"{start} s, {per_second} fps"
            )


@pytest.mark.parametrize("container", ["mp4", "matroska"])
def test_variable_frame_rate_follows_the_timestamps(container: str) -> None:
    steps = random.Random(0).choices(range(8, 250), k=60)  # milliseconds
    times = [Fraction(ms, 1000) for ms in itertools.accumulate(steps, initial=0)]
    video = video_bytes(times, container=container, time_base=Fraction(1, 1000))
    assert stamps(video) == times
    for start in (0.0, 2.07):
        sampled = sample(video, start, 3)
        for per_second, frames in zip(RATES, sampled.frames, strict=True):
            assert codes(frames) == expected(times, start, 3, per_second)


@pytest.mark.parametrize("codec", ["libx264", "mpeg4"])
def test_avi_which_stores_no_display_times(codec: str) -> None:
    times = frame_times(72, 24)
    video = video_bytes(times, container="avi", codec=codec, time_base=Fraction(1, 24))
    for start in (0.0, 1.25):
        assert codes(sample(video, start, 1.5).frames[1]) == expected(times, start, 1.5, 25)


@pytest.mark.parametrize("container", CONTAINERS)
def test_a_late_start_is_reached_by_seeking(container: str) -> None:
    video = video_bytes(frame_times(750, 25), container=container, time_base=CONTAINERS[container], gop=25)
    calls = itertools.count()
    sampled = sample(video, 22.2, check_cancelled=lambda: next(calls))
    assert codes(sampled.frames[1]) == expected(stamps(video), 22.2, 1, 25)
    assert next(calls) <= 4 * 25 + 16, "decoded from far before the start"


def test_both_rates_come_from_one_decoding_pass(clip: bytes) -> None:
    calls = itertools.count()
    sample(clip, seconds=3, check_cancelled=lambda: next(calls))
    assert next(calls) == 90  # each frame once
    calls = itertools.count()
    sample(clip, seconds=1, check_cancelled=lambda: next(calls))
    assert next(calls) == 30  # frame 29 is on screen at 0.96 s, frame 30 would start at 1 s


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads the memory from /proc")
def test_only_the_sampled_frames_stay_in_memory() -> None:
    video = video_bytes(
        frame_times(100, 25), width=1280, height=720, picture=lambda i, w, h: flat(i % 200, w, h)
    )
    page, grown = os.sysconf("SC_PAGE_SIZE"), []

    def memory() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * page

    sample(video, seconds=0.5)  # warm up: libraries, thread pools
    before = memory()
    sample(video, seconds=4, check_cancelled=lambda: grown.append(memory() - before))
    assert max(grown) < 60e6, (
        f"{max(grown) / 1e6:.0f} MB; all frames would be {100 * 1280 * 720 * 1.5 / 1e6:.0f} MB"
    )


def flat(level: int, width: int, height: int) -> np.ndarray:
    return np.full((height, width, 3), level, dtype=np.uint8)


def test_a_path_and_a_file_in_memory_give_the_same_frames(clip: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a: name, with [odd] %04d ünicode.mp4"
    path.write_bytes(clip)
    memory = io.BytesIO(clip)
    memory.seek(100)  # the position does not matter
    for source in (path, str(path), memory, memory):
        assert torch.equal(sample(source).frames[1], sample(clip).frames[1])
    with path.open("rb") as file:
        assert torch.equal(sample(file).frames[1], sample(clip).frames[1])


def test_shapes_and_types(clip: bytes) -> None:
    sampled = sample(clip, rates=(5, 25, 8.5), seconds=2, size=96)
    assert [tuple(frames.shape) for frames in sampled.frames] == [(n, 3, 96, 96) for n in (10, 50, 17)]
    assert {frames.dtype for frames in sampled.frames} == {torch.uint8}
    assert sampled.fps == 30


def test_the_last_frame_is_repeated_past_the_end(clip: bytes) -> None:
    sampled = sample(clip, 2.5, 2)
    assert codes(sampled.frames[0]) == [75, 81, 87, 89, 89, 89, 89, 89, 89, 89]
    assert sampled.duration == pytest.approx(0.5, abs=1e-4)


def test_the_last_frame_of_the_time_range_is_repeated(clip: bytes) -> None:
    sampled = sample(clip, 1.0, 1, duration=0.5)
    assert codes(sampled.frames[0]) == [30, 36, 42, 44, 44]  # 45 starts where the time range ends
    assert sampled.duration == pytest.approx(0.5, abs=1e-9)


@pytest.mark.parametrize(
    ("trim", "start", "codes_at_5fps", "duration"),
    [
        ((1.0, 0.6), 0.0, [30, 36, 42, 47, 47], 0.6),
        ((1.0, 0.6), 0.2, [36, 42, 47, 47, 47], 0.4),
        ((1.0, 0.0), 0.2, [36, 42, 48, 54, 60], 1.8),  # 0: to the end
        ((0.0, 0.0), 0.0, [0, 6, 12, 18, 24], 3.0),
    ],
)
def test_trim_moves_start_and_end(
    clip: bytes, trim: tuple[float, float], start: float, codes_at_5fps: list[int], duration: float
) -> None:
    sampled = sample(clip, start, 1, trim=trim)
    assert codes(sampled.frames[0]) == codes_at_5fps
    assert sampled.duration == pytest.approx(duration, abs=1e-4)


def test_a_single_frame_fills_everything() -> None:
    video = video_bytes([Fraction(0)], picture=lambda _, w, h: code_picture(5, w, h))
    sampled = sample(video, seconds=1)
    assert codes(sampled.frames[1]) == [5] * 25
    assert 0 < sampled.duration < 0.2


def stripes(_: int, width: int, height: int) -> np.ndarray:
    """Red, green, blue from left to right."""
    picture = np.zeros((height, width, 3), dtype=np.uint8)
    for channel in range(3):
        picture[:, channel * width // 3 : (channel + 1) * width // 3, channel] = 255
    return picture


def mean_colours(frame: torch.Tensor, x: float, y: float = 0.5) -> list[int]:
    """Which channels are bright at a place, given in 0..1."""
    _, height, width = frame.shape
    return [int(level > 127) for level in frame[:, int(y * height), int(x * width)]]


def test_squash_keeps_the_sides_and_crop_cuts_them() -> None:
    video = video_bytes(frame_times(5, 25), width=192, height=64, picture=stripes)
    squashed, cropped = (sample(video, seconds=0.2, resize=kind).frames[1][0] for kind in ("squash", "crop"))
    assert [mean_colours(squashed, x) for x in (0.1, 0.5, 0.9)] == [[1, 0, 0], [0, 1, 0], [0, 0, 1]]
    assert [mean_colours(cropped, x) for x in (0.1, 0.5, 0.9)] == [[0, 1, 0]] * 3


def test_shrinking_agrees_with_float_arithmetic() -> None:
    picture = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (720, 1280, 3), dtype=np.uint8))
    small = sample_frames(
        ImageSequence(picture[None].float() / 255, 1), rates=(1,), seconds=1, time_range=TimeRange()
    ).frames[0][0]
    exact = torch.nn.functional.interpolate(
        picture.permute(2, 0, 1)[None].double(), size=(224, 224), mode="bilinear", antialias=True
    )[0]
    assert (small - exact).abs().max() <= 1  # one level; rounding alone is 0.5


@pytest.mark.parametrize(
    ("rotation", "red_at"), [(-90, (0.5, 0.1)), (90, (0.5, 0.9)), (180, (0.9, 0.5)), (0, (0.1, 0.5))]
)
def test_phone_clips_are_turned_upright(rotation: int, red_at: tuple[float, float]) -> None:
    if rotation and not hasattr(av.VideoStream, "set_display_rotation"):
        pytest.skip("this PyAV cannot write a rotation")
    video = video_bytes(frame_times(5, 25), width=96, height=48, picture=stripes, rotation=rotation)
    frame = sample(video, seconds=0.2).frames[1][0]
    assert mean_colours(frame, *red_at) == [1, 0, 0]
    info = probe_video(io.BytesIO(video))
    assert (info.width, info.height) == ((48, 96) if rotation % 180 else (96, 48))


@pytest.mark.parametrize(
    ("settings", "tags"),
    [
        ({}, {"colorspace": 1}),  # BT.709; by BT.601 it would be off by more than 10
        ({"codec": "mjpeg", "pixel_format": "yuvj420p", "container": "matroska"}, {}),  # full range
    ],
    ids=["hd", "full range"],
)
def test_colours_are_those_of_the_source(settings: dict[str, Any], tags: dict[str, Any]) -> None:
    for colour in ([200, 60, 30], [250, 250, 250], [5, 5, 5]):
        video = video_bytes(
            frame_times(5, 25),
            picture=lambda _, w, h, c=colour: np.full((h, w, 3), c, np.uint8),
            **settings,
            **tags,
        )
        got = sample(video, seconds=0.2).frames[1][0, :, 100, 100].int().tolist()
        assert np.abs(np.array(got) - colour).max() <= 5, got


def test_probing_returns_length_rate_size_and_audio(tmp_path: Path) -> None:
    for name, container in (("a.mp4", "mp4"), ("a.mkv", "matroska"), ("a.ts", "mpegts")):
        videos.write_video(
            tmp_path / name, frame_times(60, Fraction(30000, 1001)), container=container, audio_seconds=3.0
        )
        info = probe_video(tmp_path / name)
        assert info.duration == pytest.approx(60 * 1001 / 30000, abs=2e-3), name  # not the sound's 3 s
        assert info.fps == pytest.approx(29.97, abs=0.01)
        assert (info.width, info.height, info.has_audio) == (64, 48, True)
    assert not probe_video(io.BytesIO(video_bytes(frame_times(5, 25)))).has_audio


def test_stills_and_animations_are_videos(tmp_path: Path) -> None:
    pictures = [Image.fromarray(code_picture(index, 64, 48)) for index in range(1, 11)]
    pictures[8].save(tmp_path / "still.png")
    pictures[0].save(tmp_path / "moving.gif", save_all=True, append_images=pictures[1:], duration=100)
    assert codes(sample(tmp_path / "still.png").frames[0]) == [9] * 5
    assert codes(sample(tmp_path / "moving.gif").frames[0]) == [1, 3, 5, 7, 9]
    assert probe_video(tmp_path / "moving.gif").duration == pytest.approx(1.0)


def test_cover_art_is_not_a_video(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "song.m4a"), "w", format="mp4") as output:
        cover = output.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt = 64, 48, "yuvj420p"
        cover.disposition = Disposition.attached_pic.value  # PyAV 14 takes no enum
        sound = output.add_stream("aac", rate=44100, layout="stereo")
        output.mux(cover.encode(av.VideoFrame.from_ndarray(code_picture(3, 64, 48))))
        output.mux(cover.encode(None))
        output.mux(sound.encode(videos.tone(4410)))
        output.mux(sound.encode(None))
    with pytest.raises(MediaError, match="only audio"):
        sample(tmp_path / "song.m4a")


def test_recordings_without_a_length_in_the_header() -> None:
    file = LiveFile()
    videos.write_video(
        file,
        frame_times(75, 25),
        container="webm",
        codec="libvpx",
        time_base=Fraction(1, 1000),
        options={"cpu-used": "8"},
    )
    data = file.data.getvalue()
    assert probe_video(io.BytesIO(data)).duration == pytest.approx(3.0, abs=0.05)
    assert codes(sample(data, 1.5).frames[0]) == [37, 42, 47, 52, 57]
    assert sample(data, 1.5, 0.4).duration == pytest.approx(1.5, abs=0.05)


class LiveFile:
    """A file that cannot seek, as a browser's recorder writes one: no length, no index."""

    def __init__(self) -> None:
        self.data = io.BytesIO()

    def write(self, data: bytes) -> int:
        return self.data.write(data)


# --- images


def batch(count: int = 30) -> torch.Tensor:
    pictures = [code_picture(index, 64, 48) for index in range(count)]
    return torch.from_numpy(np.stack(pictures)).float() / 255


def from_images(images: torch.Tensor, fps: float = 10.0, **settings: Any) -> SampledFrames:
    time_range = TimeRange(start=settings.pop("start", 0.0), duration=settings.pop("duration", None))
    return sample_frames(
        ImageSequence(images, fps), **{"rates": RATES, "seconds": 1.0, "time_range": time_range} | settings
    )


@pytest.mark.parametrize("fps", [8, 24000 / 1001, 29.97, 25])
def test_image_batches_are_timed_by_their_rate(fps: float) -> None:
    sampled = from_images(batch(), fps, start=0.2, seconds=2.0)
    times = frame_times(30, Fraction(fps).limit_denominator(1001))
    for per_second, frames in zip(RATES, sampled.frames, strict=True):
        assert codes(frames) == expected(times, 0.2, 2, per_second)
    assert sampled.duration == pytest.approx(30 / fps - 0.2)
    assert sampled.fps == fps


def test_image_batches_follow_trim_time_range_and_end() -> None:
    assert codes(from_images(batch(8), seconds=2.0).frames[0]) == [0, 2, 4, 6, 7, 7, 7, 7, 7, 7]
    sampled = from_images(batch(), trim=(1.0, 0.5), start=0.1, duration=5.0)
    assert codes(sampled.frames[0]) == [11, 13, 14, 14, 14]
    assert sampled.duration == pytest.approx(0.4)


def test_one_image_grey_transparent_and_out_of_range() -> None:
    assert codes(from_images(batch(1)).frames[0]) == [0] * 5
    assert codes(from_images(batch(4)[..., :1]).frames[0])[:2] == [0, 2]
    clear = torch.cat([torch.ones(1, 8, 8, 3), torch.zeros(1, 8, 8, 1)], dim=-1)
    assert from_images(clear).frames[0].max() == 0  # transparent white is black
    wild = torch.stack([torch.full((7, 5, 3), value) for value in (-3.0, 7.0, math.inf)])
    assert from_images(wild).frames[0][:, 0, 0, 0].tolist() == [0, 255, 255, 255, 255]
    assert from_images(torch.rand(2, 8, 8, 3).half()).frames[0].dtype == torch.uint8


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.zeros(0, 8, 8, 3), "at least one"),
        (torch.zeros(8, 8, 3), r"\(8, 8, 3\)"),
        (torch.zeros(1, 8, 8, 2), "channels"),
        (torch.zeros(1, 8, 8, 3, dtype=torch.uint8), "uint8"),
        (torch.full((1, 8, 8, 3), math.nan), "NaN"),
    ],
    ids=["none", "3d", "two channels", "integers", "nan"],
)
def test_impossible_images_are_refused(images: torch.Tensor, message: str) -> None:
    with pytest.raises(InputError, match=message):
        from_images(images)


@pytest.mark.parametrize("fps", [0, -5, math.nan, math.inf])
def test_impossible_image_rates_are_refused(fps: float) -> None:
    with pytest.raises(InputError, match=f"fps of the images is {fps}"):
        from_images(batch(2), fps)


def test_image_batches_can_be_cancelled() -> None:
    with pytest.raises(KeyboardInterrupt):
        from_images(batch(5), check_cancelled=interrupt)


# --- what goes wrong


def interrupt() -> None:
    raise KeyboardInterrupt


def test_cancelling_leaves_the_file_usable(clip: bytes) -> None:
    memory = io.BytesIO(clip)
    with pytest.raises(KeyboardInterrupt):
        sample(memory, check_cancelled=interrupt)
    assert codes(sample(memory).frames[0]) == [0, 6, 12, 18, 24]


@pytest.mark.parametrize("start", [-1, math.nan, math.inf])
def test_impossible_starts_are_refused(start: float) -> None:
    with pytest.raises(InputError, match="start"):
        TimeRange(start=start)


@pytest.mark.parametrize("duration", [0, -1, math.nan, math.inf])
def test_impossible_durations_are_refused(duration: float) -> None:
    with pytest.raises(InputError, match="duration"):
        TimeRange(duration=duration)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rates": (0,)}, "rate of 0"),
        ({"rates": (5, -25)}, "rate of -25"),
        ({"rates": (math.nan,)}, "rate of nan"),
        ({"rates": (math.inf,)}, "rate of inf"),
        ({"rates": (0.1,)}, "no frame"),
        ({"seconds": 0}, "0 s"),
        ({"seconds": math.nan}, "nan s"),
        ({"size": 0}, "0 pixels"),
        ({"resize": "stretch"}, "squash, crop"),
        ({"trim": (-1.0, 0.0)}, "trimmed"),
        ({"trim": (0.0, math.nan)}, "trimmed"),
        ({"trim": (0.0, 0.5), "start": 0.5}, "0.5 s long"),
        ({"trim": (4.0, 0.0)}, "3 s long"),
        ({"start": 3.0}, "start is 3 s, but the video is only 3 s long"),
        ({"start": 3000.0}, "3 s long"),
    ],
)
def test_impossible_requests_are_refused(clip: bytes, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        sample(clip, **settings)


def test_unreadable_sources_are_named(tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mp4").write_text("no video at all, just words " * 50)
    videos.write_sound(tmp_path / "sound.mp4")
    for name, message in (
        ("missing.mp4", "There is no file"),
        ("empty.mp4", "empty"),
        ("text.mp4", "cannot be read"),
        ("sound.mp4", "only audio"),
        ("", "no file"),
    ):
        for look in (sample, probe_video):
            with pytest.raises(MediaError, match=message) as caught:
                look(tmp_path / name)
            assert name in str(caught.value)
    for data, message in ((b"", "empty"), (b"words " * 99, "cannot be read")):
        with pytest.raises(MediaError, match=f"file in memory.*{message}"):
            sample(data)
    with pytest.raises(MediaError, match="NoneType"):
        sample(None)


def test_an_incomplete_video_is_used_up_to_its_end(tmp_path: Path) -> None:
    video = video_bytes(frame_times(90, 30), container="matroska", time_base=Fraction(1, 1000))
    whole = sample(video, 0, 1)
    cut = video[: len(video) // 2]
    assert torch.equal(sample(cut, 0, 0.8).frames[0], whole.frames[0][:4])
    sampled = sample(cut, 0, 3)
    last = codes(sampled.frames[1])[-1]
    assert 15 < last < 60
    assert sampled.duration == pytest.approx((last + 1) / 30, abs=0.04)
    with pytest.raises(InputError, match="long"):
        sample(cut, 2.9)


def test_frames_that_cannot_be_decoded_are_skipped_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "video.mov"
    videos.write_video(
        path,
        frame_times(20, 5),
        container="mov",
        codec="png",
        pixel_format="rgb24",
    )
    data, packets = bytearray(path.read_bytes()), videos.packets(path)
    for broken in (7, 8):
        place = data.index(packets[broken])
        data[place : place + len(packets[broken])] = bytes(len(packets[broken]))
    sampled = sample(bytes(data), 1, 2)
    assert codes(sampled.frames[0]) == [5, 6, 6, 6, 9, 10, 11, 12, 13, 14]
    sample(bytes(data), 1, 3)
    assert "cannot be decoded" in caplog.text


def test_lost_packets_do_not_shift_the_rest() -> None:
    video = bytearray(video_bytes(frame_times(90, 30), container="mpegts"))
    third = len(video) // 3 // 188 * 188
    video[third : third + 188 * 40] = bytes(188 * 40)
    got = codes(sample(bytes(video), 0, 3).frames[0])
    assert got[0] == 0
    assert got[-1] == 84


def test_a_header_without_any_frame_is_refused(clip: bytes) -> None:
    video = video_bytes(frame_times(30, 30), container="matroska", time_base=Fraction(1, 1000))
    first = video.index(b"\x1f\x43\xb6\x75")  # the first Matroska cluster
    with pytest.raises(MediaError, match=r"decoded|read"):
        sample(video[: first + 8])
    with pytest.raises(MediaError):
        sample(clip[: len(clip) // 2])  # an mp4 whose index, at its end, is missing
