"""Builds a decoder of spectral latents around a trained decoder of waveform latents, without training.

The inner decoder has one stage fewer. Two parts precede it: a layer that converts latents to spectral values,
and a stage that turns each value into an amplitude and sums the responses of the inner decoder to each atom.
Two snakes of opposite signs leave the square of a sine, which is the amplitude. Content beyond the capacity
of the inner latents, mostly noise, is lost.

B batch, S samples, P spectral values, K their atoms in both channels, H channels of the inner decoder's first
layer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from audiox_ext.networks.autoencoder.autoencoder import Autoencoder
from audiox_ext.networks.autoencoder.oobleck import ResidualUnit, SnakeBeta
from audiox_ext.networks.autoencoder.spectral import LatentMap, compute_angle_gains, make_atoms

from .initial_weights import STRAIGHT, initialise_residual_unit

_CONTEXT = 16  # tokens around an encoded atom
_LEVEL = 0.1  # amplitude of an encoded atom
# Delay of atoms as a fraction of a token, because they fade in before their token starts. It cuts off the
# last of their tails, 2.5 % of a tone's level.
_LATE = 0.1
_TOGETHER = 8  # atoms per batch
_UNUSED = 1e-6  # size of unused filters: weight normalisation does not allow zeros


@torch.no_grad()
def build_decoder(autoencoder: Autoencoder, waves: Autoencoder, rate: int, mapped: LatentMap) -> None:
    """Set the weights of the decoder, with random ones from torch's global generator.

    Args:
        autoencoder: Autoencoder with plain weights, whose decoder is set.
        waves: Trained autoencoder of waveform latents, with the same strides except the last. The channels of
            its first layer are reduced to as many directions as the new decoder has room for.
        rate: Sample rate, hertz.
        mapped: Map between latents and spectral values.
    """
    ratio = autoencoder.config.downsampling_ratio
    layers: Any = autoencoder.model["decoder"].layers
    inner_layers: Any = waves.model["decoder"].layers
    first, outer, opened, *others = layers
    inner_first, inner_opened, *inner_others = inner_layers
    _give_both_signs(first, compute_angle_gains(rate, ratio), mapped)
    snake, up, *units = outer.layers
    _set_snake(snake, 0.0)

    def opening(waveforms: Tensor) -> Tensor:
        return inner_first(waves.posterior(waveforms)[0])

    responses, silent = _measure_responses(opening, make_atoms(rate, ratio), ratio, up)
    directions = _directions(responses, up.out_channels)
    up.weight.normal_(std=_UNUSED)
    # The two snakes sum to twice the square, so each channel contributes half.
    up.weight[: 2 * len(responses)] = torch.einsum(
        "khn,rh->krn", responses / 2, directions
    ).repeat_interleave(2, dim=0)
    up.bias.copy_(directions @ silent)
    for unit in units:
        assert isinstance(unit, ResidualUnit)
        initialise_residual_unit(unit)
    straight, inner_up = opened.layers[0], inner_opened.layers[1]
    _set_snake(straight, STRAIGHT)
    opened.layers[1].weight.copy_(torch.einsum("hon,rh->ron", inner_up.weight, directions))
    # Add the contribution of silence in the omitted directions; each output sees two taps of the kernel.
    left_out = silent - directions.T @ (directions @ silent)
    lost = torch.einsum("h,hon->o", left_out, inner_up.weight) / inner_up.stride[0]
    opened.layers[1].bias.copy_(inner_up.bias + lost)
    for layer, inner in zip(
        [*opened.layers[2:], *others], [*inner_opened.layers[2:], *inner_others], strict=True
    ):
        layer.load_state_dict(inner.state_dict())


def _give_both_signs(first: nn.Conv1d, gains: Tensor, mapped: LatentMap) -> None:
    """Give each spectral value two channels: its angle and the negative angle."""
    first.weight.normal_(std=_UNUSED)
    first.weight[: 2 * len(gains)] = 0
    assert first.bias is not None
    first.bias.zero_()
    middle, end = first.kernel_size[0] // 2, 2 * len(gains)
    for begin, sign in ((0, 1), (1, -1)):
        first.weight[begin:end:2, :, middle] = sign * gains[:, None] * mapped.components
        first.bias[begin:end:2] = sign * gains * mapped.centre


def _set_snake(snake: SnakeBeta, beta: float) -> None:
    """Set alpha to 1 and the logarithm of beta."""
    snake.alpha.zero_()
    snake.beta.fill_(beta)


@torch.no_grad()
def _measure_responses(
    layer: Callable[[Tensor], Tensor], shapes: Tensor, ratio: int, up: nn.ConvTranspose1d
) -> tuple[Tensor, Tensor]:
    """Response of a layer to each shape (N, 2 * ratio), on the left and then on the right, and to silence.

    Responses (2 N, H, kernel) cover the taps of `up` around a token and are scaled to amplitude 1. Silence is
    (H,).
    """
    samples, token = _CONTEXT * ratio, _CONTEXT // 2
    silence = layer(torch.zeros(1, 2, samples))
    stride, size = up.stride[0], up.kernel_size[0]
    begin = token * stride - int(up.padding[0])
    at = token * ratio - ratio // 2 + round(_LATE * ratio)
    responses = []
    for side in range(2):
        for atoms in shapes.split(_TOGETHER):
            waveforms = torch.zeros(len(atoms), 2, samples)
            waveforms[:, side, at : at + atoms.shape[1]] = _LEVEL * atoms
            responses.append((layer(waveforms) - silence)[..., begin : begin + size] / _LEVEL)
    return torch.cat(responses), silence[0, :, token * stride]


def _directions(responses: Tensor, count: int) -> Tensor:
    """The directions (count, H), orthonormal, in which responses (K, H, N) are strongest."""
    moment = torch.einsum("khn,kgn->hg", responses, responses).double()
    return torch.linalg.eigh(moment).eigenvectors.flip(1)[:, :count].T.to(responses)
