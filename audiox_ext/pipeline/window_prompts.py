"""Cuts video and audio prompts to a window's span of time.

T frames, N sync tokens, D their width, C channels, S samples.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ..conditioning.prompts import parse_video_prompt
from ..config import ClipConditionerConfig, ModelConfig

SEGMENT_STRIDE = 8
"""Frames from one Synchformer segment to the next."""
SEGMENT_TOKENS = 8
"""Tokens of one segment."""

Cuts = dict[tuple[int, int, int, int], Any]
"""Cut video prompts, by (identity of the whole prompt, first frame, frame count, first segment)."""


def cut_to_window(
    prompts: Mapping[str, Any], config: ModelConfig, start: float, cuts: Cuts | None = None
) -> dict[str, Any]:
    """Return an item's prompts for a window.

    A video is cut to `conditioning_seconds`; past its end the last frame and the last segment are repeated.
    Frames start within half a frame of the window (0.1 s at 5 per second), sync features within half of a
    segment's stride (0.16 s at 25 frames per second). Reference audio up to that length serves all windows.
    Longer audio is cut to the window's own span, or to its end where less is left. A prompt that needs no cut
    stays the same object.

    Args:
        prompts: Prompts by conditioner.
        config: The model's configuration.
        start: Start of the window in seconds.
        cuts: Results for other windows of the same items. They must live as long as this does. Equal
            cuts of a video become one object.
    """
    result = dict(prompts)
    for name, conditioner in config.conditioners.items():
        value = result.get(name)
        if value is None:
            continue
        if isinstance(conditioner, ClipConditionerConfig):
            result[name] = _cut_video(value, conditioner, start, {} if cuts is None else cuts)
        elif isinstance(value, Tensor):
            length = round(config.conditioning_seconds * config.sample_rate)
            result[name] = _cut_audio(value, length, round(start * config.sample_rate))
    return result


def _cut_video(value: Any, config: ClipConditionerConfig, start: float, cuts: Cuts) -> Any:
    """Cut a video prompt. Returns the prompt itself if nothing is cut off."""
    prompt = parse_video_prompt(value)
    if prompt is None:
        return None
    frames, sync = prompt["video_tensors"], prompt.get("video_sync_frames")
    first, count = 0, 0
    if frames.dim() in (4, 5) and frames.shape[-4]:
        # The conditioner repeats the last frame: copies for every window would fill the memory.
        first = min(round(start * config.video_fps), frames.shape[-4] - 1)
        count = min(config.frames, frames.shape[-4] - first)
        frames = frames.narrow(-4, first, count)
    segment, segments = 0, config.sync_tokens // SEGMENT_TOKENS
    # The conditioner refuses shorter ones: they are from other weights or another extractor.
    is_usable = sync is not None and sync.dim() in (2, 3) and sync.shape[-2] >= config.sync_tokens
    if sync is not None and is_usable and config.with_sync:
        # From the last segment on there is only that one.
        last = sync.shape[-2] // SEGMENT_TOKENS - 1
        segment = min(round(start * config.sync_fps / SEGMENT_STRIDE), last)
        sync = _segments(sync, segment, segments)
    key = (id(value), first, count, segment)
    if key not in cuts:
        is_uncut = frames.shape == prompt["video_tensors"].shape and sync is prompt.get("video_sync_frames")
        cut = {"video_tensors": frames} | ({} if sync is None else {"video_sync_frames": sync})
        cuts[key] = value if is_uncut else cut
    return cuts[key]


def _segments(sync: Tensor, first: int, count: int) -> Tensor:
    """Return the tokens (1, N, D) of `count` segments from `first` on; the last one is repeated."""
    available = sync.shape[-2] // SEGMENT_TOKENS
    if first == 0 and available <= count:
        return sync
    segments = torch.arange(first, first + count).clamp(max=available - 1)
    tokens = segments[:, None] * SEGMENT_TOKENS + torch.arange(SEGMENT_TOKENS)
    return sync.index_select(-2, tokens.flatten().to(sync.device))


def _cut_audio(waveform: Tensor, length: int, first: int) -> Tensor:
    """Cut audio (..., S) to (..., length) from sample `first` on."""
    if waveform.dim() == 0 or waveform.shape[-1] <= length:
        return waveform
    first = min(first, waveform.shape[-1] - length)
    return waveform[..., first : first + length]


def from_second(prompt: dict[str, Tensor], config: ModelConfig, start: float) -> dict[str, Tensor]:
    """Return a video prompt for a sound that starts `start` seconds into the video, up to the video's end.

    Past that end the last frame and the last segment are repeated.
    """
    clip = next((c for c in config.conditioners.values() if isinstance(c, ClipConditionerConfig)), None)
    if start <= 0 or clip is None:
        return prompt
    frames, sync = prompt["video_tensors"], prompt.get("video_sync_frames")
    first = min(round(start * clip.video_fps), frames.shape[-4] - 1)
    cut = {"video_tensors": frames.narrow(-4, first, frames.shape[-4] - first)}
    if sync is not None:
        segment = round(start * clip.sync_fps / SEGMENT_STRIDE)
        left = sync.shape[-2] // SEGMENT_TOKENS - segment
        cut["video_sync_frames"] = _segments(sync, segment, max(left, clip.sync_tokens // SEGMENT_TOKENS))
    return cut
