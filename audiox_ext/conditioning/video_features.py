"""A video as the models want it: pictures for CLIP, and what Synchformer sees in the pictures for timing.

T frames, N pictures, H height, W width, C channels, D width of the sync features.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..errors import InputError
from ..media.frames import (
    Change,
    Resize,
    SampledFrames,
    Trim,
    VideoSource,
    Window,
    check_images,
    decoded_times,
    frames_from_images,
    frames_from_video,
    packet_times,
    probe_video,
    span_of,
)
from ..media.object_mask import MaskedFrames, ObjectMask, count_error, first_frame

if TYPE_CHECKING:
    from .feature_cache import FeatureCache

log = logging.getLogger(__name__)

FRAME_SIZE = 224  # pixels a side, of both encoders
SyncEncoder = Callable[[Tensor], Tensor]
"""(1, T, 3, 224, 224) float32 in [-1, 1] -> (1, N, D); T = 250 and N = 240 for the published 10 s. T is never
larger: longer videos are encoded in pieces.
"""

MAX_SECONDS = 600.0
"""The longest part of a video that is looked at."""

_PIECE = 250  # frames that are encoded at once
_STEP = 240  # frames from one piece to the next: its 30 segments begin every 8 frames
_SEGMENT = 16  # frames of a segment
_NOTICED = 0.1  # seconds that a video may lack without a word


@dataclass(frozen=True)
class ImageSequence:
    """A batch of pictures as a video: images (N, H, W, C), float 0..1, C 1, 3 or 4; fps frames per second,
    for a slideshow 1 / the seconds that each picture is held.
    """

    images: Tensor
    fps: float


@dataclass(frozen=True, kw_only=True)
class VideoFeatures:
    """What the video conditioner takes.

    frames: (T, 3, 224, 224) uint8, T = seconds * video_fps, for at least the conditioning seconds.
    sync: (1, N, D) float32, N = 240 for 10 s and 8 more for each further 0.32 s, None when no Synchformer
    weights were used.
    duration: seconds of real video inside the window. fps: average rate of the source.
    """

    frames: Tensor
    sync: Tensor | None
    duration: float
    fps: float

    def video_prompt(self) -> dict[str, Tensor]:
        """`video_prompt` of a conditioning: "video_tensors" (1, T, 3, 224, 224) float32 0..255, and, if there
        are sync features, "video_sync_frames" (1, N, D).
        """
        prompt = {"video_tensors": self.frames[None].float()}
        if self.sync is not None:
            prompt["video_sync_frames"] = self.sync
        return prompt


def extract_video_features(
    source: VideoSource | ImageSequence,
    *,
    encode_sync: SyncEncoder | None,
    sync_fingerprint: str = "",
    window: Window = Window(),  # noqa: B008 (frozen)
    trim: Trim | None = None,
    video_fps: float = 5,
    sync_fps: float = 25,
    seconds: float = 10,
    resize: Resize = "squash",
    mask: ObjectMask | None = None,
    cache: FeatureCache | None = None,
    check_cancelled: Callable[[], None] | None = None,
) -> VideoFeatures:
    """Features of `seconds` seconds from window.start on, the last frame being held past the window's end.

    source, window, trim, resize, check_cancelled: see `frames_from_video`. Both rates come from one decode
    pass; without `encode_sync` only video_fps is sampled and there are no sync features. sync_fingerprint
    tells the weights of encode_sync; with an empty one nothing is cached, lest other weights' results pass.
    mask: the object to score; one mask, or one a frame of the source, of its trimmed part, or of the window.
    Memory: 4.5 MB a second with sync features, 0.75 MB without. seconds: see `seconds_to_cover`. Raises
    InputError and MediaError.
    """
    mask = _effective(mask, encode_sync is not None)
    key = None
    if cache is not None and (encode_sync is None or sync_fingerprint):
        times = (window.start, window.duration or 0, *(trim or (0, 0)), seconds)
        rates = (video_fps, 0 if encode_sync is None else sync_fps)
        settings = (*map(float, (*times, *rates)), resize, FRAME_SIZE)
        key = cache.key(source, settings, "" if encode_sync is None else sync_fingerprint, mask)
        found = cache.get(key)
        if found is not None:
            _say_if_short(found, window)
            return found
    wanted = (video_fps,) if encode_sync is None else (video_fps, sync_fps)
    changes: tuple[Change | None, ...] = ()
    if mask is not None:
        masked = _masked(mask, source, window, trim, resize, check_cancelled)
        changes = (masked if mask.clip else None, masked if mask.sync else None)[: len(wanted)]
    sampled = _sample(source, wanted, seconds, window, trim, resize, changes, check_cancelled)
    features = VideoFeatures(
        frames=sampled.frames[0],
        sync=None if encode_sync is None else _encode(encode_sync, sampled.frames[1]),
        duration=sampled.duration,
        fps=sampled.fps,
    )
    if cache is not None and key is not None:
        cache.put(key, features)
    _say_if_short(features, window)
    return features


def seconds_to_cover(
    source: VideoSource | ImageSequence,
    *,
    at_least: float,
    window: Window = Window(),  # noqa: B008 (frozen)
    trim: Trim | None = None,
) -> float:
    """How much of a video to extract so that all of it is seen: the length of the window's real material, at
    least `at_least` (a model's conditioning seconds), at most `MAX_SECONDS`.

    Raises InputError and MediaError.
    """
    if isinstance(source, ImageSequence):
        length = len(source.images) / source.fps if source.fps > 0 else 0.0
    else:
        length = probe_video(source).duration
    if trim is not None:
        length = min(length - trim[0], trim[1] or length)
    length -= window.start
    if window.duration is not None:
        length = min(length, window.duration)
    return min(MAX_SECONDS, max(at_least, length))


def _effective(mask: ObjectMask | None, with_sync: bool) -> ObjectMask | None:
    """The mask as far as it changes anything: equal results have equal keys."""
    if mask is not None and not with_sync:
        mask = replace(mask, sync=False)
    return None if mask is None or mask.is_idle() else mask


def _masked(
    mask: ObjectMask,
    source: VideoSource | ImageSequence,
    window: Window,
    trim: Trim | None,
    resize: Resize,
    check_cancelled: Callable[[], None] | None,
) -> MaskedFrames:
    """The masks laid on the frames of the source. Raises InputError unless their number fits."""
    if isinstance(source, ImageSequence):
        check_images(source.images, source.fps)
        picture = (source.images.shape[1], source.images.shape[2])
    else:
        info = probe_video(source)
        picture = (info.height, info.width)
    count, first, times = len(mask.pictures), 0, list[float]()
    if count > 1:
        spans = list(dict.fromkeys((span_of(window, trim), span_of(Window(), trim), (0.0, math.inf))))
        times = _source_times(source)
        fitting = first_frame(count, times, spans)
        if fitting is None and not isinstance(source, ImageSequence):
            times = decoded_times(source, check_cancelled)
            fitting = first_frame(count, times, spans)
        if fitting is None:
            raise count_error(count, times, spans)
        first = fitting
    return MaskedFrames(mask, times=times, first=first, picture=picture, size=FRAME_SIZE, resize=resize)


def _source_times(source: VideoSource | ImageSequence) -> list[float]:
    if isinstance(source, ImageSequence):
        return [index / source.fps for index in range(len(source.images))]
    return packet_times(source)


def _say_if_short(features: VideoFeatures, window: Window) -> None:
    if window.duration is not None and features.duration < window.duration - _NOTICED:
        log.warning(
            "The video lasts %.2f s of the %.2f s asked for: its last picture is held for the rest.",
            features.duration,
            window.duration,
        )


def _sample(
    source: VideoSource | ImageSequence,
    rates: tuple[float, ...],
    seconds: float,
    window: Window,
    trim: Trim | None,
    resize: Resize,
    changes: Sequence[Change | None],
    check_cancelled: Callable[[], None] | None,
) -> SampledFrames:
    if isinstance(source, ImageSequence):
        return frames_from_images(
            source.images,
            fps=source.fps,
            rates=rates,
            seconds=seconds,
            window=window,
            trim=trim,
            size=FRAME_SIZE,
            resize=resize,
            changes=changes,
            check_cancelled=check_cancelled,
        )
    return frames_from_video(
        source,
        rates=rates,
        seconds=seconds,
        window=window,
        trim=trim,
        size=FRAME_SIZE,
        resize=resize,
        changes=changes,
        check_cancelled=check_cancelled,
    )


def _encode(encode_sync: SyncEncoder, frames: Tensor) -> Tensor:
    """(T, 3, 224, 224) uint8 -> the encoder's (1, N, D), float32 on the CPU."""
    # A segment depends on its own frames only, so pieces that begin with a segment give what the whole gives.
    pieces = []
    for start in range(0, max(1, len(frames) - _SEGMENT + 1), _STEP):
        pixels = frames[None, start : start + _PIECE].to(torch.float32).div_(255).sub_(0.5).div_(0.5)
        sync = encode_sync(pixels).detach().to("cpu", torch.float32).contiguous()
        if sync.ndim != 3 or len(sync) != 1:
            raise InputError(
                f"The sync encoder gave shape {tuple(sync.shape)}: (1, tokens, width) is wanted."
            )
        pieces.append(sync)
    return torch.cat(pieces, dim=1) if len(pieces) > 1 else pieces[0]
