"""Training an autoencoder: its first weights, weight norm, the scale of its latents, panned sounds."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from training_miniature import miniature, noise

from audiox_ext.checkpoints.state_dict import fold_weight_norm
from audiox_ext.config import AutoencoderConfig, OobleckDecoderConfig, OobleckEncoderConfig
from audiox_ext.networks.autoencoder.autoencoder import Autoencoder
from pocket.autoencoder.augmentation import pan_randomly
from pocket.autoencoder.initial_weights import initialise_autoencoder
from pocket.autoencoder.latent_scale import DEVIATION, normalise_latents
from pocket.training.weight_norm import normalise_weights, plain_state, split_weight_norm


def test_sounds_are_moved_to_anywhere_between_left_and_right() -> None:
    sounds = 0.3 * noise(64, 1, 100).expand(-1, 2, -1)  # from the middle

    def sides(share: float) -> Tensor:
        left, right = (
            pan_randomly(sounds, share, torch.Generator().manual_seed(3)).square().sum(dim=2).unbind(1)
        )
        torch.testing.assert_close(left + right, 2 * sounds[:, 0].square().sum(dim=1))
        return (left - right) / (left + right)

    assert float(sides(0).abs().max()) < 1e-6
    assert sorted(torch.histc(sides(1), 4, -1, 1).tolist())[0] >= 4
    assert 20 < int((sides(0.5).abs() > 1e-6).sum()) < 44


def test_weight_normalisation_changes_no_weight_and_comes_off_again() -> None:
    torch.manual_seed(0)
    autoencoder = Autoencoder(miniature().model.autoencoder)
    before = {key: value.clone() for key, value in autoencoder.state_dict().items()}
    normalise_weights(autoencoder)
    assert any("original0" in key for key in autoencoder.state_dict())
    after = plain_state(autoencoder)
    assert after.keys() == before.keys()
    for key, value in after.items():
        torch.testing.assert_close(value, before[key], msg=key)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_published_pairs_fold_to_the_weight(dtype: torch.dtype) -> None:
    # As small as late in a training, where half precision has few digits left: the pair keeps them.
    weight = 1e-5 * noise(6, 4, 7)
    weight[2] = 0
    g, v = (part.to(dtype) for part in split_weight_norm(weight))
    assert g.shape == (6, 1, 1)
    [folded] = fold_weight_norm({"weight_g": g, "weight_v": v}).values()
    # Half precision rounds g, whose 2.6e-5 are subnormal there, in steps of 6e-8, and v in 2^-11.
    bound = {torch.float32: 1e-6, torch.float16: 6e-3}[dtype]
    assert float((folded - weight).abs().max() / weight.abs().max()) < bound


def test_normalised_latents_have_mean_0_and_their_deviation_and_decode_to_the_same() -> None:
    torch.manual_seed(0)
    autoencoder = Autoencoder(miniature().model.autoencoder).requires_grad_(False)
    autoencoder.model["encoder"].layers[-1].bias[:8] += 2 * noise(8, seed=9)
    sounds = [0.3 * noise(2, 2, 200 * 64, seed=seed) for seed in range(3)]
    mean, deviation = autoencoder.posterior(sounds[0])
    made = autoencoder.decode(mean)
    normalise_latents(autoencoder, sounds)
    means, deviations = zip(*(autoencoder.posterior(sound) for sound in sounds), strict=True)
    # Next to the ends what lies beyond them is another thing.
    inside = slice(60 * 64, -60 * 64)
    decoded = autoencoder.decode(means[0])
    torch.testing.assert_close(decoded[..., inside], made[..., inside], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(torch.cat(means).mean(dim=(0, 2)), torch.zeros(8), rtol=0, atol=1e-3)

    def spread(mean: Tensor, deviation: Tensor) -> Tensor:
        """Of a sample of the posterior, each channel's, without drawing one; 1 is as it should be."""
        return (mean.var(dim=(0, 2), correction=0) + deviation.square().mean(dim=(0, 2))).sqrt() / DEVIATION

    assert float((spread(mean, deviation) - 1).abs().max()) > 0.1
    # The posterior's own deviation is not a multiple of what it was: per cents.
    assert float((spread(torch.cat(means), torch.cat(deviations)) - 1).abs().max()) < 0.03


def test_an_autoencoder_starts_with_latents_that_say_something() -> None:
    """Of deviation 1, and far above the noise of the posterior; torch's own draw drowns in it."""
    config, sounds = miniature().model.autoencoder, 0.1 * noise(8, 2, 2048)
    torch.manual_seed(0)
    autoencoder = Autoencoder(config)
    shares = []
    for start in (False, True):
        if start:
            initialise_autoencoder(autoencoder, sounds)
        with torch.no_grad():
            mean, deviation = autoencoder.posterior(sounds)
        shares.append(float(mean.std() / deviation.mean()))
    torch.testing.assert_close(mean.std(dim=(0, 2)), torch.ones(8), rtol=1e-3, atol=0)
    assert shares[0] < 0.5
    assert shares[1] > 5
    with torch.no_grad():
        assert 0.02 < float(autoencoder.decode(mean).std()) < 0.5


def test_an_autoencoder_with_room_for_everything_starts_by_giving_it_back() -> None:
    sizes = {"channels": 8, "c_mults": (1, 3), "strides": (3, 4)}
    config = AutoencoderConfig(
        encoder=OobleckEncoderConfig(in_channels=2, latent_dim=2 * 24, **sizes),
        decoder=OobleckDecoderConfig(out_channels=2, latent_dim=24, final_tanh=False, **sizes),
        latent_dim=24,
        downsampling_ratio=12,
        io_channels=2,
    )
    sounds, others = (0.1 * noise(4, 2, 1200, seed=seed) for seed in (0, 1))
    torch.manual_seed(0)
    autoencoder = Autoencoder(config)
    initialise_autoencoder(autoencoder, sounds)
    with torch.no_grad():
        error = (autoencoder.decode(autoencoder.posterior(others)[0]) - others)[..., 60:-60]
    assert float(error.std() / others.std()) < 0.1  # what units and snakes add, and what ends miss
