"""Audio of every channel layout and sample format can be read; a fault would end the child process."""

from __future__ import annotations

import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from audiox_ext.media.audio_video import read_audio, read_soundtrack, read_stereo

ROOT = Path(__file__).parents[2]

READ_EVERYTHING = """
import sys
sys.path.insert(0, {root!r})
import av, numpy as np
from audiox_ext.media.tracks.samples import SampleReader

LAYOUTS = '''mono stereo 2.1 3.0 3.0(back) 4.0 quad quad(side) 3.1 5.0 5.0(side) 4.1 5.1 5.1(side) 6.0
    6.0(front) 3.1.2 hexagonal 6.1 6.1(back) 6.1(front) 7.0 7.0(front) 7.1 7.1(wide) 7.1(wide-side) 5.1.2
    octagonal cube 5.1.4 7.1.2 7.1.4 hexadecagonal downmix 22.2'''.split()
LAYOUTS += ["ambisonic 1", "ambisonic 3", "FL+LFE+TSR"]
for layout in LAYOUTS:
    count = av.AudioLayout(layout).nb_channels
    levels = np.arange(1, count + 1) / (2 * count)
    for name in "u8 s16 s32 s64 flt dbl u8p s16p s32p s64p fltp dblp".split():
        graph = av.filter.Graph()
        source = graph.add("aevalsrc", "|".join(map(str, levels)) + f":c={{layout}}:s=48000:d=0.1")
        conversion = graph.add("aformat", f"sample_fmts={{name}}")
        graph.link_nodes(source, conversion, graph.add("abuffersink")).configure()
        reader = SampleReader()
        samples = np.concatenate([reader.read(graph.pull()) for _ in range(3)], axis=1)
        assert samples.shape == (count, 3072) and samples.dtype == np.float32, (layout, name, samples.shape)
        assert np.abs(samples - levels[:, None]).max() < (1 / 100 if "u8" in name else 1e-4), (layout, name)
print("read", len(LAYOUTS))
"""


def run_python(code: str) -> str:
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 0, f"status {run.returncode}: {run.stderr[-2000:]}"
    return run.stdout


def write_channels(path: Path, codec: str, layout: str, format_: str, levels: list[float]) -> Path:
    """0.2 s of a constant in each channel."""
    with av.open(str(path), "w") as output:
        stream = output.add_stream(codec, rate=48000, layout=layout)
        stream.codec_context.format = format_
        samples = np.repeat(np.array(levels, np.float32)[:, None], 9600, axis=1)
        packed = np.ascontiguousarray(samples.T).reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(packed, format="flt", layout=layout)
        frame.sample_rate, frame.pts, frame.time_base = 48000, 0, Fraction(1, 48000)
        for part in av.AudioResampler(format=format_).resample(frame):
            output.mux(stream.encode(part))
        output.mux(stream.encode(None))
    return path


def test_every_layout_and_sample_format_is_read_in_a_child_process() -> None:
    assert run_python(READ_EVERYTHING.format(root=str(ROOT))).startswith("read 3")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("codec", "format_", "suffix"),
    [("libopus", "flt", ".mka"), ("aac", "fltp", ".mka"), ("aac", "fltp", ".mp4"), ("flac", "s32", ".flac")],
)
def test_surround_tracks_are_read_in_a_child_process(
    codec: str, format_: str, suffix: str, tmp_path: Path
) -> None:
    path = write_channels(tmp_path / f"film{suffix}", codec, "7.1", format_, [0.1] * 8)
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
        "from audiox_ext.media.audio_video import read_audio\n"
        f"waveform, rate = read_audio({str(path)!r}); print(tuple(waveform.shape)[0], rate)"
    )
    assert run_python(code).split() == ["8", "48000"]


@pytest.mark.parametrize(
    ("layout", "levels", "left", "right"),
    [
        ("2.1", [0.4, 0.2, 0.9], 0.4, 0.2),  # the third channel is the LFE, not the centre
        ("3.0", [0.2, 0.1, 0.2], 0.2 + 0.2 * 0.7071, 0.1 + 0.2 * 0.7071),
        ("4.0", [0.2, 0.1, 0.2, 0.1], 0.2 + 0.2 * 0.7071 + 0.05, 0.1 + 0.2 * 0.7071 + 0.05),
        ("quad", [0.2, 0.1, 0.2, 0.1], 0.2 + 0.2 * 0.7071, 0.1 + 0.1 * 0.7071),
        ("5.1", [0.2, 0.1, 0.1, 0.9, 0.2, 0.1], 0.2 + 0.3 * 0.7071, 0.1 + 0.2 * 0.7071),
        ("7.1.4", [0.1] * 3 + [0.9] + [0.1] * 8, 0.1 + 0.5 * 0.7071, 0.1 + 0.5 * 0.7071),
    ],
)
def test_surround_is_mixed_by_the_names_of_its_channels(
    layout: str, levels: list[float], left: float, right: float, tmp_path: Path
) -> None:
    path = write_channels(tmp_path / "film.wav", "pcm_f32le", layout, "flt", levels)
    whole, _ = read_audio(path)
    assert torch.allclose(whole[:, 100], torch.tensor(levels))
    mixed, rate = read_stereo(path)
    assert rate == 48000
    assert mixed[:, 100].tolist() == pytest.approx([left, right], abs=1e-4)


def test_channels_without_names_are_left_alone(tmp_path: Path) -> None:
    path = write_channels(tmp_path / "film.wav", "pcm_s16le", "12 channels", "s16", [0.1] * 12)
    assert read_stereo(path)[0].shape[0] == 12


def test_a_film_s_surround_is_mixed(tmp_path: Path) -> None:
    path = tmp_path / "film.mp4"
    with av.open(str(path), "w") as output:
        video = output.add_stream("mpeg4", rate=25)
        video.width, video.height = 64, 64
        audio = output.add_stream("aac", rate=48000, layout="4.0")
        output.mux(video.encode(av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")))
        samples = np.zeros((4, 48000), np.float32)
        samples[2] = 0.5 * np.sin(np.arange(48000) / 20)
        frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout="4.0")
        frame.sample_rate, frame.pts, frame.time_base = 48000, 0, Fraction(1, 48000)
        output.mux([*audio.encode(frame), *audio.encode(None), *video.encode(None)])
    waveform, _, _ = read_soundtrack(path)
    assert waveform[:, 10000:40000].abs().amax(dim=1).tolist() == pytest.approx([0.5 * 0.7071] * 2, abs=0.01)
