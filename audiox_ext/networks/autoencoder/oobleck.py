"""The Oobleck encoder and decoder: waveforms to latents and back.

B batch, C channels, S samples, L latent frames (S = L * product of the strides). Module names are the
state-dict keys, except that each pair `weight_g`, `weight_v` of the published files is one `weight` here
(`state_dict.fold_weight_norm`). Source: spec, "Autoencoder".
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from ...config import OobleckDecoderConfig, OobleckEncoderConfig
from ...errors import ConfigError
from ..layers import DeviceLike, Operations
from .tiling import run_in_tiles

DILATIONS = (1, 3, 9)
UNIT_FIELD = 3 * sum(DILATIONS)  # samples on either side that the units of a stage depend on

# Values per tile of a stage on a CPU, so that all that its convolutions read and write fits into the cache.
# Measured on two cores with 32 MiB of cache: half or twice the size is 5 % slower.
_TILE = 2**21


class SnakeBeta(nn.Module):
    """x + sin^2(a x) / (b + 1e-9), a = exp(alpha), b = exp(beta), per channel. (B, C, S) -> (B, C, S)."""

    def __init__(self, channels: int, *, dtype: torch.dtype | None = None, device: DeviceLike = None) -> None:
        """Build the activation for a number of channels."""
        super().__init__()
        self.alpha = nn.Parameter(torch.zeros(channels, dtype=dtype, device=device))
        self.beta = nn.Parameter(torch.zeros(channels, dtype=dtype, device=device))

    def forward(self, x: Tensor) -> Tensor:
        """Apply the activation."""
        # Exponentials in float32 whatever the type of the weights: the angles are large.
        alpha = self.alpha.to(x.device, torch.float32).exp().to(x.dtype)[:, None]
        gain = (self.beta.to(x.device, torch.float32).exp() + 1e-9).reciprocal().to(x.dtype)[:, None]
        # In place on one temporary: with the convolutions this is nearly all the time of a decode.
        wave = (x * alpha).sin_()
        return wave.square_().mul_(gain).add_(x)


class ResidualUnit(nn.Module):
    """x + conv1(snake(conv7(snake(x)))), the wider convolution dilated. (B, C, S) -> (B, C, S)."""

    def __init__(self, channels: int, dilation: int, operations: Operations, **factory: Any) -> None:
        """Build the unit for a number of channels."""
        super().__init__()
        self.layers = nn.Sequential(
            SnakeBeta(channels, **factory),
            _conv(operations, channels, channels, 7, dilation=dilation, padding=3 * dilation, **factory),
            SnakeBeta(channels, **factory),
            _conv(operations, channels, channels, 1, **factory),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Apply the unit."""
        return self.layers(x).add_(x)


