"""Where the training of an autoencoder starts: as the best linear one, layer by layer.

From what torch draws, a decoder first learns that silence is better than noise, and stays there for long: of
spectra alone no layer can tell which way to go, and what arrives through many random layers says too little
of the waveform. So each convolution of the encoder starts with the principal components of what it is given,
each of the decoder with the least squares way back. Residual units start small, snakes nearly straight.

B batch, C channels, S samples, N patches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..networks.autoencoder import Autoencoder
from ..networks.oobleck import EncoderBlock, ResidualUnit, SnakeBeta

_BRANCH = 0.05  # gain of what a residual unit adds
_STRAIGHT = 2.0  # of a snake, the logarithm by which its wave is divided
_DEVIATION = -3.0  # of the posterior, before its softplus: 0.05
_RIDGE = 1e-5  # of the mean variance
_LEVEL = 0.3  # deviation of what is between the layers


@torch.no_grad()
def start_autoencoder(autoencoder: Autoencoder, waveforms: Tensor) -> None:
    """Set all weights; what is drawn comes from torch's global generator. waveforms: (B, 2, S), on which they
    are fitted: the more latents they have, the better. Weights must be plain, not normalised.
    """
    for unit in autoencoder.modules():
        if isinstance(unit, SnakeBeta):
            unit.beta.fill_(_STRAIGHT)
        elif isinstance(unit, ResidualUnit):
            _start_unit(unit)
    encoder, decoder = (list(autoencoder.model[part].layers) for part in ("encoder", "decoder"))  # type: ignore[arg-type]
    goals = _start_encoder(encoder, waveforms)
    _start_decoder(decoder, goals)


def _start_unit(unit: ResidualUnit) -> None:
    for layer in unit.layers:
        if isinstance(layer, nn.Conv1d):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="linear")
            assert layer.bias is not None
            layer.bias.zero_()
    last = unit.layers[-1]
    assert isinstance(last, nn.Conv1d)
    last.weight *= _BRANCH


def _start_encoder(layers: list[nn.Module], waveforms: Tensor) -> list[Tensor]:
    """What the decoder is to give back, from the latents on outwards: latents, inner signals, waveforms."""
    goals, x = [waveforms], waveforms
    for layer in layers:
        if isinstance(layer, EncoderBlock):
            *inside, last = list(layer.layers)
            for part in inside[:-1]:
                x = _run(part, x)
            goals.append(x)
            x = _run(inside[-1], x)
        elif isinstance(layer, nn.Conv1d):
            last = layer
        else:
            goals.append(x)
            x = _run(layer, x)
            continue
        assert isinstance(last, nn.Conv1d)
        is_posterior = layer is layers[-1]
        _start_with_components(last, x, last.out_channels // 2 if is_posterior else last.out_channels)
        x = _run(last, x)
        if is_posterior:
            x = x.chunk(2, dim=1)[0]
            deviation = x.std(dim=(0, 2)).clamp(min=1e-6)
            channels = len(deviation)
            assert last.bias is not None
            last.weight[:channels] /= deviation[:, None, None]
            last.bias[:channels] /= deviation
            last.bias[channels:] = _DEVIATION
            x = x / deviation[:, None]
    return [x, *reversed(goals)]


def _start_decoder(layers: list[nn.Module], goals: list[Tensor]) -> None:
    x, *wanted = goals
    goal = iter(wanted)
    for layer in _flat(layers):
        if isinstance(layer, nn.ConvTranspose1d):
            _start_way_back(layer, x, next(goal))
        elif isinstance(layer, nn.Conv1d):
            _start_regression(layer, x, next(goal))
        x = _run(layer, x)


def _flat(layers: Iterable[nn.Module]) -> Iterator[nn.Module]:
    """Convolutions, snakes and residual units in their order."""
    for layer in layers:
        if isinstance(layer, (nn.Conv1d, nn.ConvTranspose1d, SnakeBeta, ResidualUnit)):
            yield layer
        else:
            yield from _flat(layer.children())


def _run(layer: nn.Module, x: Tensor) -> Tensor:
    """Item by item: activations next to the waveform are large."""
    return torch.cat([layer(item[None]) for item in x])


def _patches(layer: nn.Conv1d, x: Tensor) -> Iterator[Tensor]:
    """(N, C * kernel) of each item, as the convolution sees them."""
    size, stride, dilation = layer.kernel_size[0], layer.stride[0], layer.dilation[0]
    assert dilation == 1
    for item in x:
        padded = F.pad(item, (int(layer.padding[0]),) * 2)
        yield padded.unfold(-1, size, stride).transpose(0, 1).flatten(1)


def _start_with_components(layer: nn.Conv1d, x: Tensor, count: int) -> None:
    """Its first `count` filters become principal components, the others small."""
    moment, number = None, 0
    for patches in _patches(layer, x):
        product = (patches.T @ patches).double()
        moment = product if moment is None else moment + product
        number += len(patches)
    assert moment is not None
    values, directions = torch.linalg.eigh(moment / number)
    found = min(count, len(values))
    order = torch.arange(len(values) - 1, len(values) - 1 - found, -1)
    # Loud components stay louder than others, but not by so much.
    gains = _LEVEL * values[order].clamp(min=1e-9) ** -0.25 / values[order[0]].clamp(min=1e-9) ** 0.25
    filters = (directions[:, order] * gains).T.float().unflatten(1, (layer.in_channels, layer.kernel_size[0]))
    layer.weight.normal_(std=1e-3 / layer.weight[0].numel() ** 0.5)
    layer.weight[:found] += filters
    if layer.bias is not None:
        layer.bias.zero_()


def _start_regression(layer: nn.Conv1d, x: Tensor, wanted: Tensor) -> None:
    def pairs() -> Iterator[tuple[Tensor, Tensor]]:
        for patches, goal in zip(_patches(layer, x), wanted, strict=True):
            yield patches, goal.T

    weight, bias = _least_squares(pairs, with_bias=layer.bias is not None)
    layer.weight.copy_(weight.T.unflatten(1, (layer.in_channels, layer.kernel_size[0])))
    if layer.bias is not None:
        layer.bias.copy_(bias)


def _start_way_back(layer: nn.ConvTranspose1d, x: Tensor, wanted: Tensor) -> None:
    """Each stretch of a stride is made of two inputs: the kernel is twice the stride."""
    stride, padding = layer.stride[0], int(layer.padding[0])
    assert layer.kernel_size[0] == 2 * stride

    def pairs() -> Iterator[tuple[Tensor, Tensor]]:
        for frames, goal in zip(x, wanted, strict=True):
            count = frames.shape[-1] - 1
            both = torch.cat([frames[:, 1:], frames[:, :-1]])  # its own frame, and the one before
            start = stride - padding
            stretch = goal[:, start : start + count * stride].unflatten(-1, (count, stride))
            yield both.T, stretch.permute(1, 0, 2).flatten(1)

    weight, bias = _least_squares(pairs, with_bias=layer.bias is not None)
    own, before = weight.unflatten(1, (layer.out_channels, stride)).chunk(2)
    layer.weight.copy_(torch.cat([own, before], dim=-1))
    if layer.bias is not None:
        layer.bias.copy_(bias.unflatten(0, (layer.out_channels, stride)).mean(dim=-1))


def _least_squares(
    pairs: Callable[[], Iterator[tuple[Tensor, Tensor]]], *, with_bias: bool
) -> tuple[Tensor, Tensor]:
    """weight (inputs, outputs) and bias (outputs,) for pairs (N, inputs), (N, outputs)."""
    products: list[Tensor] = []
    number = 0
    for given, wanted in pairs():
        if with_bias:
            given = F.pad(given, (0, 1), value=1.0)
        found = [(given.T @ given).double(), (given.T @ wanted).double()]
        products = found if not products else [a + b for a, b in zip(products, found, strict=True)]
        number += len(given)
    moment, mixed = (product / number for product in products)
    ridge = _RIDGE * moment.diagonal().mean()
    solved = torch.linalg.solve(moment + ridge * torch.eye(len(moment)).to(moment), mixed).float()
    if with_bias:
        return solved[:-1], solved[-1]
    return solved, solved.new_zeros(solved.shape[1])
