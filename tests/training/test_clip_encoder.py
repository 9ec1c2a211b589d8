"""A clip with several captions has a context for each of them, drawn equally often."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from audiox_ext import get_pretrained_model
from audiox_ext.devices import DevicePlacement
from audiox_ext.training.audio_clips import Clip
from audiox_ext.training.audio_folder import CaptionedFile
from audiox_ext.training.clip_encoder import ClipEncoder

pytestmark = pytest.mark.usefixtures("one_thread")
CAPTIONS = ("rain", "a shower of rain", "drops on a roof")


def test_every_caption_has_its_contexts(tiny_folder: Callable[[str], Path]) -> None:
    model, _ = get_pretrained_model(tiny_folder("maf"), device="cpu")
    encoder = ClipEncoder(model, DevicePlacement("cpu"), None, False)
    samples = model.config.latent_count * model.config.autoencoder.downsampling_ratio
    waveform = 0.1 * torch.randn(2, samples, generator=torch.Generator().manual_seed(0))

    def encode(*captions: str) -> tuple[torch.Tensor, ...]:
        file = CaptionedFile(
            path=Path("rain.wav"), name="rain.wav", caption=captions[0], other_captions=captions[1:]
        )
        clip = Clip(file=file, start=0.0, seconds=1.0, waveform=waveform, has_pictures=False)
        encoded = encoder.encode(clip)
        assert encoded.caption == captions[0]
        return tuple(context.unpack() for context in encoded.contexts["text"])

    single = [encode(caption) for caption in CAPTIONS]
    together = encode(*CAPTIONS)
    assert [len(contexts) for contexts in single] == [4, 4, 4]
    assert len(together) == 6  # the least multiple of 3 that is not below 4
    assert not torch.equal(single[0][0], single[1][0])
    for draw, context in enumerate(together):
        assert torch.equal(context, single[draw % 3][draw % 4])
