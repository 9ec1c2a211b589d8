"""Checks of the videos and images that the Feature Extractor accepts."""

from __future__ import annotations

import io
import logging
from fractions import Fraction
from types import SimpleNamespace
from typing import Any

from in_comfyui import BASE, EXTRACTOR, load, message, pack, run, sample, video  # isort: split

import torch
from comfy_api.latest import Input, InputImpl, Types


def check_features_of_a_video_in_every_form() -> None:
    model = load("tiny-maf")
    of_file, duration, fps = run("AudioXExtractFeatures", video=video(), model=model, **EXTRACTOR)
    assert (round(duration, 2), round(fps, 2)) == (3.0, 24.0)
    assert of_file.frames.shape == (50, 3, 224, 224)
    assert of_file.sync.shape[1] == 240
    content = io.BytesIO((BASE / "input" / "video.mp4").read_bytes())
    of_bytes = run("AudioXExtractFeatures", video=InputImpl.VideoFromFile(content), model=model, **EXTRACTOR)[
        0
    ]
    assert torch.equal(of_bytes.frames, of_file.frames)
    parts = video().get_components()
    components = InputImpl.VideoFromComponents(
        Types.VideoComponents(images=parts.images, frame_rate=Fraction(24), audio=None)
    )
    forms: list[dict[str, Any]] = [
        {"video": components},
        {"images": parts.images},
        {"images": parts.images, "fps": 1.0, "video_info": {"loaded_fps": 24.0, "source_fps": 60.0}},
    ]
    for form in forms:
        features, duration, fps = run("AudioXExtractFeatures", **EXTRACTOR | {"model": model} | form)
        assert (round(duration, 2), round(fps, 2)) == (3.0, 24.0)
        # Decoded twice by different code: the same pictures, up to rounding.
        difference = (features.frames.int() - of_file.frames.int()).abs().float().mean()
        assert difference < 3, float(difference)


def check_trim_and_crop_of_newer_comfyui() -> None:
    class Newer(InputImpl.VideoFromFile):
        """A video with the methods that newer ComfyUI adds."""

        edits = False

        def get_active_trim_window(self) -> tuple[float, float]:
            return 1.0, 1.5

        def has_pending_frame_edits(self) -> bool:
            return self.edits

        def as_trimmed(self, start_time: float, duration: float, strict_duration: bool) -> Any:
            assert not strict_duration
            images = parts.images[24:][round(start_time * 24) :][: round(duration * 24)][..., :100, :]
            components = Types.VideoComponents(images=images, frame_rate=Fraction(24), audio=None)
            return InputImpl.VideoFromComponents(components)

    parts = video().get_components()
    trimmed = Newer(str(BASE / "input" / "video.mp4"))
    whole = run("AudioXExtractFeatures", video=video(), **EXTRACTOR)[0]
    features, duration, _ = run("AudioXExtractFeatures", video=trimmed, **EXTRACTOR)
    assert round(duration, 2) == 1.5
    assert torch.equal(features.frames[0], whole.frames[5])
    trimmed.edits = True
    features, duration, _ = run(
        "AudioXExtractFeatures", video=trimmed, **EXTRACTOR | {"start": 0.5, "duration": 1.0}
    )
    assert round(duration, 2) == 1.0
    trimmed.as_trimmed = lambda *arguments, **settings: None
    trimmed.get_components = lambda: AssertionError("not asked for")
    text = message(lambda: run("AudioXExtractFeatures", video=trimmed, **EXTRACTOR | {"start": 7.5}))
    assert "7.5 s, which is past the end" in text


def check_a_video_without_a_stream_gives_its_frames() -> None:
    class Streamless(InputImpl.VideoFromFile):
        """A video without a file at the moment."""

        def get_stream_source(self) -> Any:
            return None

    features, duration, _ = run(
        "AudioXExtractFeatures", video=Streamless(str(BASE / "input" / "video.mp4")), **EXTRACTOR
    )
    assert round(duration, 2) == 3.0
    assert features.frames.shape == (50, 3, 224, 224)


def check_no_encoding_to_memory_for_other_videos() -> None:
    class Other(Input.Video):
        """A pack's own video, which has no stream."""

        def get_components(self) -> Any:
            return SimpleNamespace(images=torch.rand(24, 20, 30, 3), frame_rate=Fraction(12))

        def save_to(self, *arguments: Any, **settings: Any) -> None:
            raise AssertionError("not asked for")

        def as_trimmed(self, *arguments: Any, **settings: Any) -> Any:
            raise AssertionError("not asked for")

    assert round(run("AudioXExtractFeatures", video=Other(), **EXTRACTOR)[1], 2) == 2.0


def check_long_videos_count_in_full() -> None:
    images = torch.rand(30, 8, 8, 1)
    duration = run("AudioXExtractFeatures", **EXTRACTOR | {"images": images, "fps": 1.0})[1]
    assert duration == 30.0


def check_a_single_image_is_held() -> None:
    image = torch.rand(1, 8, 8, 3)
    handle = load("tiny-maf")
    for duration_input, expected in ((0.0, 10.0), (2.5, 2.5), (60.0, 60.0), (0.01, 0.05)):
        settings = EXTRACTOR | {"images": image, "duration": duration_input, "start": 1.0}
        features, duration, fps = run("AudioXExtractFeatures", model=handle, **settings)
        assert (round(duration, 6), fps) == (expected, 24.0), duration_input
        assert bool((features.frames == features.frames[:1]).all())
    assert sample(handle, features=features, duration=duration).shape[-1] == round(0.05 * 16000)


def check_the_shortest_video_can_be_sampled() -> None:
    duration = run("AudioXExtractFeatures", **EXTRACTOR | {"images": torch.rand(2, 8, 8, 3), "fps": 60.0})[1]
    assert duration == 0.05


def check_video_info_that_goes_unused_is_mentioned() -> None:
    logger = logging.getLogger(pack("nodes.shared.video_input").__name__)
    texts: list[str] = []
    logger.addFilter(lambda record: texts.append(record.getMessage()) or True)
    info = {"loaded_fps": 12.0}
    run("AudioXExtractFeatures", images=torch.rand(3, 8, 8, 3), video_info=info, **EXTRACTOR)
    assert not texts
    run("AudioXExtractFeatures", video=video(), video_info=info, **EXTRACTOR)
    message(lambda: run("AudioXExtractFeatures", video_info=info, **EXTRACTOR))
    assert len(texts) == 2
    assert all("video_info is not used" in text for text in texts)
