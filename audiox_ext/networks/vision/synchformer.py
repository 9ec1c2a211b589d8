"""Synchformer's visual branch: turns video frames into features that show when something happens.

B batch, T frames, S segments, G time steps of a segment (two frames each), P patches of a frame,
N = 1 + G * P tokens of a segment, H heads, D width. Patches are ordered time-major. Module names are the keys
under `vfeat_extractor.` in the file, after `convert_synchformer_keys` in checkpoints/encoders.py.

Source: Iashin et al. 2024, Bertasius et al. 2021 (divided space-time attention), spec, "Synchformer".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from einops import rearrange, repeat
from torch import Tensor, nn
from torch.nn import functional as F

from ...errors import ConfigError, InputError
from ..operations import has_plain_weights

EPS = 1e-6


@dataclass(frozen=True, kw_only=True)
class SynchformerConfig:
    """Sizes of the visual branch. The defaults are the published ones."""

    embed_dim: int = 768
    depth: int = 12
    num_heads: int = 12
    mlp_ratio: float = 4
    image_size: int = 224
    patch_size: int = 16
    patch_frames: int = 2
    segment_frames: int = 16
    segment_stride: int = 8

    def __post_init__(self) -> None:
        """Check that the sizes are consistent. Raises `ConfigError`."""
        for whole, part in (
            ("embed_dim", "num_heads"),
            ("image_size", "patch_size"),
            ("segment_frames", "patch_frames"),
        ):
            if getattr(self, whole) % getattr(self, part):
                raise ConfigError(
                    f"Synchformer: {whole} {getattr(self, whole)} is not divisible by "
                    f"{part} {getattr(self, part)}."
                )

    @property
    def patches(self) -> int:
        """Patches per frame."""
        return (self.image_size // self.patch_size) ** 2

    @property
    def time_steps(self) -> int:
        """Time steps per segment, and features per segment."""
        return self.segment_frames // self.patch_frames

    @property
    def mlp_dim(self) -> int:
        """Hidden width of the feed-forward layers."""
        return round(self.embed_dim * self.mlp_ratio)

    def segments(self, frames: int) -> int:
        """Count the segments in a number of frames; 0 if there are too few for one."""
        return max(0, (frames - self.segment_frames) // self.segment_stride + 1)


class DividedAttention(nn.Module):
    """Attention within groups of patches. (B, 1 + G * P, D) -> (B, 1 + G * P, D).

    The class token attends to all tokens. A patch attends to the class token and to its group: the patches at
    the same place in the frame ("time"), or those of the same time step ("space").
    """

    def __init__(self, dim: int, num_heads: int, operations: Any, **factory: Any) -> None:
        """Build the projections for tokens `dim` wide."""
        super().__init__()
        self.num_heads = num_heads
        self.qkv = operations.Linear(dim, 3 * dim, **factory)
        self.proj = operations.Linear(dim, dim, **factory)

    def forward(self, x: Tensor, over: Literal["time", "space"], time_steps: int) -> Tensor:
        """Attend over time or space, in segments of `time_steps` steps."""
        # Groups become part of the batch, which avoids a mask and the products that it would discard.
        grouped = "(b p) h g d" if over == "time" else "(b g) h p d"
        sizes = {"g": time_steps, "p": (x.shape[1] - 1) // time_steps}
        groups = sizes["p" if over == "time" else "g"]
        q, k, v = rearrange(self.qkv(x), "b n (three h d) -> three b n h d", three=3, h=self.num_heads)

        def split(tokens: Tensor) -> Tensor:
            return rearrange(tokens[:, 1:], f"b (g p) h d -> {grouped}", **sizes)

        def split_with_class(tokens: Tensor) -> Tensor:
            cls = repeat(tokens[:, :1], "b one h d -> (b groups) h one d", groups=groups)
            return torch.cat([cls, split(tokens)], dim=2)

        cls = F.scaled_dot_product_attention(q[:, :1].transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2))
        patches = F.scaled_dot_product_attention(split(q), split_with_class(k), split_with_class(v))
        out = [
            rearrange(cls, "b h n d -> b n (h d)"),
            rearrange(patches, f"{grouped} -> b (g p) (h d)", **sizes),
        ]
        return self.proj(torch.cat(out, dim=1))


class Mlp(nn.Module):
    """Linear, exact gelu, Linear. (..., D) -> (..., D)."""

    def __init__(self, dim: int, hidden: int, operations: Any, **factory: Any) -> None:
        """Build the layers, `hidden` wide inside."""
        super().__init__()
        self.fc1 = operations.Linear(dim, hidden, **factory)
        self.fc2 = operations.Linear(hidden, dim, **factory)

    def forward(self, x: Tensor) -> Tensor:
        """Transform each token."""
        return self.fc2(F.gelu(self.fc1(x)))


class DividedBlock(nn.Module):
    """Pre-norm attention over time, over space, and feed-forward. (B, N, D) -> (B, N, D)."""

    def __init__(self, config: SynchformerConfig, operations: Any, **factory: Any) -> None:
        """Build the layers for the sizes of a Synchformer."""
        super().__init__()
        dim = config.embed_dim
        self.time_steps = config.time_steps
        self.norm1 = operations.LayerNorm(dim, eps=EPS, **factory)
        self.attn = DividedAttention(dim, config.num_heads, operations, **factory)
        self.timeattn = DividedAttention(dim, config.num_heads, operations, **factory)
        self.norm2 = operations.LayerNorm(dim, eps=EPS, **factory)
        self.mlp = Mlp(dim, config.mlp_dim, operations, **factory)
        self.norm3 = operations.LayerNorm(dim, eps=EPS, **factory)

    def forward(self, x: Tensor) -> Tensor:
        """Transform the tokens of segments."""
        x = x + self.timeattn(self.norm3(x), "time", self.time_steps)
        x = x + self.attn(self.norm1(x), "space", self.time_steps)
        return x + self.mlp(self.norm2(x))


class ClassAttention(nn.Module):
    """Attention of the first token to all tokens. (B, N, D) -> (B, 1, D).

    A file holds one in_proj for query, key and value. Here the query is a layer of its own, because only the
    first token needs it.
    """

    def __init__(self, dim: int, num_heads: int, operations: Any, **factory: Any) -> None:
        """Build the projections for tokens `dim` wide."""
        super().__init__()
        self.num_heads = num_heads
        self.q = operations.Linear(dim, dim, **factory)
        self.kv = operations.Linear(dim, 2 * dim, **factory)
        self.out_proj = operations.Linear(dim, dim, **factory)

    def forward(self, x: Tensor) -> Tensor:
        """Attend from the first token."""
        q = rearrange(self.q(x[:, :1]), "b n (h d) -> b h n d", h=self.num_heads)
        k, v = rearrange(self.kv(x), "b n (two h d) -> two b h n d", two=2, h=self.num_heads)
        return self.out_proj(rearrange(F.scaled_dot_product_attention(q, k, v), "b h n d -> b n (h d)"))


class SpatialAggregation(nn.Module):
    """One pre-norm encoder layer over a class token and the patches of a frame. (B, P, D) -> (B, D).

    The output of the class token is the feature of the frame, so only that token passes the whole layer.
    """

    def __init__(self, config: SynchformerConfig, operations: Any, **factory: Any) -> None:
        """Build the layers for the sizes of a Synchformer."""
        super().__init__()
        dim = config.embed_dim
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim, **factory))
        self.norm1 = operations.LayerNorm(dim, eps=EPS, **factory)
        self.self_attn = ClassAttention(dim, config.num_heads, operations, **factory)
        self.norm2 = operations.LayerNorm(dim, eps=EPS, **factory)
        self.linear1 = operations.Linear(dim, config.mlp_dim, **factory)
        self.linear2 = operations.Linear(config.mlp_dim, dim, **factory)

    def forward(self, patches: Tensor) -> Tensor:
        """Compute one feature from the patches of a frame."""
        cls = self.cls_token.to(patches).expand(patches.shape[0], -1, -1)
        cls = cls + self.self_attn(self.norm1(torch.cat([cls, patches], dim=1)))
        cls = cls + self.linear2(F.gelu(self.linear1(self.norm2(cls))))
        return cls[:, 0]


class PatchEmbed3d(nn.Module):
    """Frames (B, 3, T, height, width) -> patches (B, G * P, D), time-major.

    The filters do not overlap, so on a CPU they are computed as one matrix product, unless a host casts or
    patches the weights: at the published size that takes half the time of the convolution.
    """

    def __init__(self, config: SynchformerConfig, operations: Any, **factory: Any) -> None:
        """Build the layers for the sizes of a Synchformer."""
        super().__init__()
        size = (config.patch_frames, config.patch_size, config.patch_size)
        self.proj = operations.Conv3d(3, config.embed_dim, size, stride=size, **factory)

    def forward(self, frames: Tensor) -> Tensor:
        """Compute the patches of frames."""
        if frames.device.type == "cpu" and has_plain_weights(self.proj):
            f, p, q = self.proj.kernel_size
            patches = rearrange(frames, "b c (g f) (y p) (x q) -> b (g y x) (c f p q)", f=f, p=p, q=q)
            return F.linear(patches, self.proj.weight.flatten(1), self.proj.bias)
        return rearrange(self.proj(frames), "b d g y x -> b (g y x) d")


class Synchformer(nn.Module):
    """Frames (B, T, 3, 224, 224) in [-1, 1], at 25 frames per second -> features (B, S * 8, D).

    S = (T - 16) // 8 + 1 overlapping segments, each encoded on its own. Computes in the frames' dtype, on
    their device.
    """

    def __init__(
        self,
        config: SynchformerConfig,
        operations: Any = nn,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        """Build the network; `operations` is a namespace with Linear, LayerNorm and Conv3d."""
        super().__init__()
        self.config = config
        factory: dict[str, Any] = {"dtype": dtype, "device": device}
        dim = config.embed_dim
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim, **factory))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + config.patches, dim, **factory))
        self.temp_embed = nn.Parameter(torch.zeros(1, config.time_steps, dim, **factory))
        self.patch_embed_3d = PatchEmbed3d(config, operations, **factory)
        self.blocks = nn.ModuleList(DividedBlock(config, operations, **factory) for _ in range(config.depth))
        self.norm = operations.LayerNorm(dim, eps=EPS, **factory)
        self.spatial_attn_agg = SpatialAggregation(config, operations, **factory)

    def forward(
        self,
        frames: Tensor,
        segments_per_chunk: int = 6,
        check_cancelled: Callable[[], None] | None = None,
    ) -> Tensor:
        """Compute the features of whole videos.

        Args:
            frames: (B, T, 3, height, width) in [-1, 1].
            segments_per_chunk: Number of segments to compute at once. It bounds the memory, about 100 MB
                per segment in float32 at the published size, and does not change the result.
            check_cancelled: Called before each chunk. An error that it raises ends the run.

        Returns:
            (B, S * G, D).

        Raises:
            InputError: The frames have the wrong shape, or are too few for one segment.
        """
        self._check(frames)
        per_chunk = max(1, segments_per_chunk)
        length, stride = self.config.segment_frames, self.config.segment_stride
        starts = range(0, self.config.segments(frames.shape[1]) * stride, stride)
        places = [(video, start) for video in range(frames.shape[0]) for start in starts]
        distinct, which = _merge_repeats([frames[video, start : start + length] for video, start in places])
        features = []
        for first in range(0, len(distinct), per_chunk):
            if check_cancelled is not None:
                check_cancelled()
            chunk = [places[i] for i in distinct[first : first + per_chunk]]
            features.append(self.features_of_patches(self._patches(frames, chunk)))
        return rearrange(torch.cat(features)[which], "(b s) g d -> b (s g) d", b=frames.shape[0])

    def _patches(self, frames: Tensor, places: Sequence[tuple[int, int]]) -> Tensor:
        """Compute the patches (B, G * P, D) of segments, given by their video and first frame.

        Segments overlap, and the first layer sees one time step at a time, so shared steps are computed once.
        """
        length = self.config.patch_frames
        steps = [
            (video, start + length * step)
            for video, start in places
            for step in range(self.config.time_steps)
        ]
        row = {step: number for number, step in enumerate(dict.fromkeys(steps))}
        patches = self.patches_of_frames(torch.stack([frames[v, start : start + length] for v, start in row]))
        ordered = patches[[row[step] for step in steps]]
        return rearrange(ordered, "(b g) p d -> b (g p) d", b=len(places))

    def patches_of_frames(self, frames: Tensor) -> Tensor:
        """Apply the first layer: frames (B, 2 * G, 3, height, width) -> patches (B, G * P, D)."""
        return self.patch_embed_3d(rearrange(frames, "b t c y x -> b c t y x"))

    def features_of_patches(self, patches: Tensor) -> Tensor:
        """Apply the other layers: patches (B, G * P, D) -> features (B, G, D)."""
        cls = self.cls_token.to(patches) + self.pos_embed[:, :1].to(patches)
        position = rearrange(
            self.pos_embed[:, None, 1:].to(patches) + self.temp_embed[:, :, None].to(patches),
            "one g p d -> one (g p) d",
        )
        x = torch.cat([cls.expand(patches.shape[0], -1, -1), patches + position], dim=1)
        for block in self.blocks:
            x = block(x)
        steps = rearrange(self.norm(x[:, 1:]), "b (g p) d -> (b g) p d", g=self.config.time_steps)
        return rearrange(self.spatial_attn_agg(steps), "(b g) d -> b g d", b=patches.shape[0])

    def _check(self, frames: Tensor) -> None:
        """Raise `InputError` for frames of the wrong shape, or too few."""
        size = self.config.image_size
        if frames.dim() != 5 or frames.shape[2:] != (3, size, size):
            raise InputError(
                f"Synchformer takes frames of shape (B, T, 3, {size}, {size}), got {tuple(frames.shape)}."
            )
        if frames.shape[0] < 1 or not self.config.segments(frames.shape[1]):
            raise InputError(
                f"Synchformer needs at least {self.config.segment_frames} frames, got {frames.shape[1]} "
                f"(batch of {frames.shape[0]}). Give a longer video, or repeat its last frame."
            )


def _merge_repeats(segments: Sequence[Tensor]) -> tuple[list[int], list[int]]:
    """Find the segments that differ from their predecessor, and for each segment which of these it equals.

    A short video is padded with its last frame; equal segments there are computed once.
    """
    distinct: list[int] = []
    which: list[int] = []
    for i, segment in enumerate(segments):
        if not distinct or not torch.equal(segment, segments[distinct[-1]]):
            distinct.append(i)
        which.append(len(distinct) - 1)
    return distinct, which
