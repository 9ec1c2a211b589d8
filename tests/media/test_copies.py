"""A copied video stays what it was: tag, tags, chapters; what a container cannot hold is encoded."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from videos import code_picture, frame_times, packets, read_code, write_video

from audiox_ext.media.frames import TimeRange, sample_frames
from audiox_ext.media.muxing import choose_video_suffix, replace_audio_track

TAGS = {
    "title": "Rain on a roof",
    "artist": "Ada",
    "comment": "first take",
    "creation_time": "2024-05-06T07:08:09.000000Z",
    "location": "+52.5200+013.4050/",
}


def silence(seconds: float = 2.0) -> tuple[torch.Tensor, int]:
    return torch.zeros(2, round(44100 * seconds)), 44100


def write_film(path: Path, codec: str = "libx264", tag: str = "", **settings: Any) -> Path:
    """1 s at 25 fps."""
    if tag:
        settings["codec_tag"] = tag
    options = {"x265-params": "log-level=none"} if codec == "libx265" else None
    write_video(path, frame_times(25, 25), codec=codec, options=options, **settings)
    return path


@pytest.mark.parametrize(("tag", "codec"), [("hvc1", "libx265"), ("hev1", "libx265"), ("avc1", "libx264")])
@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".m4v"])
def test_a_copy_keeps_the_tag_of_its_codec(tag: str, codec: str, suffix: str, tmp_path: Path) -> None:
    film = write_film(tmp_path / "film.mov", codec, tag, container="mov")
    replace_audio_track(film, *silence(), tmp_path / f"out{suffix}")
    with av.open(str(tmp_path / f"out{suffix}")) as out:
        assert out.streams.video[0].codec_tag == tag
    assert packets(tmp_path / f"out{suffix}") == packets(film)


def test_hevc_without_a_tag_is_tagged_for_apple(tmp_path: Path) -> None:
    film = write_film(tmp_path / "film.mkv", "libx265", container="matroska", time_base=Fraction(1, 1000))
    replace_audio_track(film, *silence(), tmp_path / "out.mp4")
    with av.open(str(tmp_path / "out.mp4")) as out:
        assert out.streams.video[0].codec_tag == "hvc1"


def test_prores_keeps_its_profile(tmp_path: Path) -> None:
    film = tmp_path / "film.mov"
    write_video(
        film,
        frame_times(5, 25),
        container="mov",
        codec="prores_ks",
        pixel_format="yuv444p10le",
        options={"profile": "4444"},
    )
    replace_audio_track(film, *silence(), tmp_path / "out.mov")
    with av.open(str(film)) as source, av.open(str(tmp_path / "out.mov")) as out:
        assert out.streams.video[0].codec_tag == source.streams.video[0].codec_tag == "ap4h"


@pytest.mark.parametrize("extra", [{}, {"prompt": '{"1": 2}', "com.apple.quicktime.model": "Phone"}])
@pytest.mark.parametrize("start", [0.0, 0.2])
@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
def test_tags_are_kept(suffix: str, start: float, extra: dict[str, str], tmp_path: Path) -> None:
    film, out = tmp_path / "film.mp4", tmp_path / f"out{suffix}"
    plain = write_film(tmp_path / "plain.mp4")
    options = {"movflags": "use_metadata_tags"} if extra else {}
    with (
        av.open(str(plain)) as source,
        av.open(str(film), "w", container_options=options) as target,
    ):
        target.metadata.update({**TAGS, **extra})
        copy = target.add_stream_from_template(source.streams.video[0], opaque=True)
        copy.metadata["language"] = "deu"
        for packet in source.demux(source.streams.video[0]):
            if packet.size:
                packet.stream = copy
                target.mux(packet)
    replace_audio_track(film, *silence(), out, start=start, metadata={"workflow": "{}"})
    with av.open(str(out)) as result:
        tags = {name.lower(): value for name, value in result.metadata.items()}
        for name, value in {**TAGS, **extra, "workflow": "{}"}.items():
            assert tags[name.lower()] == value
        if start == 0 and suffix == ".mp4":
            assert result.streams.video[0].language == "deu"
        if suffix == ".mkv":
            assert "compatible_brands" not in tags


@pytest.mark.skipif(not hasattr(av.container.Container, "set_chapters"), reason="PyAV cannot write chapters")
@pytest.mark.parametrize(("start", "first"), [(0.0, (0.0, 0.4)), (0.2, (0.0, 0.2))])
def test_chapters_are_kept(start: float, first: tuple[float, float], tmp_path: Path) -> None:
    film, base = tmp_path / "film.mkv", Fraction(1, 1000)
    plain = write_film(tmp_path / "plain.mp4")
    with av.open(str(plain)) as source, av.open(str(film), "w") as target:
        target.set_chapters(
            [
                {"id": 1, "start": 0, "end": 400, "time_base": base, "metadata": {"title": "Rain"}},
                {"id": 2, "start": 400, "end": 1000, "time_base": base, "metadata": {"title": "Thunder"}},
            ]
        )
        copy = target.add_stream_from_template(source.streams.video[0], opaque=True)
        for packet in source.demux(source.streams.video[0]):
            if packet.size:
                packet.stream = copy
                target.mux(packet)
    for suffix in (".mp4", ".mkv", ".webm"):
        replace_audio_track(film, *silence(), tmp_path / f"out{suffix}", start=start)
        with av.open(str(tmp_path / f"out{suffix}")) as out:
            chapters = out.chapters()
        assert [chapter["metadata"]["title"] for chapter in chapters] == ["Rain", "Thunder"]
        times = [float(chapters[0][edge] * chapters[0]["time_base"]) for edge in ("start", "end")]
        assert times == pytest.approx(first, abs=0.002)


@pytest.mark.parametrize(("codec", "pixels"), [("png", "rgb24"), ("mjpeg", "yuvj420p"), ("qtrle", "rgb24")])
def test_a_codec_that_few_players_show_in_mp4_is_encoded(
    codec: str, pixels: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    film = write_film(tmp_path / "film.mov", codec, container="mov", pixel_format=pixels)
    replace_audio_track(film, *silence(), tmp_path / "out.mp4")
    assert f"is encoded, not copied: few players show {codec} in mp4" in caplog.text
    with av.open(str(tmp_path / "out.mp4")) as out:
        assert out.streams.video[0].codec_context.name == "h264"
    frames = sample_frames(tmp_path / "out.mp4", rates=(25,), seconds=1, time_range=TimeRange()).frames[0]
    assert [read_code(frame) for frame in frames] == list(range(25))
    replace_audio_track(film, *silence(), tmp_path / "out.mov")
    assert packets(tmp_path / "out.mov") == packets(film)
    assert choose_video_suffix(film) != ".webm"


def test_transparent_films_are_encoded_over_black(tmp_path: Path) -> None:
    def half_clear(index: int, width: int, height: int) -> np.ndarray:
        picture = np.full((height, width, 4), (200, 100, 50, 255), np.uint8)
        picture[:, : width // 2, 3] = 0
        return picture

    film = tmp_path / "film.mov"
    with av.open(str(film), "w") as output:
        stream = output.add_stream("qtrle", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "argb"
        for index in range(5):
            frame = av.VideoFrame.from_ndarray(half_clear(index, 64, 48), format="rgba")
            output.mux(stream.encode(frame.reformat(format="argb")))
        output.mux(stream.encode(None))
    replace_audio_track(film, *silence(), tmp_path / "out.mp4")
    for path in (film, tmp_path / "out.mp4"):
        frame = sample_frames(path, rates=(5,), seconds=0.2, time_range=TimeRange()).frames[0][0]
        assert frame[:, 112, 40].max() < 8
        assert frame[:, 112, 180].tolist() == pytest.approx([200, 100, 50], abs=8)
    replace_audio_track(film, *silence(), tmp_path / "copy.mov")
    assert packets(tmp_path / "copy.mov") == packets(film)


def test_a_picture_is_shown_for_as_long_as_in_the_source(tmp_path: Path) -> None:
    times = [Fraction(value, 100) for value in (0, 10, 50, 180)]
    write_video(tmp_path / "film.mp4", times, picture=code_picture)
    replace_audio_track(tmp_path / "film.mp4", *silence(3), tmp_path / "out.mkv", start=0.05)
    frames = sample_frames(tmp_path / "out.mkv", rates=(20,), seconds=1.9, time_range=TimeRange()).frames[0]
    assert [read_code(frame) for frame in frames] == [0] + [1] * 8 + [2] * 26 + [3] * 3
