"""Latents that are strengths of spectral bands, and autoencoders of them."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from training_miniature import miniature, noise, strengths_values

from audiox_ext.errors import ConfigError
from audiox_ext.networks.autoencoder.autoencoder import Autoencoder
from audiox_ext.networks.autoencoder.spectral import (
    NOISE_PARTS,
    LatentMap,
    compute_angle_gains,
    count_spectral_values,
    list_noise_bands,
    list_sinusoid_bands,
    measure_spectrum,
)
from audiox_ext.random_numbers import RandomNumbers
from pocket.autoencoder.initial_weights import initialise_autoencoder
from pocket.autoencoder.spectral_decoder import build_decoder


def tone(pitch: float, left: float, right: float, seconds: float = 2.048, rate: int = 16000) -> Tensor:
    """(1, 2, S), of amplitudes."""
    time = torch.arange(round(seconds * rate)) / rate
    return torch.tensor([[left], [right]]) * torch.sin(2 * torch.pi * pitch * time)[None, None]


def test_strengths_tell_tones_noise_and_sides() -> None:
    bands, noises = list_sinusoid_bands(16000, 2048), list_noise_bands(16000)
    side = len(bands) + NOISE_PARTS * len(noises)
    assert count_spectral_values(16000, 2048) == 2 * side
    found = measure_spectrum(tone(440, 0.25, 0.01), 16000, 2048)
    assert found.shape == (1, 2 * side, 16)
    gains = compute_angle_gains(16000, 2048)
    left, right = (found[0] * gains[:, None]).sin().square()[:, 8].split(side)
    at = next(number for number, band in enumerate(bands) if band.low <= 440 < band.high)
    assert abs(bands[at].frequency - 440) < 4
    assert float(left[at]) == pytest.approx(0.25, rel=0.15)  # between two bins
    assert float(right[at]) == pytest.approx(0.01, rel=0.15)
    assert float(left.sum() - left[at]) < 0.02
    hiss = 0.1 * noise(1, 2, 2048 * 16)
    told = (measure_spectrum(hiss, 16000, 2048)[0] * gains[:, None]).sin().square()[:side, 2:-2]
    assert float(told[: len(bands)].mean()) < 1e-3
    power = told[len(bands) :].div(2).square().unflatten(0, (len(noises), NOISE_PARTS)).mean(dim=(1, 2))
    shares = torch.tensor([high - low for low, high in noises]) / 8000
    torch.testing.assert_close(power / 0.01, shares, rtol=0.15, atol=0.01)
    assert not measure_spectrum(torch.zeros(1, 2, 8192), 16000, 2048).any()
    assert [band.high for band in bands[:-1]] == [band.low for band in bands[1:]]


@pytest.fixture(scope="module")
def of_strengths() -> Autoencoder:
    """An autoencoder of strengths, made of one of waves that lost little, and not trained."""
    config = miniature(strengths_values())
    assert config.waves is not None
    torch.manual_seed(0)
    waves, made = (Autoencoder(sizes) for sizes in (config.waves, config.model.autoencoder))
    for module in (waves, made):
        module.requires_grad_(False)
    sounds = torch.cat([some_tones(seed) for seed in range(6)])
    initialise_autoencoder(waves, sounds)
    mapped = LatentMap.fit(measure_spectrum(sounds, 16000, 2048), config.model.autoencoder.latent_dim)
    build_decoder(made, waves, 16000, mapped)
    return made


def some_tones(seed: int) -> Tensor:
    """Eight seconds, (1, 2, S), of tones of random loudness, pitch and side, four a second, in noise."""
    random = torch.Generator().manual_seed(seed)
    pitch, level, side = torch.rand(3, 32, generator=random).repeat_interleave(4096, dim=1)
    wave = 10 ** (-0.4 - level) * torch.sin(2 * torch.pi * torch.cumsum(120 * 10**pitch, 0) / 16000)
    both = torch.stack([side * wave, (1 - side) * wave])[None]
    return both + 0.002 * torch.randn(both.shape, generator=random)


def test_latents_are_components_of_strengths_about_as_large_as_each_other() -> None:
    told = measure_spectrum(torch.cat([some_tones(seed) for seed in range(6)]), 16000, 2048)
    mapped = LatentMap.fit(told, 60)
    latents = mapped.to_latents(told)
    assert float(latents.mean(dim=(0, 2)).abs().max()) < 1e-3
    powers = latents.square().mean(dim=(0, 2))
    assert float(powers.mean()) == pytest.approx(1, rel=1e-3)
    assert float(powers[:20].max() / powers[:20].min()) < 3
    rest = mapped.to_spectrum(latents) - told
    assert float(rest.square().sum()) < 0.1 * float((told - mapped.centre[:, None]).square().sum())


@pytest.mark.slow
def test_a_decoder_of_strengths_makes_what_they_tell(of_strengths: Autoencoder) -> None:
    """The tone, its level and its side, and nothing of silence."""
    mapped = of_strengths.read_latent_map()
    wanted = tone(440, 0.2, 0.02)
    made = of_strengths.decode(mapped.to_latents(measure_spectrum(wanted, 16000, 2048)))
    silence = of_strengths.decode(mapped.to_latents(torch.zeros(1, len(mapped.centre), 16)))
    inside = slice(3 * 2048, -3 * 2048)
    levels = made[0, :, inside].square().mean(dim=1).sqrt() * 2**0.5
    torch.testing.assert_close(levels, torch.tensor([0.2, 0.02]), rtol=0.25, atol=0.02)
    spectrum = torch.fft.rfft(made[0, 0, inside] * torch.hann_window(made[0, 0, inside].numel())).abs()
    pitch = float(spectrum.argmax()) * 16000 / made[0, 0, inside].numel()
    assert 12 * abs(math.log2(pitch / 440)) < 0.5
    assert float(silence[..., inside].abs().max()) < 0.01


@pytest.mark.slow
def test_what_latents_are_is_read_off_the_decoder(of_strengths: Autoencoder) -> None:
    sounds = torch.cat([some_tones(seed) for seed in range(6)])
    wanted = LatentMap.fit(measure_spectrum(sounds, 16000, 2048), of_strengths.config.latent_dim)
    found = of_strengths.read_latent_map()
    torch.testing.assert_close(found.components, wanted.components, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found.centre, wanted.centre, rtol=1e-4, atol=1e-5)


def test_an_encoder_of_strengths_measures_them(of_strengths: Autoencoder) -> None:
    sounds = some_tones(7)
    mean, deviation = of_strengths.posterior(sounds)
    mapped = of_strengths.read_latent_map()
    calls: list[int] = []
    pieces, _ = of_strengths.posterior(sounds.repeat(1, 1, 2), piece=40, check=lambda: calls.append(1))
    whole, _ = of_strengths.posterior(sounds.repeat(1, 1, 2))
    torch.testing.assert_close(pieces, whole, rtol=1e-4, atol=1e-4)
    assert len(calls) == -(-whole.shape[-1] // 40)
    torch.testing.assert_close(mean, mapped.to_latents(measure_spectrum(sounds, 16000, 2048)))
    assert not deviation.any()
    assert not [key for key in of_strengths.state_dict() if "encoder" in key]
    assert torch.equal(of_strengths.encode(sounds, RandomNumbers.from_seed(0)), mean)
    with pytest.raises(ConfigError, match="without its decoder"):
        Autoencoder(of_strengths.config, decodes=False)


def autoencoder_of(values: dict[str, Any]) -> dict[str, Any]:
    return values["model"]["model"]["pretransform"]["config"]


def oobleck_encoder(latents: int) -> dict[str, Any]:
    sizes = {"channels": 8, "c_mults": [2, 16, 20, 48], "strides": [8, 8, 8, 4]}
    return {"type": "oobleck", "config": {"in_channels": 2, "latent_dim": 2 * latents, **sizes}}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda v: v.pop("waves"), "its decoder is built from waves"),
        (
            lambda v: autoencoder_of(v).update(encoder=oobleck_encoder(latents=160)),
            "encoder must have the type strengths",
        ),
        (
            lambda v: v["waves"]["config"].update(encoder=autoencoder_of(v)["encoder"]),
            "its encoder must be of the type oobleck",
        ),
        (lambda v: autoencoder_of(v)["encoder"]["config"].update(sample_rate=22050), "sample_rate is 16000"),
        (
            lambda v: autoencoder_of(v)["encoder"]["config"].update(in_channels=1),
            r"in_channels is 1\. Set it to 2",
        ),
        (
            lambda v: autoencoder_of(v)["decoder"]["config"].update(c_mults=[2, 16, 20, 20]),
            "it needs 376, two per spectral value",
        ),
        (lambda v: v["waves"]["config"].pop("encoder"), "waves.config.encoder is missing"),
        (
            lambda v: v["waves"]["config"]["decoder"]["config"].update(strides=[8, 16, 4]),
            "waves has the strides",
        ),
    ],
)
def test_strengths_that_do_not_fit_are_refused(change: Any, message: str) -> None:
    values = strengths_values()
    change(values)
    with pytest.raises(ConfigError, match=message):
        miniature(values)
