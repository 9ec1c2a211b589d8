"""The demo's sounds: as loud as intended, never clipped, otherwise unchanged."""

from pathlib import Path

import pytest
import torch

from audiox_ext.media.audio_video import read_audio, write_audio
from audiox_ext.media.loudness import measure_loudness, measure_peak
from tools.audible import CEILING, LOUDNESS, bring_to_loudness, limit_peaks, make_audible

RATE = 16000


def blows(level: float, decay: float) -> torch.Tensor:
    """Four decaying tones in ten seconds: (2, S); a larger decay makes their peaks stand out more."""
    time = torch.arange(RATE) / RATE
    blow = torch.sin(2 * torch.pi * 440 * time) * torch.exp(-decay * time)
    sound = torch.zeros(2, 10 * RATE)
    for second in (1, 3, 5, 8):
        sound[:, second * RATE : (second + 1) * RATE] = level * blow
    return sound


@pytest.mark.parametrize("level", [0.001, 0.05, 1.0])
@pytest.mark.parametrize("decay", [3.0, 15.0])
def test_a_sound_gets_the_loudness_without_clipping(level: float, decay: float) -> None:
    sound = bring_to_loudness(blows(level, decay), RATE)
    assert measure_loudness(sound, RATE) == pytest.approx(LOUDNESS, abs=0.05)
    assert measure_peak(sound) <= CEILING + 1e-3


def test_a_sound_that_would_be_squashed_stays_quieter() -> None:
    sound = bring_to_loudness(blows(0.1, 200.0), RATE)
    assert -30 < measure_loudness(sound, RATE) < LOUDNESS - 1
    assert measure_peak(sound) <= CEILING + 1e-3


def test_a_sound_with_room_above_it_is_only_scaled() -> None:
    sound = blows(0.01, 3.0)
    louder = bring_to_loudness(sound, RATE)
    assert torch.allclose(louder, sound * (louder.abs().max() / sound.abs().max()), atol=1e-6)


def test_silence_stays_silence() -> None:
    assert not bring_to_loudness(torch.zeros(2, RATE), RATE).any()


def test_the_limiter_changes_only_what_surrounds_a_peak() -> None:
    sound = torch.full((2, RATE), 0.5)
    sound[0, 8000] = 2.0
    limited = limit_peaks(sound, RATE)
    assert measure_peak(limited) == pytest.approx(CEILING, abs=1e-3)
    changed = torch.nonzero((limited != sound).any(dim=0)).flatten()
    assert 8000 - 200 <= int(changed.min()) <= int(changed.max()) <= 8000 + 200
    assert torch.equal(limited[1, :7000], sound[1, :7000])


def test_a_file_is_made_audible_in_place(tmp_path: Path) -> None:
    file = tmp_path / "sound.wav"
    write_audio(file, blows(0.01, 15.0), RATE)
    make_audible(file)
    sound, rate = read_audio(file)
    assert (sound.shape, rate) == ((2, 10 * RATE), RATE)
    assert measure_loudness(sound, rate) == pytest.approx(LOUDNESS, abs=0.05)
