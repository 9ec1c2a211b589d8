"""torch.compile gives the same result and does not recompile."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import torch
from golden_cases import assert_close_l2, golden_path
from random_loras import random_lora

from audiox_ext.checkpoints.lora import set_loras
from audiox_ext.checkpoints.pretrained import get_pretrained_model
from audiox_ext.model import compile_network, compiler_problem
from audiox_ext.pipeline.generate import generate_diffusion_cond
from audiox_ext.sampling.guidance import Guidance, GuidedVelocity


def need_a_compiler() -> None:
    why = compiler_problem(torch.device("cpu"))
    if why:
        pytest.skip(f"NO COMPILER for torch.compile here {why}")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["maf", "turbo"])
@torch.no_grad()
def test_other_lengths_and_batches_are_not_recompiled(kind: str, golden_model: Any) -> None:
    need_a_compiler()
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    counters = torch._dynamo.utils.counters["stats"]
    plain = golden_model(kind)
    compiled, _ = get_pretrained_model(golden_path(kind), accept_cc_by_nc=True, compile=True)
    native, tokens = plain.config.latent_count, 384 if kind == "turbo" else 40

    def compare(batch: int, length: int, tokens: int, equal: bool) -> None:
        generator = torch.Generator().manual_seed(batch)
        context = torch.randn(batch, tokens, plain.config.cond_dim, generator=generator)
        if equal:
            context[:, 3:20] = context[:, 3:4]
        x = torch.randn(batch, plain.config.autoencoder.latent_dim, length, generator=generator)
        t = torch.full((batch,), 0.4)
        result = GuidedVelocity(compiled.network, context, guidance=Guidance(scale=4.0))(x, t)
        assert_close_l2(
            result, GuidedVelocity(plain.network, context, guidance=Guidance(scale=4.0))(x, t), 1e-5
        )

    for batch in (1, 2):
        for equal in (False, True):
            compare(batch, native, tokens, equal)
    before = counters["unique_graphs"]
    assert 1 <= before <= 6
    for batch, shorter, fewer, equal in (
        (3, 7, 5, True),
        (2, 20, 11, False),
        (4, 31, 2, True),
        (1, 9, 1, True),
    ):
        if kind == "turbo":  # which takes only its own length and number of tokens
            shorter, fewer = 0, 0
        compare(batch, native - shorter, tokens - fewer, equal)
    assert counters["unique_graphs"] == before


@pytest.mark.slow
def test_a_compiled_network_uses_the_merged_loras() -> None:
    need_a_compiler()
    model, plain = (get_pretrained_model(golden_path("maf"), accept_cc_by_nc=True)[0] for _ in range(2))
    lora = random_lora(model)
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    counters = torch._dynamo.utils.counters["stats"]
    assert compile_network(model, "cpu")
    settings: dict[str, Any] = {"steps": 2, "conditioning": {"text_prompt": "rain"}, "seed": 1}
    for loras in ([], [(lora, 1.0)], []):
        latents = []
        for either in (model, plain):
            set_loras(either, loras)
            latents.append(generate_diffusion_cond(either, device="cpu", return_latents=True, **settings))
        assert_close_l2(*latents, 1e-4)
    assert 1 <= counters["unique_graphs"] <= 3, "compiled again for other weights"


def test_without_a_compiler_the_network_is_left_as_it_was(
    golden_model: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*arguments: Any, **settings: Any) -> Any:
        raise RuntimeError("no C++ compiler\nand a long explanation")

    monkeypatch.setattr(torch, "compile", broken)
    model = golden_model("maf")
    with caplog.at_level(logging.WARNING):
        assert not compile_network(model, "cpu")
    assert "(RuntimeError: no C++ compiler)" in caplog.text
    assert all(block._compiled_call_impl is None for block in model.network.transformer.blocks())
