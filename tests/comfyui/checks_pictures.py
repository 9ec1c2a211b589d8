"""Checks of grey and transparent pictures, and of what is no picture, at every IMAGE and VIDEO input."""

from __future__ import annotations

from fractions import Fraction
from types import MappingProxyType
from typing import Any

import av
import numpy as np
import torch
from checks_finished_sounds import alike, put, tones
from checks_view import VIEW
from comfy_api.latest import InputImpl, Types
from in_comfyui import EXTRACTOR, message, run, sound

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
