"""Inpainting keeps what lies outside the mask; bad masks and some samplers are refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from gaussian_data import run
from golden_cases import assert_close_l2, relative_l2, tone
from torch import Tensor

from audiox_ext.config import SAMPLER_NAMES
from audiox_ext.errors import InputError
from audiox_ext.pipeline.generate import generate_diffusion_cond
from audiox_ext.random_numbers import RandomNumbers
from audiox_ext.sampling.inpainting import Inpainting
from audiox_ext.sampling.rectified_flow import sample_euler, sample_few_steps
from audiox_ext.sampling.samplers import CANNOT_INPAINT

MASK = torch.cat([torch.zeros(10), torch.ones(15), torch.zeros(15)])  # new sound from latent 10 to 25


@pytest.mark.parametrize("name", [n for n in SAMPLER_NAMES if n not in CANNOT_INPAINT])
def test_inpainting_keeps_what_lies_outside(name: str) -> None:
    init = torch.randn(2, 3, 40, generator=torch.Generator().manual_seed(9)) / 2
    result = run(name, 40, inpainting=Inpainting(init=init, mask=MASK))
    outside = MASK == 0
    assert relative_l2(result[..., outside], init[..., outside]) < 0.1
    assert relative_l2(result[..., ~outside], init[..., ~outside]) > 0.5


@pytest.mark.parametrize("few", [False, True])
def test_rectified_flow_inpainting_is_exact_outside(few: bool) -> None:
    noise = torch.randn(2, 3, 40, generator=torch.Generator().manual_seed(8))
    init = torch.randn(2, 3, 40, generator=torch.Generator().manual_seed(9))

    def velocity(x: Tensor, t: Tensor) -> Tensor:
        return x * 0.3

    inpainting = Inpainting(init=init, mask=MASK)
    if few:
        random = RandomNumbers.from_seed(1)
        result = sample_few_steps(velocity, noise, steps=4, random=random, inpainting=inpainting)
    else:
        result = sample_euler(velocity, noise, steps=4, inpainting=inpainting)
    outside = MASK == 0
    assert_close_l2(result[..., outside], init[..., outside], 1e-6)
    assert relative_l2(result[..., ~outside], init[..., ~outside]) > 0.5


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        ({"maskstart": 80, "maskend": 20}, "maskstart is 80 %, maskend 20 %"),
        ({"maskstart": -1}, r"maskstart must lie in \[0, 100\], got -1"),
        ({"marination": 2}, "marination must lie in"),
        ({"maskstart": 10, "maskend": 12, "softnessL": 50}, "longer than the masked"),
        ({"start": 3}, "Unknown mask_args: start"),
        ({"maskend": float("nan")}, "maskend must lie in"),
    ],
)
def test_invalid_masks_are_refused(mask: dict[str, float], message: str, golden_model: Any) -> None:
    with pytest.raises(InputError, match=message):
        generate_diffusion_cond(
            golden_model("base"),
            steps=2,
            conditioning={"text_prompt": "rain"},
            init_audio=(8000, tone(2, 8000, 440)),
            mask_args=mask,
            device="cpu",
        )


@pytest.mark.parametrize("name", CANNOT_INPAINT)
def test_some_samplers_cannot_inpaint(name: str, golden_model: Any) -> None:
    with pytest.raises(InputError, match="cannot keep parts of the sound"):
        generate_diffusion_cond(
            golden_model("base"),
            steps=2,
            conditioning={"text_prompt": "rain"},
            init_audio=(8000, tone(2, 8000, 440)),
            mask_args={"maskend": 50},
            sampler_type=name,
            device="cpu",
        )