class EncoderBlock(nn.Module):
    """Three residual units, then a strided convolution. (B, C_in, S) -> (B, C_out, S / stride)."""

    def __init__(
        self, in_channels: int, out_channels: int, stride: int, operations: Operations, **factory: Any
    ) -> None:
        """Build the stage for a stride."""
        super().__init__()
        padding = math.ceil(stride / 2)
        self.layers = nn.Sequential(
            *(ResidualUnit(in_channels, dilation, operations, **factory) for dilation in DILATIONS),
            SnakeBeta(in_channels, **factory),
            _conv(
                operations, in_channels, out_channels, 2 * stride, stride=stride, padding=padding, **factory
            ),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Apply the stage."""
        return self.layers(x)


class DecoderBlock(nn.Module):
    """A transposed convolution, then three residual units. (B, C_in, S) -> (B, C_out, S * stride)."""

    def __init__(
        self, in_channels: int, out_channels: int, stride: int, operations: Operations, **factory: Any
    ) -> None:
        """Build the stage for a stride."""
        super().__init__()
        self.out_channels = out_channels
        # With an odd stride the padding removes one sample too many; output_padding adds it again.
        upsample = operations.ConvTranspose1d(
            in_channels,
            out_channels,
            2 * stride,
            stride=stride,
            padding=math.ceil(stride / 2),
            output_padding=stride % 2,
            **factory,
        )
        upsample.weight_norm = True
        self.layers = nn.Sequential(
            SnakeBeta(in_channels, **factory),
            upsample,
            *(ResidualUnit(out_channels, dilation, operations, **factory) for dilation in DILATIONS),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Apply the stage."""
        return self.layers(x)


class OobleckEncoder(nn.Module):
    """Waveform (B, in_channels, S) -> mean and scale (B, latent_dim, S // hop), half of the channels each.

    The hop is the product of the strides. For exact lengths S must be a multiple of it.
    """

    def __init__(
        self,
        config: OobleckEncoderConfig,
        operations: Operations = nn,
        dtype: torch.dtype | None = None,
        device: DeviceLike = None,
    ) -> None:
        """Build the layers.

        Args:
            config: Sizes.
            operations: A namespace with Conv1d and ConvTranspose1d.
            dtype: Type of the weights; None for torch's default.
            device: Device of the weights.

        Raises:
            ConfigError: `c_mults` and `strides` differ in length, or a stride is below 2.
        """
        super().__init__()
        _check_strides("encoder", config.c_mults, config.strides)
        self.config = config
        factory: dict[str, Any] = {"dtype": dtype, "device": device}
        widths = _widths(config.channels, config.c_mults)
        self.layers = nn.Sequential(
            _conv(operations, config.in_channels, widths[0], 7, padding=3, **factory),
            *(
                EncoderBlock(widths[i], widths[i + 1], stride, operations, **factory)
                for i, stride in enumerate(config.strides)
            ),
            SnakeBeta(widths[-1], **factory),
            _conv(operations, widths[-1], config.latent_dim, 3, padding=1, **factory),
        )

    @property
    def receptive_field(self) -> int:
        """Number of latents on either side whose samples affect a latent."""
        return encoder_receptive_field(self.config)

    def forward(self, waveform: Tensor) -> Tensor:
        """Encode a waveform."""
        return self.layers(waveform)


class OobleckDecoder(nn.Module):
    """Latents (B, latent_dim, L) -> waveform (B, out_channels, L * hop).

    The hop is the product of the strides. Decode in float32: half precision is audible.
    """

    def __init__(
        self,
        config: OobleckDecoderConfig,
        operations: Operations = nn,
        dtype: torch.dtype | None = None,
        device: DeviceLike = None,
    ) -> None:
        """Build the layers; arguments and errors as in `OobleckEncoder`."""
        super().__init__()
        _check_strides("decoder", config.c_mults, config.strides)
        self.config = config
        factory: dict[str, Any] = {"dtype": dtype, "device": device}
        widths = _widths(config.channels, config.c_mults)
        self.layers = nn.Sequential(
            _conv(operations, config.latent_dim, widths[-1], 7, padding=3, **factory),
            *(
                DecoderBlock(widths[i + 1], widths[i], config.strides[i], operations, **factory)
                for i in reversed(range(len(config.strides)))
            ),
            SnakeBeta(widths[0], **factory),
            _conv(operations, widths[0], config.out_channels, 7, padding=3, bias=False, **factory),
            nn.Tanh() if config.final_tanh else nn.Identity(),
        )

    @property
    def receptive_field(self) -> int:
        """Number of latents on either side that affect the samples of a latent."""
        return decoder_receptive_field(self.config)

    def forward(self, latents: Tensor) -> Tensor:
        """Decode latents."""
        inputs = (latents, *self.parameters())
        differentiated = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in inputs)
        if latents.device.type == "cpu" and not differentiated:
            return self._in_tiles(latents)
        return self.layers(latents)

    def _in_tiles(self, latents: Tensor) -> Tensor:
        """Decode stage by stage, in tiles that fit into the CPU's cache.

        The last stage runs together with the layers after it, so its wide activations never exist as a whole.
        """
        first, *stages = list(self.layers)
        stages, end = stages[:-3], stages[-3:]
        x = first(latents)
        for stage, stride in zip(stages, reversed(self.config.strides), strict=True):
            assert isinstance(stage, DecoderBlock)
            last = stage is stages[-1]
            width = stage.out_channels
            channels = self.config.out_channels if last else width
            x = run_in_tiles(
                nn.Sequential(stage, *end) if last else stage,
                x,
                x.new_empty(x.shape[0], channels, x.shape[-1] * stride),
                tile=max(1, _TILE // (width * stride)),
                factor=stride,
                # The field of the units and the last convolution, in input steps, and of the strided one.
                overlap=-(-(UNIT_FIELD + 3) // stride) + 2,
            )
        return x


def decoder_receptive_field(config: OobleckDecoderConfig) -> int:
    """Compute the number of latents on either side that affect the samples of a latent.

    Latents farther away have no effect, nor do the zeros that pad a cut there.
    """
    first, last = 0, math.prod(config.strides) - 1
    first, last = first - 3, last + 3  # the last convolution
    for stride in config.strides:
        first, last = first - UNIT_FIELD, last + UNIT_FIELD
        # Output o of the transposed convolution reads inputs i: 0 <= o + padding - i * stride < 2 * stride.
        padding = math.ceil(stride / 2)
        first, last = -((2 * stride - 1 - padding - first) // stride), (last + padding) // stride
    return max(-first, last) + 3  # the first convolution


def encoder_receptive_field(config: OobleckEncoderConfig) -> int:
    """Compute the number of latents on either side whose samples affect a latent."""
    first, last = -1, 1  # the last convolution
    for stride in reversed(config.strides):
        # Output o of the convolution reads inputs o * stride - padding up to 2 * stride further.
        padding = math.ceil(stride / 2)
        first, last = first * stride - padding, last * stride - padding + 2 * stride - 1
        first, last = first - UNIT_FIELD, last + UNIT_FIELD
    first, last = first - 3, last + 3  # the first convolution
    hop = math.prod(config.strides)
    return max(-(first // hop), last // hop)


def _conv(
    operations: Operations, in_channels: int, out_channels: int, kernel: int, **settings: Any
) -> nn.Module:
    conv = operations.Conv1d(in_channels, out_channels, kernel, **settings)
    # `keys.published_shapes` reads it: in a file the weight is two tensors.
    conv.weight_norm = True
    return conv


def _widths(channels: int, c_mults: tuple[int, ...]) -> list[int]:
    """List the channels at the waveform and after each stage."""
    return [channels * mult for mult in (1, *c_mults)]


def _check_strides(part: str, c_mults: tuple[int, ...], strides: tuple[int, ...]) -> None:
    """Raise `ConfigError` unless each stage has a width and a stride of at least 2."""
    if len(c_mults) != len(strides):
        raise ConfigError(
            f"config.json: the {part} has {len(c_mults)} c_mults but {len(strides)} strides; "
            "give one of each per stage."
        )
    if min(strides) < 2:
        raise ConfigError(f"config.json: the {part}'s strides {strides} must all be at least 2.")
