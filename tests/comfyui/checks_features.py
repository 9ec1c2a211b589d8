"""Checks of the feature extractor: object masks and slideshows."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from typing import Any

import torch
from in_comfyui import BASE, EXTRACTOR, PACK, load, message, pack, run, sample, video

import nodes as comfy_nodes

FRAMES = 72  # of the test video: 3 s at 24 fps


def extract(**changes: Any) -> Any:
    """Run the extractor node; returns features, duration and fps."""
    return run("AudioXExtractFeatures", **EXTRACTOR | changes)


@contextlib.contextmanager
def record_log(module: str) -> Iterator[list[str]]:
    """Record what a module logs."""
    texts: list[str] = []
    logger = logging.getLogger(pack(module).__name__)

    def keep(record: logging.LogRecord) -> bool:
        texts.append(record.getMessage())
        return True

    logger.addFilter(keep)
    try:
        yield texts
    finally:
        logger.removeFilter(keep)


def check_saved_workflows_keep_their_widgets() -> None:
    node = comfy_nodes.NODE_CLASS_MAPPINGS["AudioXExtractFeatures"]
    inputs = node.GET_NODE_INFO_V1()["input"]
    assert list(inputs["required"]) == ["start", "duration", "resize", "fps"]
    sockets = ("video", "images", "video_info", "model", "mask")
    later = [name for name in inputs["optional"] if name not in sockets]
    assert later == ["mask_strength", "mask_clip", "mask_sync", "seconds_per_image"]
    former = {name: EXTRACTOR[name] for name in inputs["required"]}
    assert torch.equal(
        run("AudioXExtractFeatures", video=video(), **former)[0].frames, extract(video=video())[0].frames
    )


def check_the_packs_model_does_everything_on_a_fresh_machine() -> None:
    models = BASE / "models" / "audiox"
    models.rename(models.with_name("elsewhere"))
    try:
        name = pack("nodes.shared.model_store").list_model_names()[0]
        assert name == "audiox-pocket"
        model = load(name)
        assert model.folder == PACK / "audiox_ext" / "models" / name
        for connected in (model, None):  # there is no other Synchformer that could be taken
            features, duration, _ = extract(video=video(), model=connected)
            assert features.sync.shape[-1] == model.model.sync_width
            assert sample(model, features=features, duration=duration).isfinite().all()
    finally:
        models.with_name("elsewhere").rename(models)


def check_a_mask_greys_the_background() -> None:
    model, mask = load("tiny-maf"), torch.zeros(1, 40, 60)
    mask[:, :, 30:] = 1
    plain = extract(video=video(), model=model)[0]
    with torch.inference_mode():
        mask = mask.clone()  # as another node makes it
    masked = extract(video=video(), model=model, mask=mask)[0]
    assert (masked.frames[..., :100] == 128).all()
    assert torch.equal(masked.frames[..., 120:], plain.frames[..., 120:])
    assert not torch.equal(masked.sync, plain.sync)
    seen = extract(video=video(), model=model, mask=mask, mask_sync=False)[0]
    assert torch.equal(seen.sync, plain.sync)
    assert torch.equal(seen.frames, masked.frames)
    timed = extract(video=video(), model=model, mask=mask, mask_clip=False)[0]
    assert torch.equal(timed.sync, masked.sync)
    assert torch.equal(timed.frames, plain.frames)
    off = extract(video=video(), model=model, mask=mask, mask_strength=0.0)[0]
    assert torch.equal(off.frames, plain.frames)
    assert torch.equal(off.sync, plain.sync)
    assert not torch.equal(sample(model, features=masked), sample(model, features=plain))


def check_masks_of_the_frames_of_a_video() -> None:
    masks = torch.zeros(FRAMES, 40, 60)
    masks[:36] = 1
    frames = extract(video=video(), mask=masks)[0].frames
    assert (frames[8:] == 128).all(), "from 1.5 s on"
    assert not (frames[7] == 128).all()
    parts = video().get_components().images
    assert len(parts) == FRAMES, "a mask a frame, as a segmentation node makes them"
    of_images = extract(images=parts, mask=masks)[0].frames
    assert (of_images[8:] == 128).all()
    used = extract(video=video(), mask=masks[24:48], start=1.0, duration=1.0)[0].frames
    assert not (used[2] == 128).all()
    assert (used[3] == 128).all()
    text = message(lambda: extract(video=video(), mask=masks[:10], start=1.0, duration=1.0))
    assert "There are 10 masks" in text
    assert "72 frames, 24 of them in the part that is used" in text
    assert "mask_strength is 1.5" in message(lambda: extract(video=video(), mask=masks, mask_strength=1.5))


def check_masked_features_come_from_the_disk_the_second_time() -> None:
    store, model = pack("nodes.shared.state").SYNCHFORMERS, load("tiny-maf")
    mask = torch.zeros(8, 8)
    mask[2:5, 1:6] = 1
    settings = {"video": video(), "model": model, "mask": mask, "mask_strength": 0.37}
    first = extract(**settings)[0]
    encoded: list[int] = []
    original = store.make_encoder

    def counting(*arguments: Any) -> Any:
        encode = original(*arguments)
        return lambda frames: encoded.append(1) or encode(frames)

    store.make_encoder = counting
    try:
        again = extract(**settings)[0]
        assert not encoded
        assert torch.equal(again.frames, first.frames)
        assert torch.equal(again.sync, first.sync)
        extract(**settings | {"mask_strength": 0.38})
        assert encoded
    finally:
        del store.make_encoder


def check_a_slideshow_is_timed_by_its_seconds() -> None:
    model = load("tiny-maf")
    pictures = torch.linspace(0.2, 1, 4)[:, None, None, None].expand(-1, 8, 12, 3)
    features, duration, fps = extract(images=pictures, model=model, seconds_per_image=3.0)
    assert (round(duration, 6), round(fps, 6)) == (12.0, round(1 / 3, 6))
    levels = [round(level * 255) for level in (0.2, 0.2 + 0.8 / 3, 0.2 + 1.6 / 3, 1.0)]
    expected = torch.tensor(levels).repeat_interleave(15)
    assert (features.frames[:, 0, 100, 100] - expected).abs().max() <= 1
    assert sample(model, features=features, duration=duration, steps=1).shape[-1] == 12 * 16000
    one, duration, _ = extract(images=pictures[:1], seconds_per_image=4.0)
    assert round(duration, 6) == 4.0
    assert bool((one.frames == one.frames[:1]).all())
    grey = extract(images=pictures, seconds_per_image=3.0, mask=torch.eye(4)[:, :, None].expand(-1, -1, 4))
    assert grey[0].frames.shape[0] == 60
    assert "There are 3 masks" in message(
        lambda: extract(images=pictures, seconds_per_image=3.0, mask=torch.ones(3, 4, 4))
    )


def check_seconds_per_image_comes_first() -> None:
    pictures, info = torch.rand(3, 8, 8, 3), {"loaded_fps": 12.0}
    with record_log("nodes.shared.video_input") as texts:
        assert round(extract(images=pictures, video_info=info, seconds_per_image=5.0)[1], 6) == 15.0
        assert round(extract(video=video(), seconds_per_image=5.0)[1], 2) == 3.0
    assert ["video_info is not used" in texts[0], "seconds_per_image is not used" in texts[1]] == [True, True]
    assert len(texts) == 2
    assert "seconds_per_image is -1" in message(lambda: extract(images=pictures, seconds_per_image=-1.0))


def check_a_video_of_one_frame_can_be_asked_for_a_minute() -> None:
    model = load("tiny-maf")
    with record_log("audiox_ext.conditioning.video_features") as texts:
        features, duration, _ = extract(images=torch.rand(2, 8, 8, 3), fps=30.0, duration=60.0, model=model)
    assert duration < 0.1
    assert "has only 0.07 s of the requested 60.00 s" in texts[0]
    assert sample(model, features=features, duration=60.0, steps=1).shape[-1] == 60 * 16000
