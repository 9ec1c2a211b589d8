"""The losses of the pocket training: what they measure and how they weigh it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from training_miniature import noise

from pocket.autoencoder.latent_scale import DEVIATION
from pocket.training.losses import (
    TypicalErrors,
    kl_divergence,
    multi_resolution_stft,
    relative_error,
    stereo_views,
    weighted_errors,
)


def spectral(made: Tensor, wanted: Tensor, *sizes: int) -> tuple[float, float]:
    convergence, logs = multi_resolution_stft(made, wanted, sizes)
    return float(convergence), float(logs)


def test_the_losses_are_nothing_for_equal_sounds_and_grow_with_the_difference() -> None:
    sound = 0.3 * noise(2, 2, 4096)
    found = []
    for amount in (0.0, 0.01, 0.1):
        made, wanted = stereo_views(sound + amount * noise(2, 2, 4096, seed=1)), stereo_views(sound)
        found.append((*spectral(made, wanted, 128, 512), float(relative_error(made, wanted))))
    for none, little, much in zip(*found, strict=True):
        assert none == pytest.approx(0, abs=1e-4)
        assert none < little < much


def test_a_soft_sound_counts_as_much_as_a_loud_one() -> None:
    """Of a loud sound lost, half is lost; of a soft one, too; and silence is the whole loss of each."""
    sounds = torch.stack([0.3 * noise(2, 4096), 0.03 * noise(2, 4096, seed=1)])
    for lost in (0, 1):
        made = sounds.clone()
        made[lost] = 0
        assert float(relative_error(made, sounds)) == pytest.approx(0.5, abs=1e-3)
        assert spectral(made, sounds, 256)[0] == pytest.approx(0.5, abs=0.01)


def test_of_velocities_too_a_soft_sound_counts_for_more_than_its_power() -> None:
    latents = DEVIATION * noise(2, 4, 50)
    latents[1] *= 0.25
    errors = weighted_errors(latents, torch.zeros(2, 4, 50), latents)
    assert float(errors[0]) == pytest.approx(DEVIATION**2, rel=0.2)
    # Its power is a sixteenth.
    assert float(errors[1]) == pytest.approx(float(errors[0]) * 16**-0.15, rel=0.2)


def test_times_that_usually_go_wrong_count_no_more_than_the_others() -> None:
    usual = TypicalErrors()
    times = torch.tensor([0.01, 0.5, 0.99])
    errors = torch.tensor([0.8, 0.1, 0.05])
    for _ in range(400):
        usual.update(errors, times)
    found = []
    for place in range(3):
        alone = torch.zeros(3)
        alone[place] = errors[place]
        found.append(float(usual.balanced(alone, times)))
    assert found == pytest.approx([found[0]] * 3, rel=0.02)
    assert float(usual.balanced(2 * errors, times)) == pytest.approx(6 * found[0], rel=0.02)
    assert torch.equal(usual.errors[1:8], torch.ones(7))  # of times that were not seen nothing is known


def test_waves_are_compared_where_they_are_slow() -> None:
    """Their phase above is for the spectra alone, which do not hear it."""
    time = torch.arange(4096) / 4096 * 2 * torch.pi
    errors = []
    for periods in (100, 1500):
        sine, later = (0.3 * (periods * time + phase).sin().expand(1, 2, -1) for phase in (0, torch.pi / 2))
        errors.append(float(relative_error(later, sine)))
    assert errors[0] == pytest.approx(2**0.5, rel=0.02)
    assert errors[1] < 0.05


def test_the_spectral_loss_hears_a_channel_out_of_phase() -> None:
    """Left and right alone have the same magnitudes; their sum and difference do not."""
    sound = 0.3 * noise(1, 1, 4096).expand(1, 2, -1)
    turned = sound * torch.tensor([1.0, -1.0])[:, None]
    assert sum(spectral(turned, sound, 256)) < 1e-5
    assert sum(spectral(stereo_views(turned), stereo_views(sound), 256)) > 1


def test_the_losses_of_silence_have_finite_gradients() -> None:
    made = torch.zeros(1, 2, 1024, requires_grad=True)
    silence = torch.zeros(1, 2, 1024)
    (
        sum(multi_resolution_stft(stereo_views(made), stereo_views(silence), (64, 256)))
        + relative_error(made, silence)
    ).backward()
    assert made.grad is not None
    assert bool(torch.isfinite(made.grad).all())


def test_the_divergence_is_that_of_torch() -> None:
    mean, deviation = noise(2, 3, 5), noise(2, 3, 5, seed=1).abs() + 0.1
    normal = torch.distributions.Normal
    wanted = torch.distributions.kl_divergence(normal(mean, deviation), normal(0.0, 1.0)).mean()
    torch.testing.assert_close(kl_divergence(mean, deviation), wanted)
