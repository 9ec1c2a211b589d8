"""Extracts the features of a video that models use: frames for CLIP, and Synchformer features for timing.

T frames, N sync tokens, H height, W width, C channels, D width of the sync features.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor

from ..errors import InputError, is_number, quote_value
from ..media.frames import FrameTransform, Resize, TimeRange, Trim, VideoSource, sample_frames
from ..media.object_mask import MaskOverlay, ObjectMask, find_first_frame, mask_count_error
from ..media.probing import decode_frame_times, probe_video, read_packet_times
from ..utf8 import get_logger

log = get_logger(__name__)

FRAME_SIZE = 224  # pixels per side, for both encoders
SyncEncoder = Callable[[Tensor], Tensor]
"""(1, T, 3, 224, 224) float32 in [-1, 1] -> (1, N, D); T = 250 and N = 240 for the published 10 s. T is never
larger: longer videos are encoded in chunks.
"""

MAX_SECONDS = 600.0
"""The longest part of a video that is extracted."""

_CHUNK = 250  # frames that are encoded at once
_CHUNK_STEP = 240  # frames between the starts of chunks: its 30 segments begin every 8 frames
_SEGMENT = 16  # frames per Synchformer segment
_SHORT_BY = 0.1  # seconds that a video may be too short without a warning


@dataclass(frozen=True, kw_only=True)
class VideoFeatures:
    """The input of a video conditioner.

    Attributes:
        frames: (T, 3, 224, 224) uint8, T = seconds * video_fps, for at least the conditioning seconds.
        sync: (1, N, D) float32, N = 240 for 10 s and 8 more for each further 0.32 s; None if no Synchformer
            weights were used.
        duration: Seconds of real video in the time range.
        fps: Average frame rate of the source.
    """

    frames: Tensor
    sync: Tensor | None
    duration: float
    fps: float

    def __post_init__(self) -> None:
        """Refuse features that no extraction gives. Raises `InputError`."""
        frames, sync = self.frames, self.sync
        if not (
            isinstance(frames, Tensor) and frames.dtype == torch.uint8 and frames.ndim == 4 and len(frames)
        ):
            raise InputError(
                f"The frames of the features are {_describe(frames)}. They must be uint8 (T, 3, H, W)."
            )
        if sync is not None:
            is_sync = isinstance(sync, Tensor) and sync.is_floating_point() and sync.ndim == 3
            if not is_sync or not bool(sync.isfinite().all()):
                raise InputError(
                    f"The sync features are {_describe(sync)}, or not finite. They must be finite floating "
                    "point (1, N, D). Extract them again."
                )
        for name in ("duration", "fps"):
            value = getattr(self, name)
            if not (is_number(value) and value >= 0):
                raise InputError(
                    f"The {name} of the features is {quote_value(value)}. It must be a number of 0 or more. "
                    "Extract them again."
                )

    def video_prompt(self, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
        """Build the `video_prompt` of a conditioning.

        Args:
            dtype: Type of the frames. The result of a generation is the same with torch.uint8, which takes a
                quarter of the memory (ten minutes as float32 take 2 GB).

        Returns:
            "video_tensors", (1, T, 3, 224, 224) in 0..255, and with sync features "video_sync_frames",
            (1, N, D).
        """
        prompt = {"video_tensors": self.frames[None].to(dtype)}
        if self.sync is not None:
            prompt["video_sync_frames"] = self.sync
        return prompt


def _describe(value: Any) -> str:
    """Name the type and shape of what should be a tensor."""
    return f"{value.dtype} {tuple(value.shape)}" if isinstance(value, Tensor) else f"a {type(value).__name__}"


class FeatureStore(Protocol):
    """A store of features, such as `feature_cache.FeatureCache`."""

    def key(
        self,
        source: VideoSource,
        settings: tuple[float | str, ...],
        sync_fingerprint: str,
        mask: ObjectMask | None = None,
    ) -> str:
        """Name the entry for this content and these settings."""
        ...

    def get(self, key: str) -> VideoFeatures | None:
        """Return the stored features, or None."""
        ...

    def put(self, key: str, features: VideoFeatures) -> None:
        """Store features."""
        ...


def extract_video_features(
    source: VideoSource,
    *,
    encode_sync: SyncEncoder | None,
    sync_fingerprint: str = "",
    time_range: TimeRange = TimeRange(),  # noqa: B008 (frozen)
    trim: Trim | None = None,
    video_fps: float = 5,
    sync_fps: float = 25,
    seconds: float = 10,
    resize: Resize = "squash",
    mask: ObjectMask | None = None,
    cache: FeatureStore | None = None,
    check_cancelled: Callable[[], None] | None = None,
) -> VideoFeatures:
    """Extract features of `seconds` seconds from time_range.start on, in one decoding pass.

    Past the end of the time range, the last frame is repeated. Memory: 4.5 MB per second with sync features,
    0.75 MB without.

    Args:
        source: A path, a seekable binary file, or images.
        encode_sync: Synchformer; None: only video_fps is sampled, and there are no sync features.
        sync_fingerprint: Identifies the weights of encode_sync; without it, their results are not cached.
        time_range: The part of the trimmed video to use.
        trim: (start, duration) of the part of the source that counts as the video.
        video_fps: Frames per second for CLIP.
        sync_fps: Frames per second for Synchformer.
        seconds: Length of the features; see `seconds_to_cover`.
        resize: "squash" to a square, or "crop" to the centre square first.
        mask: The object to score: one mask, or one per frame of the source, of its trimmed part, or of the
            time range.
        cache: Holds the results for later calls; None: they are not stored.
        check_cancelled: Called for every decoded frame; may raise.

    Raises:
        InputError: A setting, the images or the mask is invalid.
        MediaError: The file cannot be read.
    """
    settings = _Settings(
        rates=(video_fps,) if encode_sync is None else (video_fps, sync_fps),
        seconds=seconds,
        time_range=time_range,
        trim=trim,
        resize=resize,
        mask=_effective(mask, encode_sync is not None),
    )
    key = None
    if cache is not None and (encode_sync is None or sync_fingerprint):
        fingerprint = "" if encode_sync is None else sync_fingerprint
        key = cache.key(source, settings.cache_key(), fingerprint, settings.mask)
        cached = cache.get(key)
        if cached is not None:
            _warn_if_short(cached, time_range)
            return cached
    features = _extract(source, encode_sync, settings, check_cancelled)
    if cache is not None and key is not None:
        cache.put(key, features)
    _warn_if_short(features, time_range)
    return features


def seconds_to_cover(
    source: VideoSource,
    *,
    at_least: float,
    time_range: TimeRange = TimeRange(),  # noqa: B008 (frozen)
    trim: Trim | None = None,
) -> float:
    """Compute how many seconds to extract so that the features cover the whole time range.

    Args:
        source: The video.
        at_least: Lower bound in seconds: the conditioning seconds of the model.
        time_range: The part of the trimmed video to use.
        trim: (start, duration) of the part of the source that counts as the video.

    Returns:
        Seconds of real material, within at_least..`MAX_SECONDS`.

    Raises:
        InputError: The images are invalid.
        MediaError: The file cannot be read.
    """
    length = probe_video(source).duration
    if trim is not None:
        length = min(length - trim[0], trim[1] or length)
    length -= time_range.start
    if time_range.duration is not None:
        length = min(length, time_range.duration)
    return min(MAX_SECONDS, max(at_least, length))


@dataclass(frozen=True, kw_only=True)
class _Settings:
    """The settings of an extraction; see `extract_video_features`."""

    rates: tuple[float, ...]
    seconds: float
    time_range: TimeRange
    trim: Trim | None
    resize: Resize
    mask: ObjectMask | None

    def cache_key(self) -> tuple[float | str, ...]:
        """Every setting that changes the features, apart from the mask."""
        video_fps, sync_fps = (*self.rates, 0)[:2]
        times = (self.time_range.start, self.time_range.duration or 0, *(self.trim or (0, 0)), self.seconds)
        return (*map(float, (*times, video_fps, sync_fps)), self.resize, FRAME_SIZE)


def _extract(
    source: VideoSource,
    encode_sync: SyncEncoder | None,
    settings: _Settings,
    check_cancelled: Callable[[], None] | None,
) -> VideoFeatures:
    """Sample the frames, mask them and encode the sync features."""
    transforms: tuple[FrameTransform | None, ...] = ()
    mask = settings.mask
    if mask is not None:
        overlay = _mask_overlay(mask, source, settings, check_cancelled)
        transforms = (overlay if mask.clip else None, overlay if mask.sync else None)[: len(settings.rates)]
    sampled = sample_frames(
        source,
        rates=settings.rates,
        seconds=settings.seconds,
        time_range=settings.time_range,
        trim=settings.trim,
        size=FRAME_SIZE,
        resize=settings.resize,
        transforms=transforms,
        check_cancelled=check_cancelled,
    )
    return VideoFeatures(
        frames=sampled.frames[0],
        sync=None if encode_sync is None else _encode_sync(encode_sync, sampled.frames[1]),
        duration=sampled.duration,
        fps=sampled.fps,
    )


def _effective(mask: ObjectMask | None, with_sync: bool) -> ObjectMask | None:
    """The mask without settings that change nothing, so that equal results share a cache key."""
    if mask is not None and not with_sync:
        mask = replace(mask, sync=False)
    return None if mask is None or mask.is_idle() else mask


def _mask_overlay(
    mask: ObjectMask,
    source: VideoSource,
    settings: _Settings,
    check_cancelled: Callable[[], None] | None,
) -> MaskOverlay:
    """Match the masks to frames of the source. Raises InputError if their number fits no part of it."""
    info = probe_video(source)
    times: list[float] = []
    count, first = len(mask.masks), 0
    if count > 1:
        ranges = (settings.time_range.in_source(settings.trim), TimeRange().in_source(settings.trim))
        intervals = list(dict.fromkeys((*ranges, (0.0, math.inf))))
        times = read_packet_times(source)
        match = find_first_frame(count, times, intervals)
        if match is None:
            times = decode_frame_times(source, check_cancelled)
            match = find_first_frame(count, times, intervals)
        if match is None:
            raise mask_count_error(count, times, intervals)
        first = match
    return MaskOverlay(
        mask,
        times=times,
        first=first,
        frame_size=(info.height, info.width),
        size=FRAME_SIZE,
        resize=settings.resize,
        pixel_aspect=info.pixel_aspect,
    )


def _warn_if_short(features: VideoFeatures, time_range: TimeRange) -> None:
    """Log a warning if the video ends before the time range does."""
    if time_range.duration is not None and features.duration < time_range.duration - _SHORT_BY:
        log.warning(
            "The video has only %.2f s of the requested %.2f s. Its last frame is repeated for the rest.",
            features.duration,
            time_range.duration,
        )


def _encode_sync(encode_sync: SyncEncoder, frames: Tensor) -> Tensor:
    """(T, 3, 224, 224) uint8 -> (1, N, D) float32 on the CPU."""
    # A segment depends on its own frames alone, so chunks that begin with a segment give the same features.
    chunks = []
    for start in range(0, max(1, len(frames) - _SEGMENT + 1), _CHUNK_STEP):
        pixels = frames[None, start : start + _CHUNK].to(torch.float32).div_(255).sub_(0.5).div_(0.5)
        sync = encode_sync(pixels).detach().to("cpu", torch.float32).contiguous()
        if sync.ndim != 3 or len(sync) != 1:
            raise InputError(
                f"The sync encoder returned shape {tuple(sync.shape)} instead of (1, tokens, width). Use the "
                "Synchformer weights that belong to the model."
            )
        chunks.append(sync)
    return torch.cat(chunks, dim=1) if len(chunks) > 1 else chunks[0]
