"""A decoder that makes sounds of strengths, out of one that makes them of latents that hold waves.

The inner decoder has one stage less. In front of it come a layer that makes strengths of latents, and a stage
that squares them (two snakes of opposite signs leave the square of a sine), token by token, and adds up
how the inner decoder's first layer tells each atom. So what is asked for comes out, and nothing is trained.
What the inner latents have no room for, mostly noise, is lost.

B batch, S samples, P strengths, K their atoms in both channels, H channels of the inner decoder's first
layer.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from audiox_ext.networks.autoencoder.autoencoder import Autoencoder
from audiox_ext.networks.autoencoder.oobleck import ResidualUnit, SnakeBeta
from audiox_ext.networks.autoencoder.spectral import LatentMap, compute_angle_gains, make_atoms

from .initial_weights import STRAIGHT, initialise_residual_unit

_CONTEXT = 16  # tokens around an atom that is encoded
_LEVEL = 0.1  # at which it is
# Of a token: atoms rise for a while before what they tell begins, and are heard on the way. The last of their
# tails has no room then, 2.5 % of a tone's level.
_LATE = 0.1
_TOGETHER = 8  # atoms
_UNUSED = 1e-6  # size of filters beyond those that are needed: of zeros weight normalisation could make none


@torch.no_grad()
def build_decoder(autoencoder: Autoencoder, waves: Autoencoder, rate: int, mapped: LatentMap) -> None:
    """Set the decoder's weights. mapped: what its latents are. waves: trained, with the same strides but the
    last; of its first layer's channels as many directions are kept as the decoder has there. Weights must be
    plain, not normalised; what is drawn comes from torch's global generator.
    """
    ratio = autoencoder.config.downsampling_ratio
    first, outer, opened, *others = autoencoder.model["decoder"].layers  # type: ignore[misc]
    inner_first, inner_opened, *inner_others = waves.model["decoder"].layers  # type: ignore[misc]
    _give_both_signs(first, compute_angle_gains(rate, ratio), mapped)
    snake, up, *units = outer.layers
    _set_snake(snake, 0.0)

    def opening(waveforms: Tensor) -> Tensor:
        return inner_first(waves.posterior(waveforms)[0])

    responses, silent = _heard_inside(opening, make_atoms(rate, ratio), ratio, up)
    directions = _directions(responses, up.out_channels)
    up.weight.normal_(std=_UNUSED)
    # Of the two snakes' sum, twice the square, each channel gives a half.
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
    # What silence has in the directions that are left out; each output sees two taps of the kernel.
    left_out = silent - directions.T @ (directions @ silent)
    lost = torch.einsum("h,hon->o", left_out, inner_up.weight) / inner_up.stride[0]
    opened.layers[1].bias.copy_(inner_up.bias + lost)
    for layer, inner in zip(
        [*opened.layers[2:], *others], [*inner_opened.layers[2:], *inner_others], strict=True
    ):
        layer.load_state_dict(inner.state_dict())


def _give_both_signs(first: nn.Conv1d, gains: Tensor, mapped: LatentMap) -> None:
    """Two channels for each strength: the angle of it and its negative."""
    first.weight.normal_(std=_UNUSED)
    first.weight[: 2 * len(gains)] = 0
    assert first.bias is not None
    first.bias.zero_()
    middle, end = first.kernel_size[0] // 2, 2 * len(gains)
    for begin, sign in ((0, 1), (1, -1)):
        first.weight[begin:end:2, :, middle] = sign * gains[:, None] * mapped.components
        first.bias[begin:end:2] = sign * gains * mapped.centre


def _set_snake(snake: SnakeBeta, beta: float) -> None:
    snake.alpha.zero_()
    snake.beta.fill_(beta)


@torch.no_grad()
def _heard_inside(
    layer: Callable[[Tensor], Tensor], shapes: Tensor, ratio: int, up: nn.ConvTranspose1d
) -> tuple[Tensor, Tensor]:
    """What a layer makes of each of some shapes (N, 2 * ratio) on the left, then on the right, a little late
    and as if they were of amplitude 1: (2 N, H, kernel), as a strided convolution beside it sees a token; and
    of silence, (H,).
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
    """(count, H), orthonormal: in which atoms (K, H, N) are strongest."""
    moment = torch.einsum("khn,kgn->hg", responses, responses).double()
    return torch.linalg.eigh(moment).eigenvectors.flip(1)[:, :count].T.to(responses)
