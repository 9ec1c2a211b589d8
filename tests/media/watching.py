"""What the engine sees and hears of a film of the corpus, and what another player shows of its output."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from corpus import FPS, RATE, SECONDS
from independent import Playback, find_clicks, play
from videos import read_code

from audiox_ext.media.audio_video import read_soundtrack
from audiox_ext.media.containers import MediaSource
from audiox_ext.media.frames import TimeRange, sample_frames
from audiox_ext.media.muxing import replace_audio_track


def see(path: MediaSource, start: float = 0.0, seconds: float = SECONDS, rate: float = FPS) -> list[int]:
    """The numbers that the model sees."""
    frames = sample_frames(path, rates=(rate,), seconds=seconds, time_range=TimeRange(start=start)).frames[0]
    return [read_code(frame) for frame in frames]


def hear(path: MediaSource) -> list[float]:
    """When the clicks of the film's own sound begin, in seconds after the first picture."""
    sound = read_soundtrack(path)
    return [] if sound is None else find_clicks(*sound)


def write_with_clicks(
    path: MediaSource, out: Path, clicks: Sequence[float] = (1.0, 2.0), start: float = 0.0
) -> Playback:
    """Give a film a new sound of clicks, and play it."""
    wave = torch.zeros(2, round((max(clicks) + 1) * RATE))
    for time in clicks:
        wave[:, round(time * RATE) :][:, : RATE // 50] = 0.8
    replace_audio_track(path, wave, RATE, out, start=start)
    played = play(out)
    assert played.clicks == pytest.approx(list(clicks), abs=0.03)
    return played
