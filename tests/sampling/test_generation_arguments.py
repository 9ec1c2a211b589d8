"""Arguments of a generation: other forms, lengths, precomputed conditioning, and bad ones."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from golden_cases import tone

from audiox_ext.errors import InputError
from audiox_ext.pipeline.generate import generate_diffusion_cond


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"steps": 0}, "steps must be a whole number from 1 to 10000, got 0"),
        ({"steps": -3}, "steps must be a whole number from 1 to 10000, got -3"),
        ({"cfg_scale": math.nan}, r"cfg \(cfg_scale\) must be a number"),
        ({"batch_size": 0}, r"batch \(batch_size\) must be a whole number from 1 to"),
        ({"batch_size": 3, "conditioning": [{}, {}]}, "2 items for a batch of 3"),
        ({"conditioning": None}, "nothing to generate from"),
        ({"sample_rate": 44100}, "makes sound at 8000 Hz, not 44100"),
        ({"sample_size": 100}, "shorter than one latent of 512 samples"),
        ({"sampler_typ": "k-heun"}, "Unknown arguments: sampler_typ"),
        ({"rho": -1}, "rho must be a number above 0"),
        ({"scale_phi": math.nan}, r"guidance_rescale \(scale_phi\) must be from 0"),
        ({"sigma_max": "5"}, "sigma_max must be a number above 0"),
        ({"sample_size": 51200.0}, "sample_size must be a whole number"),
        ({"seed": 2**64}, "seed must be a whole number from 0"),
        ({"seed": -5}, "seed must be a whole number from 0"),
        ({"seed": 1.5}, "seed must be a whole number from 0"),
        ({"device": "gpu"}, "'gpu' is not a device"),
        ({"device": "xpu"}, "not supported"),
        ({"conditioning": ["rain"]}, "conditioning must be a dict or a list of dicts"),
        (
            {"conditioning": {"prompt": "rain"}},
            "Unknown conditioning keys: prompt. This model accepts video_prompt, text_prompt",
        ),
        ({"init_audio": tone(1, 8000, 440)}, r"init_audio must be \(sample rate, waveform\)"),
        ({"init_audio": (8000, tone(1, 8000, 440)), "init_noise_level": 0.1}, "init_noise_level is 0.1"),
        ({"init_audio": (8000, tone(1, 8000, 440)), "init_noise_level": "x"}, "init_noise_level must be"),
        ({"conditioning": {"text_prompt": 3}}, "text_prompt is of type int. It must be a string"),
        ({"conditioning": {"audio_prompt": torch.zeros(5, 10)}}, r"audio_prompt has shape \(5, 10\)"),
        (
            {"conditioning": {"audio_prompt": torch.full((2, 10), math.nan)}},
            "audio_prompt contains NaN",
        ),
        ({"conditioning": {"video_prompt": {"frames": 1}}}, "has no video_tensors"),
        (
            {"conditioning": {"video_prompt": {"video_tensors": torch.zeros(1, 5, 3, 8, 8)}}},
            "video_tensors has shape",
        ),
        ({"conditioning_tensors": {"text_prompt": torch.zeros(1, 3, 9)}}, "conditioning_tensors: "),
        ({"mask_args": {}}, "there is no init_audio"),
    ],
)
def test_bad_arguments_are_explained(arguments: dict[str, Any], message: str, golden_model: Any) -> None:
    settings = {"steps": 2, "conditioning": {"text_prompt": "rain"}, "device": "cpu", **arguments}
    with pytest.raises(InputError, match=message):
        generate_diffusion_cond(golden_model("base"), **settings)


def test_init_audio_in_the_other_order(golden_model: Any) -> None:
    wave = tone(6, 8000, 440)
    arguments = {"steps": 2, "conditioning": {}, "seed": 1, "device": "cpu", "init_noise_level": 3.0}
    first, second = (
        generate_diffusion_cond(golden_model("base"), init_audio=order, **arguments)
        for order in ((8000, wave), (wave, 8000))
    )
    assert torch.equal(first, second)


def test_an_mmdit_network_never_makes_less_than_its_own_length(golden_model: Any) -> None:
    with pytest.raises(InputError, match="makes at least 81920 samples"):
        generate_diffusion_cond(golden_model("mmdit"), conditioning={}, sample_size=40960, device="cpu")


def test_a_dit_network_makes_other_lengths(golden_model: Any) -> None:
    wave = generate_diffusion_cond(
        golden_model("base"), steps=2, conditioning={}, sample_size=40960, device="cpu"
    )
    assert wave.shape == (1, 2, 40960)


def test_precomputed_conditioning_gives_the_same(golden_model: Any) -> None:
    from audiox_ext.devices import DevicePlacement

    model = golden_model("base")
    prompt = [{"text_prompt": "rain"}]
    with torch.no_grad():
        tokens = model.encode_conditioning(prompt, DevicePlacement("cpu"), torch.Generator().manual_seed(0))
    masked = {name: (value, None) for name, value in tokens.items()}
    settings = {"steps": 3, "seed": 3, "device": "cpu", "return_latents": True, "sampler_type": "k-heun"}
    plain = generate_diffusion_cond(model, conditioning=prompt, **settings)
    assert torch.equal(generate_diffusion_cond(model, conditioning_tensors=tokens, **settings), plain)
    assert torch.equal(generate_diffusion_cond(model, conditioning_tensors=masked, **settings), plain)


def test_precomputed_conditioning_of_another_length_is_refused(golden_model: Any) -> None:
    names = ("video_prompt", "text_prompt", "audio_prompt")
    short, long = ({name: torch.zeros(1, count, 32) for name in names} for count in (5, 6))
    arguments = {"steps": 1, "device": "cpu", "return_latents": True}
    with pytest.raises(InputError, match="takes 384 tokens in all, got 15"):
        generate_diffusion_cond(golden_model("mmdit"), conditioning_tensors=short, **arguments)
    with pytest.raises(InputError, match="they must have the same number"):
        generate_diffusion_cond(
            golden_model("base"), conditioning_tensors=short, negative_conditioning_tensors=long, **arguments
        )


def test_a_dict_is_a_list_of_one_and_aliases_are_known(golden_model: Any) -> None:
    model = golden_model("maf")
    video, features = torch.full((1, 50, 3, 224, 224), 40.0), torch.randn(1, 240, 32)
    names = (
        {"video_tensors": video, "video_sync_frames": features},
        {"video": video, "sync_features": features},
    )
    settings = {"steps": 1, "seed": 3, "device": "cpu", "return_latents": True}
    first, second = (
        generate_diffusion_cond(model, conditioning={"video_prompt": n}, **settings) for n in names
    )
    third = generate_diffusion_cond(model, conditioning=[{"video_prompt": names[0]}], **settings)
    assert torch.equal(first, second)
    assert torch.equal(first, third)


def test_a_short_audio_prompt_ends_where_the_prompt_ends() -> None:
    from audiox_ext.conditioning.prompts import parse_audio_prompt

    padded = parse_audio_prompt(torch.ones(1, 4), channels=2, length=10)
    assert padded.tolist() == [[0.0] * 6 + [1.0] * 4] * 2
    assert parse_audio_prompt(torch.arange(12.0), 2, 10)[0].tolist() == list(range(10))
