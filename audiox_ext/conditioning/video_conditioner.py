"""The video conditioner: frames and Synchformer features -> tokens.

B batch, T video frames, P patches per frame, N tokens, H height, W width, D width of a token.

Lines marked (as published) look odd, but the weights were trained that way.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn

from ..config import ClipConditionerConfig
from ..errors import InputError
from ..networks.layers import DeviceLike, Operations, cast
from ..networks.vision.clip import ClipVisionTower
from ..networks.vision.temporal import TemporalTransformer
from ..random_numbers import RandomNumbers

_CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
_CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
_FRAMES_AT_ONCE = 16  # more need more memory and save no time


class VideoConditioner(nn.Module):
    """`clip` and `clip-with-sync-w-empty-feat`: video prompts -> tokens (B, out_features, D)."""

    draws_random_numbers = False

    def __init__(
        self,
        config: ClipConditionerConfig,
        cond_dim: int,
        operations: Operations = nn,
        dtype: torch.dtype | None = None,
        device: DeviceLike = None,
    ) -> None:
        """Build the layers; arguments as in `conditioners.Conditioner`.

        `cond_dim` is unused: the tokens have this width already.
        """
        super().__init__()
        self.config = config
        options: dict[str, Any] = {"dtype": dtype, "device": device}
        dim, tokens = config.temporal_dim, config.frames * config.clip.tokens
        self.visual_encoder_model = ClipVisionTower(config.clip, operations, **options)
        self.Temp_pos_embedding = nn.Parameter(torch.zeros(1, config.frames, dim, **options))
        self.Temp_transformer = TemporalTransformer(
            dim, config.temporal_depth, config.temporal_heads, config.temporal_dim_head, operations, **options
        )
        self.proj = operations.Linear(tokens, config.out_features, **options)
        self.empty_visual_feat = nn.Parameter(torch.zeros(1, config.out_features, dim, **options))
        if config.with_sync:
            self.proj_sync = operations.Linear(config.sync_tokens, config.out_features, **options)
            self.sync_weight = nn.Parameter(torch.zeros((), **options))

    def forward(
        self,
        prompts: Sequence[dict[str, Tensor] | None],
        device: torch.device,
        random: RandomNumbers,
        mask_audio_prompt: bool = True,
    ) -> Tensor:
        """Encode video prompts; None becomes the trained empty features.

        Args:
            prompts: Per item "video_tensors", (1, T, 3, H, W) in 0..255, and "video_sync_frames", (1, N, D).
            device: Device to compute on.
            random: Unused.
            mask_audio_prompt: Unused.

        Returns:
            (B, out_features, D).

        Raises:
            InputError: The frames or the sync features do not fit the model.
        """
        empty = cast(self.empty_visual_feat, torch.empty((), device=device))
        tokens = empty.repeat(len(prompts), 1, 1)
        for index, prompt in enumerate(prompts):
            if prompt is None:
                continue
            frames = self._fit_length(prompt["video_tensors"])
            # (as published) Black frames count as no video, whatever the sync features are.
            if bool(frames.any()):
                tokens[index] = self.encode(frames.to(device), prompt.get("video_sync_frames"), device)[0]
        return tokens

    def encode(self, frames: Tensor, sync: Tensor | None, device: torch.device) -> Tensor:
        """Encode one video of exactly the trained length.

        Args:
            frames: (T, 3, H, W) in 0..255.
            sync: (1, N, D) Synchformer features; unused by models without them.
            device: Device to compute on.

        Returns:
            (1, out_features, D).
        """
        states = self.encode_frames(frames, device)[None]
        return self.fuse(states, self._check_sync(sync).to(device) if self.config.with_sync else None)

    def encode_frames(self, frames: Tensor, device: torch.device) -> Tensor:
        """Run the vision tower on frames (T, 3, H, W) in 0..255. Returns (T, P, D)."""
        mean, std = (torch.tensor(v, device=device)[:, None, None] for v in (_CLIP_MEAN, _CLIP_STD))
        chunks = frames.split(_FRAMES_AT_ONCE)
        return torch.cat([self.visual_encoder_model((x.float() / 255 - mean) / std) for x in chunks])

    def fuse(self, states: Tensor, sync: Tensor | None) -> Tensor:
        """Combine the frames over time and add the sync features.

        Args:
            states: (B, T, P, D) of `encode_frames`.
            sync: (B, N, D), if the model uses them.

        Returns:
            (B, out_features, D).
        """
        batch = len(states)
        sequences = rearrange(states, "b t p d -> (b p) t d") + cast(self.Temp_pos_embedding, states)
        states = rearrange(self.Temp_transformer(sequences), "(b p) t d -> b (t p) d", b=batch).contiguous()
        tokens = _project_reinterpreted(states, self.proj)
        if sync is not None:
            tokens = tokens + cast(self.sync_weight, tokens) * _project_reinterpreted(sync, self.proj_sync)
        return tokens

    def _fit_length(self, frames: Tensor) -> Tensor:
        """(T, 3, H, W) of the trained length: longer videos are cut, shorter ones repeat the last frame."""
        config = self.config
        frame_shape = (3, config.clip.image_size, config.clip.image_size)
        if frames.dim() == 5 and frames.shape[0] == 1:
            frames = frames[0]
        if frames.dim() != 4 or len(frames) == 0 or tuple(frames.shape[1:]) != frame_shape:
            raise InputError(
                f"video_tensors has shape {tuple(frames.shape)}. It must be "
                f"(1, T, {', '.join(map(str, frame_shape))}) with at least one frame."
            )
        missing = config.frames - len(frames)
        if missing > 0:
            return torch.cat([frames, frames[-1:].expand(missing, -1, -1, -1)])
        return frames[: config.frames]

    def _check_sync(self, sync: Tensor | None) -> Tensor:
        """(1, N, D) float32. Raises InputError if the features are missing or do not fit the model."""
        config = self.config
        shape = (1, config.sync_tokens, config.sync_dim)
        if sync is None:
            raise InputError(
                "This model needs Synchformer features of the video (video_sync_frames), and they are "
                "missing. Put synchformer_state_dict.safetensors (or .pth) beside the model and extract "
                "the features again."
            )
        if tuple(sync.shape[-2:]) != shape[1:] or sync.numel() != shape[1] * shape[2]:
            raise InputError(
                f"The Synchformer features have shape {tuple(sync.shape)}, but this model takes {shape}. "
                "Extract them with the Synchformer weights that belong to the model: connect the model to "
                "the AudioX Feature Extractor, or extract with --model."
            )
        return sync.float().reshape(shape)


def _project_reinterpreted(states: Tensor, layer: nn.Module) -> Tensor:
    """(as published) Read each buffer (N, D) as rows of N, without transposing. (B, N, D) -> (B, out, D)."""
    batch, tokens, dim = states.shape
    return layer(states.reshape(batch, -1, tokens)).reshape(batch, -1, dim)
