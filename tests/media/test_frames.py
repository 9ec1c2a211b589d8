"""Sampled frames have the picture, size and colours of their source, and only they stay in memory."""

from __future__ import annotations

import io
import os
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
from sampled_frames import codes, sample
from videos import code_picture, frame_times, video_bytes

from audiox_ext.errors import MediaError
from audiox_ext.media.frames import ImageSequence, TimeRange, sample_frames
from audiox_ext.media.probing import probe_video


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


def flat(grey: int, width: int, height: int) -> np.ndarray:
    return np.full((height, width, 3), grey, dtype=np.uint8)


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


def stripes(_: int, width: int, height: int) -> np.ndarray:
    """Red, green, blue from left to right."""
    picture = np.zeros((height, width, 3), dtype=np.uint8)
    for channel in range(3):
        picture[:, channel * width // 3 : (channel + 1) * width // 3, channel] = 255
    return picture


def mean_colours(frame: torch.Tensor, x: float, y: float = 0.5) -> list[int]:
    """Which channels are bright at a place, given in 0..1."""
    _, height, width = frame.shape
    return [int(value > 127) for value in frame[:, int(y * height), int(x * width)]]


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
        pixel = sample(video, seconds=0.2).frames[1][0, :, 100, 100].int().tolist()
        assert np.abs(np.array(pixel) - colour).max() <= 5, pixel


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
