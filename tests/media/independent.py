"""Reads films with the ffmpeg program, whose FFmpeg is not the one in PyAV."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from videos import read_code

RATE = 48000


@cache
def find_ffmpeg() -> str | None:
    """The program: the system's, or that of imageio-ffmpeg."""
    program = shutil.which("ffmpeg")
    if program is None:
        try:
            import imageio_ffmpeg
        except ImportError:
            return None
        program = imageio_ffmpeg.get_ffmpeg_exe()
    return str(program)


needs_ffmpeg = pytest.mark.skipif(
    find_ffmpeg() is None, reason="NO FFMPEG: install ffmpeg or imageio-ffmpeg to check films with it"
)


@dataclass(frozen=True)
class Playback:
    """A film as ffmpeg plays it.

    Attributes:
        times: When each picture appears, in seconds after the first.
        codes: The number that each picture shows.
        clicks: When each click begins, in seconds after the first picture.
        colours: (R, G, B) in the centre of each picture.
        report: What ffmpeg says of the file.
    """

    times: list[float]
    codes: list[int]
    clicks: list[float]
    colours: list[tuple[int, ...]]
    report: str


def play(path: Path, width: int = 96, height: int = 72) -> Playback:
    """Decode a film with ffmpeg, turned as it asks."""
    filters = f"showinfo,scale={width}:{height}"
    run = _run(path, f"-map 0:v:0 -fps_mode passthrough -vf {filters} -f rawvideo -pix_fmt rgb24 -")
    report = run.stderr.decode(errors="replace")
    pictures = np.frombuffer(run.stdout, np.uint8).reshape(-1, height, width, 3)
    stamps = [float(text) for text in re.findall(r"pts_time:\s*(-?[\d.]+)", report)]
    return Playback(
        times=[time - stamps[0] for time in stamps],
        codes=[read_code(torch.from_numpy(picture.copy()).permute(2, 0, 1)) for picture in pictures],
        clicks=[time - stamps[0] for time in _play_clicks(path)] if "Audio:" in report else [],
        colours=[tuple(map(int, picture[height // 2, width // 2])) for picture in pictures],
        report=report,
    )


def _run(path: Path, options: str) -> subprocess.CompletedProcess[bytes]:
    command = [str(find_ffmpeg()), "-hide_banner", "-i", str(path), *options.split()]
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=True)


def _play_clicks(path: Path) -> list[float]:
    run = _run(path, f"-map 0:a:0 -af aresample=async=1:first_pts=0 -f f32le -ac 2 -ar {RATE} -")
    samples = np.frombuffer(run.stdout, np.float32).reshape(-1, 2).T
    return find_clicks(torch.from_numpy(samples.copy()), RATE)


def find_clicks(waveform: Tensor, rate: int, start: float = 0.0) -> list[float]:
    """When each click begins: the sound is loud, and was not for 0.3 s."""
    clicks, latest = [], -1.0
    for index in (waveform.abs().amax(dim=0) > 0.2).nonzero()[:, 0].tolist():
        if index / rate - latest > 0.3:
            clicks.append(start + index / rate)
        latest = index / rate
    return clicks
