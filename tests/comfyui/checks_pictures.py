"""Checks of grey and transparent pictures, and of other values, at every IMAGE and VIDEO input."""

from __future__ import annotations

import io
from fractions import Fraction
from types import MappingProxyType, SimpleNamespace
from typing import Any

import av
import numpy as np
import torch
from checks_finished_sounds import alike, put, tones
from checks_view import VIEW
from comfy_api.latest import Input, InputImpl, Types
from in_comfyui import BASE, EXTRACTOR, message, run, sound
from PIL import Image

FORMS = {"grey": 1, "RGB": 3, "RGBA": 4}


def make_pictures(channels: int, count: int = 12) -> torch.Tensor:
    """Pictures of 0.75 on the left. On the right of RGBA pictures the 0.75 is transparent, in others 0."""
    pictures = torch.full((count, 32, 48, channels), 0.75)
    if channels == 4:
        pictures[..., 3] = 1
        pictures[:, :, 24:, 3] = 0
    else:
        pictures[:, :, 24:] = 0
    return pictures


def make_video(images: Any, audio: Any = None) -> Any:
    """A VIDEO without a file, as Create Video makes it."""
    return InputImpl.VideoFromComponents(
        Types.VideoComponents(images=images, frame_rate=Fraction(12), audio=audio)
    )


def read_first_frame(path: Any) -> np.ndarray[Any, Any]:
    """The first frame (H, W, 3) of a file."""
    with av.open(str(path)) as container:
        return next(container.decode(video=0)).to_ndarray(format="rgb24")


def check_grey_and_transparent_pictures_look_the_same_everywhere() -> None:
    for form, channels in FORMS.items():
        pictures = make_pictures(channels)
        for source in ({"images": pictures, "fps": 12.0}, {"video": make_video(pictures)}):
            frames = run("AudioXExtractFeatures", **EXTRACTOR | source)[0].frames.int()
            assert (frames[0, :, 100, 50] - 191).abs().max() <= 1, form
            assert frames[0, :, 100, 170].max() == 0, f"{form}: transparent pixels lie over black"
            view = run("AudioXView", audio=sound(1, 8000, 8000), **VIEW | source)[0]
            assert view.isfinite().all()
    views = [
        run(
            "AudioXView",
            audio=sound(1, 8000, 8000),
            **VIEW | {"images": make_pictures(channels), "fps": 12.0},
        )
        for channels in FORMS.values()
    ]
    assert all(torch.equal(view[0], views[0][0]) for view in views)


def check_sound_on_grey_and_transparent_pictures() -> None:
    for form, channels in FORMS.items():
        path = put(video=make_video(make_pictures(channels)))
        frame = read_first_frame(path).astype(int)
        assert np.abs(frame[16, 10] - 191).max() <= 3, (form, frame[16, 10])
        assert frame[16, 38].max() <= 3, (form, frame[16, 38])
        assert alike(path, tones()["waveform"][0, 0][:44100]) > 0.98


def check_a_video_may_be_an_animated_picture() -> None:
    shades = [Image.new("RGB", (48, 32), (shade, shade, shade)) for shade in (50, 150, 250)]
    for suffix in ("webp", "gif", "png"):
        path = BASE / "input" / f"moving.{suffix}"
        settings = {"lossless": True} if suffix == "webp" else {}
        shades[0].save(path, save_all=True, append_images=shades[1:], duration=[1000, 200, 800], **settings)
        for source in (str(path), io.BytesIO(path.read_bytes())):
            moving = InputImpl.VideoFromFile(source)
            features, duration, fps = run("AudioXExtractFeatures", **EXTRACTOR | {"video": moving})
            assert (round(duration, 6), round(fps, 6)) == (2.0, 1.5)
            expected = torch.tensor([50] * 5 + [150] + [250] * 4)
            assert (features.frames[:10, 0, 100, 100] - expected).abs().max() <= 1
            view = run("AudioXView", audio=sound(1, 16000, 8000), **VIEW | {"video": moving})[0]
            assert view.isfinite().all()
            if suffix == "webp":
                assert "is an animated WebP" in message(lambda moving=moving: put(video=moving))
            else:
                assert alike(put(video=moving), tones()["waveform"][0, 0]) > 0.98


def check_transparent_pixels_of_a_decoded_video_are_black() -> None:
    class Decoded(Input.Video):
        """A video of newer ComfyUI, whose transparency is a mask beside the pictures."""

        alpha: torch.Tensor

        def get_components(self) -> Any:
            return SimpleNamespace(
                images=torch.ones(12, 32, 48, 3), alpha=self.alpha, frame_rate=Fraction(12), audio=None
            )

        def save_to(self, *arguments: Any, **settings: Any) -> None:
            raise AssertionError("not asked for")

        def as_trimmed(self, *arguments: Any, **settings: Any) -> Any:
            raise AssertionError("not asked for")

    alpha = torch.ones(12, 32, 48)
    alpha[:, :, 24:] = 0
    for form in (alpha, alpha[..., None]):
        decoded = Decoded()
        decoded.alpha = form
        frames = run("AudioXExtractFeatures", **EXTRACTOR | {"video": decoded})[0].frames
        assert frames[0, :, 100, 50].min() == 255
        assert frames[0, :, 100, 170].max() == 0


def check_what_is_no_picture_is_refused() -> None:
    for images, words in (
        (torch.rand(3, 8, 8, 2), "(3, 8, 8, 2)"),
        (torch.rand(8, 8, 3), "(8, 8, 3)"),
        (torch.rand(0, 8, 8, 3), "(0, 8, 8, 3)"),
        (torch.zeros(3, 8, 8, 3, dtype=torch.uint8), "uint8"),
        ({"samples": torch.rand(3, 4, 8, 8)}, "dict"),
        ([torch.rand(8, 8, 3)], "list"),
    ):
        for call in (
            lambda images=images: run("AudioXExtractFeatures", **EXTRACTOR | {"images": images}),
            lambda images=images: run("AudioXView", audio=sound(1, 900), images=images, **VIEW),
            lambda images=images: put(video=make_video(images)),
        ):
            text = message(call)
            assert words in text, text
    assert "not a VIDEO" in message(lambda: run("AudioXExtractFeatures", video="a.mp4", **EXTRACTOR))


def check_the_information_of_video_helper_suite_may_be_any_mapping() -> None:
    images = torch.rand(12, 8, 8, 3)
    for fps in (4, 4.0, np.float32(4), np.float64(4), torch.tensor(4.0)):
        info = MappingProxyType({"loaded_fps": fps, "source_fps": 60.0})
        duration, shown = run("AudioXExtractFeatures", **EXTRACTOR | {"images": images, "video_info": info})[
            1:
        ]
        assert (duration, shown) == (3.0, 4.0), repr(fps)
    for info in ({}, {"loaded_fps": None}, {"loaded_fps": "24"}, "24", [24.0]):
        inputs = EXTRACTOR | {"images": images, "video_info": info}
        text = message(lambda inputs=inputs: run("AudioXExtractFeatures", **inputs))
        assert "video_info has no loaded_fps" in text
    for fps in (0.0, -1.0, float("nan"), float("inf")):
        inputs = EXTRACTOR | {"images": images, "video_info": {"loaded_fps": fps}}
        text = message(lambda inputs=inputs: run("AudioXExtractFeatures", **inputs))
        assert f"fps of the images is {fps}" in text
