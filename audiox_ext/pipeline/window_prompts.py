"""A window's own part of a conditioning: the pictures, sync features and sound of its span of time.

T frames, N sync tokens, D their width, C channels, S samples.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ..conditioning.prompts import parse_video_prompt
from ..config import ClipConditionerConfig, ModelConfig

SEGMENT_STRIDE = 8  # frames from one Synchformer segment to the next
SEGMENT_TOKENS = 8


Cuts = dict[tuple[int, int, int, int], Any]
"""Video prompts by the identity of the whole, the first frame, their count, and the first segment."""


def span_of(
    item: Mapping[str, Any], config: ModelConfig, start: float, cuts: Cuts | None = None
) -> dict[str, Any]:
    """The prompts of an item for a window that begins `start` seconds into the sound.

    Of a video, the frames and sync features from there on, `conditioning_seconds` long; past its end the last
    frame and the last segment are held. Frames begin within half a frame of the start (0.1 s at 5 a second),
    sync features within half of a segment's stride (0.16 s at 25 frames a second). An audio prompt of up to
    that length is an example for all windows; of a longer one, a window takes its own span, or where there
    is less left, the end. What a window does not shorten or move stays the same object. cuts: what has been
    cut for other windows of the same items, which must live as long: equal cuts of a video are one object.
    """
    cut = dict(item)
    for name, kind in config.conditioners.items():
        value = cut.get(name)
        if value is None:
            continue
        if isinstance(kind, ClipConditionerConfig):
            cut[name] = _video_span(value, kind, start, {} if cuts is None else cuts)
        elif isinstance(value, Tensor):
            length = round(config.conditioning_seconds * config.sample_rate)
            cut[name] = _audio_span(value, length, round(start * config.sample_rate))
    return cut


def _video_span(value: Any, config: ClipConditionerConfig, start: float, cuts: Cuts) -> Any:
    """The prompt itself where nothing is cut off."""
    prompt = parse_video_prompt(value)
    if prompt is None:
        return None
    frames, sync = prompt["video_tensors"], prompt.get("video_sync_frames")
    first, count = 0, 0
    if frames.dim() in (4, 5) and frames.shape[-4]:
        # The conditioner itself holds the last frame: copies for every window would fill the memory.
        first = min(round(start * config.video_fps), frames.shape[-4] - 1)
        count = min(config.frames, frames.shape[-4] - first)
        frames = frames.narrow(-4, first, count)
    segment, segments = 0, config.sync_tokens // SEGMENT_TOKENS
    # Shorter ones belong to other weights or another extractor: the conditioner says so.
    usable = sync is not None and sync.dim() in (2, 3) and sync.shape[-2] >= config.sync_tokens
    if sync is not None and usable and config.with_sync:
        # From the last segment on, all that is there is that one.
        last = sync.shape[-2] // SEGMENT_TOKENS - 1
        segment = min(round(start * config.sync_fps / SEGMENT_STRIDE), last)
        sync = _segments(sync, segment, segments)
    key = (id(value), first, count, segment)
    if key not in cuts:
        whole = frames.shape == prompt["video_tensors"].shape and sync is prompt.get("video_sync_frames")
        cut = {"video_tensors": frames} | ({} if sync is None else {"video_sync_frames": sync})
        cuts[key] = value if whole else cut
    return cuts[key]


def _segments(sync: Tensor, first: int, count: int) -> Tensor:
    """(1, N, D) -> the tokens of `count` segments from segment `first` on, the last one held at the end."""
    there = sync.shape[-2] // SEGMENT_TOKENS
    if first == 0 and there <= count:
        return sync
    segments = torch.arange(first, first + count).clamp(max=there - 1)
    tokens = segments[:, None] * SEGMENT_TOKENS + torch.arange(SEGMENT_TOKENS)
    return sync.index_select(-2, tokens.flatten().to(sync.device))


def _audio_span(waveform: Tensor, length: int, first: int) -> Tensor:
    """(..., S) -> (..., length)"""
    if waveform.dim() == 0 or waveform.shape[-1] <= length:
        return waveform
    first = min(first, waveform.shape[-1] - length)
    return waveform[..., first : first + length]


def from_second(prompt: dict[str, Tensor], config: ModelConfig, start: float) -> dict[str, Tensor]:
    """A video prompt for a sound that begins `start` seconds into the video, up to the video's end.

    Past that end the last frame and the last segment are held.
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
