"""Each window is given the prompts of its span, however long video and audio are."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from audio_requests import audio_request
from golden_cases import assert_close_l2, frames, sync, tone
from torch import Tensor
from window_inputs import native

from audiox_ext.conditioning.video_features import VideoFeatures, extract_video_features, seconds_to_cover
from audiox_ext.media.frames import ImageSequence, TimeRange
from audiox_ext.pipeline.make_audio import make_audio
from audiox_ext.pipeline.window_prompts import cut_to_window
from audiox_ext.sampling.windows import plan_windows


def test_a_window_gets_the_video_and_sound_of_its_span(golden_model: Any) -> None:
    config = golden_model("maf").config
    numbers = torch.arange(300, dtype=torch.uint8).reshape(1, 300, 1, 1, 1).expand(1, 300, 3, 2, 2)
    segments = torch.arange(187.0).repeat_interleave(8).reshape(1, -1, 1).expand(1, -1, 32)
    sound = torch.arange(60.0 * 8000).expand(2, -1)
    item = {
        "text_prompt": "a",
        "video_prompt": {"video_tensors": numbers, "video_sync_frames": segments},
        "audio_prompt": sound,
    }
    cut = cut_to_window(item, config, 0.0)
    assert torch.equal(cut["video_prompt"]["video_tensors"], numbers[:, :50])
    assert torch.equal(cut["video_prompt"]["video_sync_frames"], segments[:, :240])
    for start in (7.37, 23.1, 48.9):
        cut = cut_to_window(item, config, start)
        video, timing = cut["video_prompt"]["video_tensors"], cut["video_prompt"]["video_sync_frames"]
        assert abs(float(video[0, 0, 0, 0, 0]) / 5 - start) <= 0.1 + 1e-6
        assert abs(float(timing[0, 0, 0]) * 0.32 - start) <= 0.16 + 1e-6
        assert (video.shape[1], timing.shape[1]) == (50, 240)
        assert float(cut["audio_prompt"][0, 0]) == round(start * 8000)
        assert cut["text_prompt"] is item["text_prompt"]
    late = cut_to_window(item, config, 58.0)
    assert late["video_prompt"]["video_tensors"][0, :, 0, 0, 0].tolist() == list(range(290 % 256, 300 % 256))
    assert torch.equal(late["video_prompt"]["video_sync_frames"][0, -1], segments[0, -1])
    assert torch.equal(late["audio_prompt"], sound[:, -80000:])
    # A video that has ended stands still; a short sound is the audio prompt of every window.
    short = {"video_prompt": {"video_tensors": numbers[:, :50]}, "audio_prompt": sound[:, :9000]}
    cut = cut_to_window(short, config, 30.0)
    assert cut["video_prompt"]["video_tensors"][0, :, 0, 0, 0].tolist() == [49]
    assert cut["audio_prompt"] is short["audio_prompt"]


def test_the_conditioners_see_each_windows_span(golden_model: Any, monkeypatch: Any) -> None:
    model = golden_model("maf")
    prompts_by_name: dict[str, list[Any]] = {name: [] for name in model.config.conditioners}
    model.prompt_cache.clear()
    for name, module in model.conditioner.conditioners.items():

        def spy(prompts: Any, *rest: Any, name: str = name, forward: Any = module.forward) -> Tensor:
            prompts_by_name[name].append(prompts)
            return forward(prompts, *rest)

        monkeypatch.setattr(module, "forward", spy)
    pictures = frames(50, 3).repeat(3, 1, 1, 1)
    pictures = pictures[:130]  # 26 s
    features = VideoFeatures(frames=pictures, sync=sync(2).repeat(1, 3, 1), duration=26, fps=25)
    request = audio_request(prompt="rain", features=features, duration=26.0, steps=1, cfg=1.0, batch=2)
    result = make_audio(model, request, device="cpu")
    assert result.shape == (2, 2, 26 * 8000)
    starts = plan_windows(-(-26 * 8000 // 512), native(model)).starts
    assert len(prompts_by_name["text_prompt"]) == 1
    assert len(prompts_by_name["audio_prompt"]) == len(starts) == len(prompts_by_name["video_prompt"])
    for start, prompts in zip(starts, prompts_by_name["video_prompt"], strict=True):
        first = round(start * 512 / 8000 * 5)
        assert len(prompts) == 1  # equal items are encoded once
        assert torch.equal(prompts[0]["video_tensors"][0], pictures[first : first + 50])


@pytest.mark.parametrize(("kind", "times"), [("base", 1), ("maf", 3)])
def test_a_picture_is_encoded_once_for_a_minute(
    golden_model: Any, monkeypatch: Any, kind: str, times: int
) -> None:
    """Models with sync features encode the video again for each window that has features: here two more."""
    model, encoded_prompts = golden_model(kind), []
    module = model.conditioner.conditioners["video_prompt"]
    forward = module.forward

    def spy(prompts: Any, *rest: Any) -> Tensor:
        encoded_prompts.append(prompts[0])
        return forward(prompts, *rest)

    monkeypatch.setattr(module, "forward", spy)
    features = VideoFeatures(frames=frames(50, 1)[:1], sync=sync(1), duration=0.04, fps=25)
    request = audio_request(prompt="0-30 wind\n30-end rain", features=features, duration=60.0, steps=1, cfg=1)
    make_audio(model, request, device="cpu")
    assert len(plan_windows(-(-60 * 8000 // 512), native(model)).starts) > 3
    assert len(encoded_prompts) == times


def test_uncut_prompts_stay_the_same_object(golden_model: Any) -> None:
    config, cuts = golden_model("maf").config, {}
    item = {"video_prompt": {"video_tensors": frames(50, 1)[None], "video_sync_frames": sync(1)}}
    whole, *others = [
        cut_to_window(item, config, start, cuts)["video_prompt"] for start in (0.0, 5.0, 30.0, 40.0)
    ]
    assert whole is item["video_prompt"]
    assert others[0] is not others[1]
    assert others[1] is others[2]  # both are past the last frame


def test_a_single_frame_serves_a_minute(golden_model: Any) -> None:
    """The picture is held, and the sound has the requested length."""
    model = golden_model("turbo")
    features = VideoFeatures(frames=frames(50, 1)[:1], sync=sync(1), duration=0.04, fps=25)
    sound = make_audio(
        model, audio_request(prompt="wind", features=features, duration=60.0, steps=1), device="cpu"
    )
    assert sound.shape == (1, 2, 480000)


def test_a_long_video_gets_features_for_all_of_it() -> None:
    """Sync features in pieces equal those of the whole; the first 10 s equal those of a 10 s video."""
    calls: list[int] = []

    def encode(pixels: Tensor) -> Tensor:  # identifies a segment by its first frame, as Synchformer does
        calls.append(pixels.shape[1])
        first = pixels[0, :, 0, 0, 0].unfold(0, 16, 8)[:, 0]
        return first.repeat_interleave(8).reshape(1, -1, 1)

    pictures = torch.linspace(0, 1, 260).reshape(-1, 1, 1, 1).expand(-1, 4, 4, 1)
    clip = ImageSequence(pictures, 10)  # 26 s, past whose end the last picture is held
    long = extract_video_features(clip, encode_sync=encode, seconds=30)
    assert (long.frames.shape[0], long.duration) == (150, 26)
    assert max(calls) == 250
    whole = extract_video_features(clip, encode_sync=None, video_fps=25, seconds=30)
    assert long.sync is not None
    expected = encode(whole.frames[None].float() / 255 * 2 - 1)
    assert_close_l2(long.sync, expected, 1e-6)
    short = extract_video_features(clip, encode_sync=encode, seconds=10)
    assert short.sync is not None
    assert torch.equal(long.sync[:, :240], short.sync)
    assert torch.equal(long.frames[:50], short.frames)


def test_the_length_of_video_that_is_used() -> None:
    clip = ImageSequence(torch.zeros(1000, 2, 2, 3), 10)  # 100 s
    assert seconds_to_cover(clip, at_least=10) == 100
    assert seconds_to_cover(clip, at_least=10, time_range=TimeRange(start=70)) == 30
    assert seconds_to_cover(clip, at_least=10, time_range=TimeRange(start=70, duration=12)) == 12
    assert seconds_to_cover(clip, at_least=10, time_range=TimeRange(start=97)) == 10
    assert seconds_to_cover(clip, at_least=10, time_range=TimeRange(start=2), trim=(10.0, 40.0)) == 38
    assert seconds_to_cover(ImageSequence(torch.zeros(9000, 1, 1, 3), 10), at_least=10) == 600


def test_a_long_audio_prompt_is_used_to_its_end(golden_model: Any) -> None:
    call: dict[str, Any] = {}

    def generate(model: Any, **arguments: Any) -> Tensor:
        call.update(arguments)
        return torch.zeros(1, 2, arguments["sample_size"])

    request = audio_request(audio_prompt=(tone(30, 16000, 300), 16000), duration=25.0, window_batch=2)
    assert make_audio(golden_model("maf"), request, generate=generate).shape == (1, 2, 200000)
    assert call["conditioning"][0]["audio_prompt"].shape[-1] >= 200000
    assert (call["window_batch"], call["sample_size"]) == (2, 391 * 512)
    assert "window_overlap" not in call
