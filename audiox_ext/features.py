"""A video as the models want it: pictures for CLIP, and what Synchformer sees in the pictures for timing.

T frames, N pictures, H height, W width, C channels, D width of the sync features.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .errors import InputError
from .frames import Resize, SampledFrames, Trim, VideoSource, Window, frames_from_images, frames_from_video

if TYPE_CHECKING:
    from .feature_cache import FeatureCache

FRAME_SIZE = 224  # pixels a side, of both encoders
SyncEncoder = Callable[[Tensor], Tensor]
"""(1, T, 3, 224, 224) float32 in [-1, 1] -> (1, N, D); T = 250 and N = 240 for the published 10 s."""


@dataclass(frozen=True)
class ImageSequence:
    """A batch of pictures as a video: images (N, H, W, C), float 0..1, C 1, 3 or 4; fps frames per second."""

    images: Tensor
    fps: float


@dataclass(frozen=True, kw_only=True)
class VideoFeatures:
    """What the video conditioner takes.

    frames: (T, 3, 224, 224) uint8, T = conditioning seconds * video_fps.
    sync: (1, 240, D) float32, None when no Synchformer weights were used.
    duration: seconds of real video inside the window. fps: average rate of the source.
    """

    frames: Tensor
    sync: Tensor | None
    duration: float
    fps: float

    def video_prompt(self) -> dict[str, Tensor]:
        """`video_prompt` of a conditioning: "video_tensors" (1, T, 3, 224, 224) float32 0..255, and, if there
        are sync features, "video_sync_frames" (1, 240, D).
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
    cache: FeatureCache | None = None,
    check_cancelled: Callable[[], None] | None = None,
) -> VideoFeatures:
    """Features of `seconds` seconds from window.start on, the last frame being held past the window's end.

    source, window, trim, resize, check_cancelled: see `frames_from_video`. Both rates come from one decode
    pass; without `encode_sync` only video_fps is sampled and there are no sync features. sync_fingerprint
    tells the weights of encode_sync; with an empty one nothing is cached, lest other weights' results pass.
    Raises InputError and MediaError.
    """
    key = None
    if cache is not None and (encode_sync is None or sync_fingerprint):
        times = (window.start, window.duration or 0, *(trim or (0, 0)), seconds)
        rates = (video_fps, 0 if encode_sync is None else sync_fps)
        settings = (*map(float, (*times, *rates)), resize, FRAME_SIZE)
        key = cache.key(source, settings, "" if encode_sync is None else sync_fingerprint)
        found = cache.get(key)
        if found is not None:
            return found
    wanted = (video_fps,) if encode_sync is None else (video_fps, sync_fps)
    sampled = _sample(source, wanted, seconds, window, trim, resize, check_cancelled)
    features = VideoFeatures(
        frames=sampled.frames[0],
        sync=None if encode_sync is None else _encode(encode_sync, sampled.frames[1]),
        duration=sampled.duration,
        fps=sampled.fps,
    )
    if cache is not None and key is not None:
        cache.put(key, features)
    return features


def _sample(
    source: VideoSource | ImageSequence,
    rates: tuple[float, ...],
    seconds: float,
    window: Window,
    trim: Trim | None,
    resize: Resize,
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
        check_cancelled=check_cancelled,
    )


def _encode(encode_sync: SyncEncoder, frames: Tensor) -> Tensor:
    """(T, 3, 224, 224) uint8 -> the encoder's (1, N, D), float32 on the CPU."""
    pixels = frames[None].to(torch.float32).div_(255).sub_(0.5).div_(0.5)
    sync = encode_sync(pixels).detach().to("cpu", torch.float32).contiguous()
    if sync.ndim != 3 or len(sync) != 1:
        raise InputError(f"The sync encoder gave shape {tuple(sync.shape)}: (1, tokens, width) is wanted.")
    return sync
