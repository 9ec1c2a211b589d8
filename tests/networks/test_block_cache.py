"""Passes that skip most blocks of the network."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from golden_cases import relative_l2
from torch import Tensor

from audiox_ext.errors import InputError
from audiox_ext.networks.block_cache import BlockCache
from audiox_ext.pipeline.generate import generate_diffusion_cond

WANTED: dict[str, Any] = {
    "steps": 30,
    "cfg_scale": 3.0,
    "conditioning": {"text_prompt": "rain"},
    "seed": 3,
    "device": "cpu",
    "return_latents": True,
}


def make(model: Any, **more: Any) -> Tensor:
    return generate_diffusion_cond(model, **WANTED | more)


class Blocks:
    """Three blocks that count their calls: the first adds the tokens' half, the others 1 and 2."""

    def __init__(self) -> None:
        self.calls = [0, 0, 0]
        self.all = [self._block(0), self._block(1), self._block(2)]

    def _block(self, index: int) -> Any:
        def block(tokens: Tensor) -> Tensor:
            self.calls[index] += 1
            return tokens + (tokens / 2 if index == 0 else index)

        return block


def test_small_changes_reuse_the_blocks_and_larger_ones_do_not() -> None:
    reuse, blocks, tokens = BlockCache(0.1), Blocks(), torch.ones(2, 3, 4)
    for factor in (1.0, 1.05, 1.09, 1.2, 1.25):
        # The blocks after the first always add 3, so reuse is exact here.
        torch.testing.assert_close(reuse.run(blocks.all, tokens * factor), tokens * factor * 1.5 + 3)
    # 1.09 is compared with the last full pass, 1, not with the pass before it; so is 1.25 with 1.2.
    assert blocks.calls == [5, 2, 2]
    assert (reuse.passes, reuse.reused) == (5, 3)


def test_the_item_that_changes_most_decides_for_all() -> None:
    reuse, blocks = BlockCache(0.1), Blocks()
    tokens = torch.ones(2, 3, 4)
    reuse.run(blocks.all, tokens)
    changed = tokens.clone()
    changed[1] *= 1.15
    reuse.run(blocks.all, changed)
    assert reuse.reused == 0


def test_batches_of_different_sizes_are_independent() -> None:
    reuse, blocks, tokens = BlockCache(0.1), Blocks(), torch.ones(2, 3, 4)
    for size in (2, 1, 2, 1):
        reuse.run(blocks.all, tokens[:size])
    assert (reuse.passes, reuse.reused) == (4, 2)


def test_nan_is_never_reused() -> None:
    reuse, blocks = BlockCache(1.0), Blocks()
    for value in (1.0, float("nan"), 1.0):
        reuse.run(blocks.all, torch.full((1, 2, 2), value))
    assert reuse.reused == 0


@pytest.mark.parametrize("kind", ["maf", "mmdit", "turbo"])
def test_off_and_a_threshold_that_nothing_meets_are_the_same_bit_for_bit(
    kind: str, golden_model: Any
) -> None:
    plain = make(golden_model(kind), steps=5)
    assert torch.equal(make(golden_model(kind), steps=5, reuse_threshold=0.0), plain)
    assert torch.equal(make(golden_model(kind), steps=5, reuse_threshold=1e-12), plain)


def block_calls(model: Any, monkeypatch: pytest.MonkeyPatch, index: int) -> list[int]:
    """The batch sizes of all calls of a block."""
    sizes: list[int] = []
    layer = model.network.transformer.blocks()[index]
    forward = layer.forward

    def spy(x: Tensor, *rest: Any, **more: Any) -> Tensor:
        sizes.append(len(x))
        return forward(x, *rest, **more)

    monkeypatch.setattr(layer, "forward", spy)
    return sizes


@pytest.mark.slow
@pytest.mark.parametrize("sampler", ["dpmpp-2m", "k-heun", "dpmpp-3m-sde"])
@pytest.mark.parametrize("kind", ["maf", "mmdit"])
def test_the_higher_the_threshold_the_less_is_computed(
    kind: str, sampler: str, golden_model: Any, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    model = golden_model(kind)
    plain = make(model, sampler_type=sampler)
    first, last = block_calls(model, monkeypatch, 0), block_calls(model, monkeypatch, -1)
    shares, errors = [], []
    for threshold in (0.02, 0.2, 0.8):
        first.clear()
        last.clear()
        with caplog.at_level("INFO"):
            errors.append(relative_l2(make(model, sampler_type=sampler, reuse_threshold=threshold), plain))
        assert set(first) == set(last) == {2}, "both halves of a pair"
        assert f"{len(first) - len(last)} of {len(first)} passes" in caplog.text
        shares.append(len(last) / len(first))
    assert shares == sorted(shares, reverse=True)
    assert shares[-1] < 0.8
    assert shares[-1] < shares[0]
    assert errors[0] < errors[-1]
    assert errors[-1] > 0


def test_runs_are_independent(golden_model: Any) -> None:
    model = golden_model("maf")
    alone = make(model, reuse_threshold=0.2)
    make(model, reuse_threshold=0.2, seed=8)
    assert torch.equal(make(model, reuse_threshold=0.2), alone)


def test_each_group_of_windows_has_its_own(golden_model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also with a shared context: the windows of a step run one after the other."""
    model = golden_model("base")
    first, last = block_calls(model, monkeypatch, 0), block_calls(model, monkeypatch, -1)
    more: dict[str, Any] = {"sample_size": 400 * 512, "window_batch": 1, "sampler_type": "dpmpp-2m"}
    latents = make(model, reuse_threshold=1.0, **more)
    windows = len(first) // WANTED["steps"]
    assert windows > 1
    # With a threshold of 1 nearly every pass except each window's first is reused.
    assert windows <= len(last) < len(first) / 2
    once = make(model, reuse_threshold=1e-12, **more)
    assert torch.equal(once, make(model, **more))
    assert bool(torch.isfinite(latents).all())


@pytest.mark.parametrize("threshold", [-0.1, 1.5, float("nan"), "much"])
def test_invalid_thresholds_are_refused(threshold: Any, golden_model: Any) -> None:
    with pytest.raises(InputError, match="reuse_threshold must be from 0"):
        make(golden_model("maf"), reuse_threshold=threshold)
