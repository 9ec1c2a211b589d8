"""Encoding and decoding in chunks: equal to the whole, after memory ran out, and cancelled."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from golden_cases import assert_close_l2
from oobleck_networks import autoencoder_config, golden_part, tiny_decoder, tiny_encoder
from torch import Tensor

from audiox_ext.errors import InputError
from audiox_ext.networks.autoencoder.autoencoder import Autoencoder
from audiox_ext.networks.autoencoder.oobleck import OobleckDecoder, OobleckEncoder, decoder_receptive_field
from audiox_ext.networks.autoencoder.tiling import decode_in_chunks, encode_in_chunks
from audiox_ext.random_numbers import RandomNumbers


@pytest.mark.parametrize("chunk", [1, 7, 16, 40, 41, 99])
def test_a_decode_in_chunks_equals_the_whole(chunk: int) -> None:
    decoder = golden_part("maf", "decoder")
    torch.manual_seed(3)
    latents = torch.randn(2, 4, 40)
    assert_close_l2(decode_in_chunks(decoder, latents, chunk), decoder(latents), 1e-6)


def test_more_overlap_than_latents_is_fine() -> None:
    decoder = golden_part("maf", "decoder")
    torch.manual_seed(4)
    latents = torch.randn(1, 4, 20)
    assert_close_l2(decode_in_chunks(decoder, latents, 8, overlap=50), decoder(latents), 1e-6)


def test_chunks_that_cannot_fit_are_refused() -> None:
    decoder, latents = tiny_decoder((2, 4)), torch.zeros(1, 2, 40, dtype=torch.float64)
    with pytest.raises(InputError, match="at least 1 latent, got 0"):
        decode_in_chunks(decoder, latents, 0)
    with pytest.raises(
        InputError, match=f"at least {decoder_receptive_field(decoder.config)} latents.*got 2"
    ):
        decode_in_chunks(decoder, latents, 8, overlap=2)


@pytest.mark.parametrize("chunk", [7, 16, 40, 99])
def test_an_encode_in_chunks_equals_the_whole(chunk: int) -> None:
    encoder = golden_part("maf", "encoder")
    torch.manual_seed(3)
    waveform = torch.rand(2, 2, 40 * 512) * 2 - 1
    assert_close_l2(encode_in_chunks(encoder, waveform, chunk), encoder(waveform), 1e-6)


@pytest.mark.parametrize("extra", [0, 1, 13])
@pytest.mark.parametrize("strides", [(3, 5), (2, 7)], ids=str)
def test_samples_that_fill_no_latent_change_nothing_about_that(strides: tuple[int, ...], extra: int) -> None:
    encoder, hop = tiny_encoder(strides), strides[0] * strides[1]
    torch.manual_seed(4)
    waveform = torch.randn(1, 2, 61 * hop + min(extra, hop - 1), dtype=torch.float64)
    for chunk in (5, 20):
        assert_close_l2(encode_in_chunks(encoder, waveform, chunk), encoder(waveform), 1e-12)


@pytest.mark.parametrize(("kind", "iterate_batch"), [("base", False), ("maf", True), ("turbo", False)])
def test_an_encode_in_pieces_samples_the_same(kind: str, iterate_batch: bool, golden_model: Any) -> None:
    whole = golden_model(kind).pretransform
    model = Autoencoder(dataclasses.replace(whole.config, iterate_batch=iterate_batch))
    model.load_state_dict(whole.state_dict())
    pieces: list[int] = []
    torch.manual_seed(5)
    waveform = torch.rand(2, 2, 120 * whole.config.downsampling_ratio + 9) * 2 - 1
    with torch.no_grad():
        expected = model.encode(waveform, RandomNumbers.from_seed(1))
        in_pieces = model.encode(waveform, RandomNumbers.from_seed(1), 60, lambda: pieces.append(1))
    assert_close_l2(in_pieces, expected, 1e-5)
    assert len(pieces) >= 3


def test_an_encode_that_runs_out_of_memory_is_done_in_chunks(
    golden_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    autoencoder, lengths = golden_model("maf").pretransform, []
    plain, ratio = OobleckEncoder.forward, autoencoder.config.downsampling_ratio
    torch.manual_seed(6)
    waveform = torch.rand(2, 2, 100 * ratio) * 2 - 1

    def short_of_memory(self: OobleckEncoder, part: Tensor) -> Tensor:
        lengths.append(part.shape[-1] // ratio)
        if lengths[-1] > 70:
            raise torch.OutOfMemoryError("out of memory")
        return plain(self, part)

    with torch.no_grad():
        expected = autoencoder.posterior(waveform)
        monkeypatch.setattr(OobleckEncoder, "forward", short_of_memory)
        in_chunks = autoencoder.posterior(waveform)
    assert lengths[0] == 100
    assert max(lengths[1:]) <= 70
    for part, whole in zip(in_chunks, expected, strict=True):
        assert_close_l2(part, whole, 1e-5)


@pytest.mark.parametrize("part", [OobleckDecoder, OobleckEncoder])
@pytest.mark.parametrize(
    "message",
    [
        "MPS backend out of memory (MPS allocated: 9 GB)",
        "[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9",
        "DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes.",
        "interrupted",
    ],
)
def test_every_devices_way_to_run_out_of_memory_is_known(
    golden_model: Any, monkeypatch: pytest.MonkeyPatch, message: str, part: Any
) -> None:
    autoencoder, freed, lengths = golden_model("maf").pretransform, [], []
    plain = part.forward
    torch.manual_seed(6)
    inputs = torch.randn(1, 4, 100) if part is OobleckDecoder else torch.rand(1, 2, 100 * 512) * 2 - 1

    def short_of_memory(self: Any, piece: Tensor) -> Tensor:
        lengths.append(piece.shape[-1])
        if piece.shape[-1] == inputs.shape[-1]:
            raise RuntimeError(message)
        assert freed == [1], "memory is freed before the second try"
        return plain(self, piece)

    def work(**more: Any) -> Tensor:
        if part is OobleckDecoder:
            return autoencoder.decode(inputs, **more)
        return torch.cat(autoencoder.posterior(inputs, **more))

    with torch.no_grad():
        expected = work()
        monkeypatch.setattr(part, "forward", short_of_memory)
        if message == "interrupted":
            with pytest.raises(RuntimeError, match="interrupted"):
                work(free=lambda: freed.append(1))
            assert (len(lengths), freed) == (1, [])
        else:
            assert_close_l2(work(free=lambda: freed.append(1)), expected, 1e-5)


@pytest.mark.parametrize("chunk", [5, 100])
def test_a_decode_can_be_cancelled(chunk: int) -> None:
    def cancel() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        decode_in_chunks(
            tiny_decoder((2, 4)), torch.zeros(1, 2, 40, dtype=torch.float64), chunk, None, cancel
        )


def test_an_autoencoder_can_be_cancelled_between_pieces(golden_model: Any) -> None:
    autoencoder, calls = golden_model("maf").pretransform, []

    def second() -> None:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt

    for work in (autoencoder.decode, autoencoder.posterior):
        calls.clear()
        inputs = torch.zeros(1, 4, 150) if work == autoencoder.decode else torch.zeros(1, 2, 150 * 512)
        with pytest.raises(KeyboardInterrupt), torch.no_grad():
            work(inputs, 50, second)
        assert len(calls) == 2


def test_a_decode_that_runs_out_of_memory_is_done_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    config = autoencoder_config(Path(__file__).parents[1] / "configs" / "AudioX-MAF.json")
    small = dataclasses.replace(
        config,
        encoder=dataclasses.replace(config.encoder, channels=2),
        decoder=dataclasses.replace(config.decoder, channels=2),
    )
    torch.manual_seed(0)
    autoencoder = Autoencoder(small)
    latents = torch.randn(2, 64, 80)
    with torch.no_grad():
        whole = autoencoder.decode(latents)
        plain, lengths = OobleckDecoder.forward, []

        def short_of_memory(self: OobleckDecoder, part: torch.Tensor) -> torch.Tensor:
            lengths.append(part.shape[-1])
            if part.shape[-1] > 60:
                raise torch.OutOfMemoryError("out of memory")
            return plain(self, part)

        monkeypatch.setattr(OobleckDecoder, "forward", short_of_memory)
        assert_close_l2(autoencoder.decode(latents), whole, 1e-4)
    assert lengths[0] == 80
    assert max(lengths[1:]) <= 60
