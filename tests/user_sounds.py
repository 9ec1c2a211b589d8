"""A folder as users have it: sounds with captions."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import Tensor

from audiox_ext.media.audio_video import write_audio


def tone(hertz: float, seconds: float, rate: int = 16000, channels: int = 2) -> Tensor:
    times = torch.arange(round(seconds * rate)) / rate
    return (0.3 * torch.sin(2 * math.pi * hertz * times)).expand(channels, -1)


def write_sounds(folder: Path, count: int = 5, seconds: float = 4.0, rate: int = 16000) -> Path:
    """Write tone-0.wav with tone-0.txt and so on, each a little higher."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        write_audio(folder / f"tone-{number}.wav", tone(300 + 50 * number, seconds, rate), rate)
        (folder / f"tone-{number}.txt").write_text(f"a tone of {300 + 50 * number} Hz\n", encoding="utf-8")
    return folder
