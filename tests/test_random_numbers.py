"""One seed for a batch, or one per item: then each item depends only on its own seed."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from golden_cases import KINDS, assert_close_l2, relative_l2
from torch import Tensor

from audiox_ext.errors import InputError
from audiox_ext.pipeline.generate import generate_diffusion_cond
from audiox_ext.random_numbers import RandomNumbers
from audiox_ext.sampling.denoiser import BrownianNoise

SEEDS = [5, 6, 7]
STEPPED = ("dpmpp-3m-sde", "k-dpmpp-2s-ancestral", "k-heun", "dpmpp-3m", "unipc", "er-sde", "sa-solver")
SAMPLERS = [(kind, name) for kind in KINDS if kind != "turbo" for name in STEPPED]
# One generator's numbers in the order of a run: small shapes take another path through torch than large ones.
SHAPES = ((3, 4, 7), (3, 64, 40), (3, 1, 1))


def sound(seed: int) -> Tensor:
    """(2, 80000) at 8000 Hz: noise, so that no part of a spectrogram is rounding only."""
    return torch.rand(2, 80000, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def draw(random: RandomNumbers, batch: int) -> list[Tensor]:
    """What a run draws, kind by kind, (batch, ...) each."""
    drawn = [random.normal((batch, *shape[1:])) for shape in SHAPES]
    drawn.append(random.uniform(batch))
    drawn.append(torch.tensor([random.item(i).integers(99)[0] for i in range(batch)]))
    return [*drawn, random.normal((batch, 2, 33))]


def test_each_item_draws_as_if_it_were_alone() -> None:
    batch = draw(RandomNumbers.from_seeds(SEEDS), 3)
    for index, seed in enumerate(SEEDS):
        for together, alone in zip(batch, draw(RandomNumbers.from_seed(seed), 1), strict=True):
            assert torch.equal(together[index : index + 1], alone)


def test_one_seed_draws_for_the_whole_batch_from_one_generator() -> None:
    generator = torch.Generator().manual_seed(5)
    expected = [torch.randn(shape, generator=generator) for shape in SHAPES]
    expected.append(torch.rand(3, generator=generator))
    expected.append(torch.cat([torch.randint(0, 99, (1,), generator=generator) for _ in range(3)]))
    expected.append(torch.randn(3, 2, 33, generator=generator))
    for random in (RandomNumbers.from_seed(5), RandomNumbers.from_seeds([5])):
        assert random.sources == 1
        assert random.item(2) is random
        assert all(torch.equal(a, b) for a, b in zip(draw(random, 3), expected, strict=True))


def test_a_wrong_number_of_seeds_is_refused() -> None:
    random = RandomNumbers.from_seeds(SEEDS)
    for attempt in (lambda: random.normal((2, 4)), lambda: random.uniform(4)):
        with pytest.raises(InputError, match=r"3 seeds for a batch of [24]. Give one seed, or one per item"):
            attempt()


def test_each_item_has_its_own_brownian_path() -> None:
    x, sigmas = torch.zeros(3, 4, 9), torch.tensor([8.0, 2.0, 1.0, 0.0])
    together = BrownianNoise(x, sigmas, RandomNumbers.from_seeds(SEEDS))
    alone = [BrownianNoise(x[:1], sigmas, RandomNumbers.from_seed(seed)) for seed in SEEDS]
    for low, high in ((0, 1), (1, 2)):
        expected = torch.cat([noise(x[:1], sigmas[low], sigmas[high]) for noise in alone])
        assert torch.equal(together(x, sigmas[low], sigmas[high]), expected)


def assert_items_are_single_runs(model: Any, arguments: dict[str, Any], limit: float) -> None:
    # At fewer steps these guided random networks lift the last bit of the noise beyond the limit.
    settings = {"steps": 4, "device": "cpu", "return_latents": True, **arguments}
    batch = generate_diffusion_cond(model, batch_size=3, seeds=SEEDS, **settings)
    singles = [generate_diffusion_cond(model, seed=seed, **settings) for seed in SEEDS]
    assert relative_l2(singles[0], singles[1]) > 0.05, "seeds make no difference here"
    for index, single in enumerate(singles):
        assert_close_l2(batch[index : index + 1], single, limit)


EDITS: dict[str, dict[str, Any]] = {
    "plain": {},
    "variation": {"init_audio": (8000, sound(2)), "init_noise_level": 0.9},
    "inpainting": {
        "init_audio": (8000, sound(2)),
        "mask_args": {"maskstart": 30, "maskend": 80, "softnessL": 20},
    },
}
PROMPT = {"text_prompt": "rain", "audio_prompt": sound(1)}


@pytest.mark.parametrize(("kind", "name"), SAMPLERS)
def test_an_item_of_a_batch_is_the_single_run_with_its_seed(kind: str, name: str, golden_model: Any) -> None:
    arguments = {"conditioning": PROMPT, "negative_conditioning": {"text_prompt": "x"}, "sampler_type": name}
    assert_items_are_single_runs(golden_model(kind), arguments, 1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("edit", ["variation", "inpainting"])
@pytest.mark.parametrize("kind", ["base", "maf"])
def test_the_same_when_a_sound_is_edited(kind: str, edit: str, golden_model: Any) -> None:
    assert_items_are_single_runs(golden_model(kind), {"conditioning": PROMPT, **EDITS[edit]}, 1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("edit", list(EDITS))
@pytest.mark.parametrize("few", [True, False])
def test_the_same_with_rectified_flow(
    few: bool, edit: str, golden_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = golden_model("turbo")
    if not few:
        monkeypatch.setattr(model, "config", dataclasses.replace(model.config, few_step_count=None))
    assert_items_are_single_runs(model, {"conditioning": PROMPT, **EDITS[edit]}, 1e-5)


def test_the_same_with_an_autoencoder_that_works_item_by_item(
    golden_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = golden_model("turbo")
    autoencoder = model.conditioner.conditioners["audio_prompt"].pretransform
    other = not autoencoder.config.iterate_batch
    monkeypatch.setattr(autoencoder, "config", dataclasses.replace(autoencoder.config, iterate_batch=other))
    assert_items_are_single_runs(model, {"conditioning": PROMPT}, 1e-5)


def test_seeds_differ_from_one_seed_but_for_a_single_item(golden_model: Any) -> None:
    settings = {"steps": 2, "conditioning": PROMPT, "device": "cpu", "return_latents": True}

    def make(**more: Any) -> Tensor:
        return generate_diffusion_cond(golden_model("maf"), **settings, **more)

    assert torch.equal(make(seeds=[5]), make(seed=5))
    assert relative_l2(make(seed=5, batch_size=3)[1:], make(seeds=SEEDS, batch_size=3)[1:]) > 0.05


@pytest.mark.parametrize("kind", ["maf", "turbo", "base"])
def test_an_audio_prompt_can_be_used_whole(kind: str, golden_model: Any) -> None:
    from audiox_ext.conditioning.conditioners import log_mel
    from audiox_ext.devices import DevicePlacement

    model = golden_model(kind)
    conditioner = model.conditioner.conditioners["audio_prompt"]
    prompts, left = [[PROMPT, PROMPT]], []
    tokens = []
    for masks in (True, False):
        random = RandomNumbers.from_seed(3)
        with torch.no_grad():
            encoded = model.encode_windows(
                prompts, DevicePlacement("cpu"), random, audio_prompt_masking=masks
            )
        tokens.append(encoded[0])
        left.append(random.normal((4,)))
    assert torch.equal(*left), "the draws that follow have changed"
    assert torch.equal(tokens[0]["text_prompt"], tokens[1]["text_prompt"])
    masked, whole = (by_name["audio_prompt"] for by_name in tokens)
    assert torch.equal(masked, whole) == (kind == "base"), "base hides nothing, the others do"
    if kind == "maf":
        with torch.no_grad():
            mel = log_mel(sound(1).mean(dim=0)[None], conditioner.config)
            expected = conditioner.proj_features(mel.transpose(1, 2)).expand(2, -1, -1)
        assert_close_l2(whole, expected, 1e-6)
