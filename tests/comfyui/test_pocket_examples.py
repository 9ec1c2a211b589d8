"""Tests of the examples for the pack's own model: each is queued unchanged, and its sound is measured."""

from __future__ import annotations

import io
import json

import pytest
from pocket_checks import CHECKS, RATE

from audiox_ext.media.audio_video import read_audio

from .comfy_server import PACK, ComfyServer, get_files

pytestmark = [pytest.mark.server, pytest.mark.slow]


@pytest.mark.parametrize("name", CHECKS)
def test_what_it_makes_is_what_was_asked(name: str, server: ComfyServer) -> None:
    prompt = json.loads((PACK / "examples" / "api" / f"{name}.json").read_text(encoding="utf-8"))
    entry = server.run(prompt, timeout=900)
    (saved,) = [file for file in get_files(entry) if file["type"] == "output"]
    waveform, rate = read_audio(io.BytesIO(server.view(saved)))
    assert rate == RATE
    CHECKS[name](waveform.numpy())
