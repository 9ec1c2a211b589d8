"""Only files whose times can restart or jump are read to the end before anything else happens."""

from __future__ import annotations

import io
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from corpus import H264, KINDS, Film, Kind, write_film
from videos import frame_times, video_bytes

from audiox_ext.media import containers
from audiox_ext.media.probing import probe_video

MKV = next(kind for kind in KINDS if kind.suffix == ".mkv" and kind.video == "libx264")


def refuse(*_: object) -> None:
    raise AssertionError("all packets were read")


@pytest.mark.parametrize("kind", [H264, MKV], ids=str)
def test_a_film_with_an_even_index_is_not_read_to_its_end(
    kind: Kind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = [Fraction(50 * step) for step in range(21)]
    film = write_film(tmp_path / f"film{kind.suffix}", kind, Film(times=times))
    monkeypatch.setattr(containers, "read_clock", refuse)
    assert probe_video(film).duration == pytest.approx(1000, abs=51)


@pytest.mark.parametrize("kind", [H264, MKV], ids=str)
def test_a_film_whose_index_jumps_is_read(kind: Kind, tmp_path: Path) -> None:
    times = [Fraction(step, 25) + (5000 if step > 12 else 0) for step in range(25)]
    film = write_film(tmp_path / f"film{kind.suffix}", kind, Film(times=times, seconds=0.5, clicks=()))
    assert probe_video(film).duration == pytest.approx(1.0, abs=0.05)


def test_a_film_in_a_stream_without_length_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(containers, "read_clock", refuse)
    with pytest.raises(AssertionError, match="all packets"):
        probe_video(io.BytesIO(video_bytes(frame_times(10, 25), container="mpegts")))


def test_raw_dv_has_the_rate_of_its_pictures(tmp_path: Path) -> None:
    """FFmpeg calls the tick of raw DV its average rate."""
    film = tmp_path / "film.dv"
    with av.open(str(film), "w", format="dv") as output:
        video = output.add_stream("dvvideo", rate=25)
        video.width, video.height, video.pix_fmt = 720, 576, "yuv420p"
        audio = output.add_stream("pcm_s16le", rate=48000, layout="stereo")
        for index in range(5):
            picture = av.VideoFrame.from_ndarray(np.zeros((576, 720, 3), np.uint8), format="rgb24")
            picture.pts = index
            output.mux(video.encode(picture))
            sound = av.AudioFrame.from_ndarray(np.zeros((1, 3840), np.int16), format="s16", layout="stereo")
            sound.sample_rate, sound.pts = 48000, 1920 * index
            output.mux(audio.encode(sound))
        output.mux(video.encode(None))
    info = probe_video(film)
    assert (info.fps, info.duration) == (25, pytest.approx(0.2, abs=0.05))
