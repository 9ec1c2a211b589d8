"""Less work, the same result: every saving against the published algorithm (`benchmarks.plain`)."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from golden_cases import KINDS, assert_close_l2, relative_l2, sync, tone
from torch import Tensor, nn

from audiox_ext.devices import DevicePlacement
from audiox_ext.networks import operations
from audiox_ext.networks.autoencoder import oobleck
from audiox_ext.networks.autoencoder.oobleck import OobleckDecoder
from audiox_ext.networks.operations import (
    Linear,
    PlainOperations,
    accelerate_module,
    accelerate_operations,
    get_attention,
)
from audiox_ext.networks.token_merging import merge_equal_tokens
from audiox_ext.pipeline.generate import generate_diffusion_cond
from audiox_ext.random_numbers import RandomNumbers
from audiox_ext.sampling.guidance import Guidance, GuidedVelocity
from benchmarks.plain import plain_conditioning, plain_decode, plain_model, plain_velocity, unmerged

CPU = DevicePlacement("cpu")
DIT = ("base", "maf")


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def context_of(model: Any, *prompts: dict[str, Any]) -> Tensor:
    tokens = model.encode_conditioning(list(prompts), CPU, RandomNumbers.from_seed(3))
    return model.assemble_context(tokens, CPU)


def noised(model: Any, batch: int) -> tuple[Tensor, Tensor]:
    latents = model.config.latent_count
    return draw(batch, model.config.network.io_channels, latents, seed=9), torch.full((batch,), 0.7)


# The network


@pytest.mark.parametrize("prompts", ["text", "all"])
@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_a_guided_step_equals_the_published_algorithm(kind: str, prompts: str, golden_model: Any) -> None:
    model = golden_model(kind)
    prompt: dict[str, Any] = {"text_prompt": "rain on a tin roof"}
    if prompts == "all":
        pixels = draw(1, 50, 3, 224, 224).clamp(-1, 1).add(1).mul(127)
        prompt["video_prompt"] = {"video_tensors": pixels, "video_sync_frames": sync(1)}
        prompt["audio_prompt"] = tone(10, model.sample_rate, 440)
    context, (x, t) = context_of(model, prompt), noised(model, 1)
    conditional, guided = (
        GuidedVelocity(model.network, context, guidance=Guidance(scale=scale))(x, t) for scale in (1.0, 7.0)
    )
    # Compare the predictions separately: guidance multiplies the rounding differences of processors.
    for cfg, prediction in ((1.0, conditional), (0.0, (7.0 * conditional - guided) / 6.0)):
        assert_close_l2(prediction, plain_velocity(plain_model(model).network, x, t, context, cfg), 1e-5)


@pytest.mark.parametrize("kind", DIT)
@torch.no_grad()
def test_the_zero_context_costs_nothing_and_changes_nothing(kind: str, golden_model: Any) -> None:
    network = golden_model(kind).network
    (x, t), context = noised(golden_model(kind), 4), draw(2, 30, network.config.cond_token_dim)
    skipped = network(x, t, network.prepare_context(context, zero_items=2))
    assert_close_l2(skipped, network(x, t, unmerged(network, context, zero_items=2)), 1e-5)


@pytest.mark.parametrize("kind", DIT)
@torch.no_grad()
def test_merged_tokens_are_attended_to_as_before(kind: str, golden_model: Any) -> None:
    """Two items whose runs of equal tokens differ in place and number, one with hardly any."""
    network = golden_model(kind).network
    context = draw(2, 40, network.config.cond_token_dim)
    context[0, 5:30] = context[0, 5]
    context[0, 31:] = 0
    context[0, 35:] = -0.0
    context[1, 10:12] = context[1, 10]
    x, t = noised(golden_model(kind), 2)
    prepared = network.prepare_context(context)
    assert prepared.keys_values[0][0].shape[2] == 39
    assert_close_l2(network(x, t, prepared), network(x, t, unmerged(network, context)), 1e-5)


@torch.no_grad()
def test_a_text_leaves_few_tokens_of_a_context(golden_model: Any) -> None:
    model = golden_model("maf")
    context = context_of(model, {"text_prompt": "rain"})
    merged, bias = merge_equal_tokens(context)
    text = model.config.conditioners["text_prompt"].max_length
    assert context.shape[1] - merged.shape[1] > text // 2 + 100
    assert bias is not None
    assert bias.exp().sum() == pytest.approx(context.shape[1], rel=1e-5)


def test_a_context_without_equal_neighbours_is_left_alone() -> None:
    context = torch.eye(6)[None, [0, 1, 0, 2, 3, 4]]
    merged, bias = merge_equal_tokens(context)
    assert merged is context
    assert bias is None


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("count", [2, 3, 100, 1723, 16000])
def test_weights_of_long_runs_are_right_in_half_precision(count: int, dtype: torch.dtype) -> None:
    context = torch.cat([torch.ones(1, 1, 4), torch.full((1, count + 20, 4), 2.0)], dim=1)
    merged, bias = merge_equal_tokens(context, dtype)
    assert bias is not None
    assert bias.dtype == dtype
    assert merged.shape[1] <= 5
    weights = bias[0].double().exp()
    assert float(weights[0]) == 1.0
    assert float(weights[1:].sum()) == pytest.approx(count + 20, rel=2e-4)


# Layers


@torch.no_grad()
def test_a_quick_linear_layer_agrees_with_torch() -> None:
    if not operations.has_onednn():
        pytest.skip("no oneDNN here")
    plain = nn.Linear(768, 640)
    layer = accelerate_module(nn.Sequential(plain))[0]
    assert type(layer) is Linear
    for x in (draw(2, 50, 768), draw(50, 2, 768).transpose(0, 1), draw(50, 1536)[:, ::2]):
        assert operations._is_large_on_cpu(x, layer.weight)
        expected = (x.double() @ plain.weight.double().T + plain.bias.double()).float()
        assert_close_l2(layer(x), expected, 1e-6)


def test_a_quick_linear_layer_can_be_trained() -> None:
    layer = Linear(768, 640)
    x = draw(20, 768)
    layer(x).square().sum().backward()
    expected = 2 * (x @ layer.weight.T + layer.bias).detach().T @ x
    assert_close_l2(layer.weight.grad, expected, 1e-5)


def test_a_quick_linear_layer_has_all_its_derivatives() -> None:
    layer = Linear(768, 640).requires_grad_(False)
    x, along = draw(20, 768), draw(20, 768)
    layer.bias.requires_grad_(True)  # and nothing else
    layer(x).sum().backward()
    assert torch.equal(layer.bias.grad, torch.full((640,), 20.0))
    layer.requires_grad_(False)
    _, tangent = torch.func.jvp(layer, (x,), (along,))
    assert_close_l2(tangent, along @ layer.weight.T, 1e-5)


@torch.no_grad()
def test_a_quick_linear_layer_follows_autocast() -> None:
    layer = Linear(768, 640)
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(draw(20, 768)).dtype == torch.bfloat16


def test_weights_that_are_cast_or_patched_first_use_the_hosts_layer() -> None:
    class Host:
        class Linear(nn.Linear):
            comfy_cast_weights = False
            weight_function: list[Any] = []  # noqa: RUF012 - as ComfyUI has it

            def forward(self, x: Tensor) -> Tensor:
                return torch.zeros(())

    layer = accelerate_operations(Host).Linear(768, 640).requires_grad_(False)
    x = draw(20, 768)
    assert layer(x).dim() == (2 if operations.has_onednn() else 0)
    layer.comfy_cast_weights = True
    assert layer(x).dim() == 0
    layer.comfy_cast_weights, layer.weight_function = False, [object()]
    assert layer(x).dim() == 0


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_networks_attend_with_the_hosts_attention(kind: str, golden_model: Any) -> None:
    """A bias, if there is one, is passed on."""
    from audiox_ext.model import build_network

    config, called = golden_model(kind).config, []

    def attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> Tensor:
        called.append(None if bias is None else bias.shape)
        return operations.torch_attention(q, k, v, bias)

    network = build_network(config, accelerate_operations(PlainOperations, attend), None, None, None)
    network.load_state_dict(golden_model(kind).network.state_dict())
    network.eval().requires_grad_(False)
    context = draw(1, 384 if kind in ("mmdit", "turbo") else 40, config.network.cond_token_dim)
    context[:, 10:30] = 1.0
    x, t = noised(golden_model(kind), 1)
    result = network(x, t, network.prepare_context(context))
    assert torch.equal(result, golden_model(kind).network(x, t, network.prepare_context(context)))
    depth = config.network.depth
    biased = [shape for shape in called if shape is not None]
    assert len(called) == depth * (2 if kind in DIT else 1)
    assert biased == ([(1, 1, 1, 21)] * depth if kind in DIT else [])


def test_torchs_layers_attend_with_torch() -> None:
    assert get_attention(nn) is get_attention(PlainOperations) is operations.torch_attention


# Conditioning


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_conditioning_equals_the_published_algorithm(kind: str, golden_model: Any) -> None:
    model = golden_model(kind)
    prompts: list[dict[str, Any]] = [{"text_prompt": "a"}, {"text_prompt": "a longer text, of which more"}]
    tokens = model.encode_conditioning(prompts, CPU, RandomNumbers.from_seed(3))
    plain = plain_conditioning(plain_model(model), prompts, CPU, RandomNumbers.from_seed(3))
    assert_close_l2(model.assemble_context(tokens, CPU), plain, 1e-5)


@torch.no_grad()
def test_text_is_encoded_only_to_its_end(golden_model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    conditioner = golden_model("maf").conditioner.conditioners["text_prompt"]
    lengths: list[int] = []
    forward = conditioner.text_encoder.model.forward

    def counting(*, input_ids: Tensor) -> Any:
        lengths.append(input_ids.shape[1])
        return forward(input_ids=input_ids)

    monkeypatch.setattr(conditioner.text_encoder.model, "forward", counting)
    tokens = conditioner(["rain"], torch.device("cpu"), RandomNumbers())
    assert tokens.shape[1] == conditioner.config.max_length
    assert lengths[0] < conditioner.config.max_length / 2
    assert not tokens[:, lengths[0] :].any()


# Decoding


@pytest.mark.slow
@pytest.mark.parametrize("tile", [1, 40, 1000])
@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_a_decode_in_tiles_equals_the_published_algorithm(
    kind: str, tile: int, golden_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = golden_model(kind)
    monkeypatch.setattr(oobleck, "_TILE", tile * 8)
    latents = draw(2, model.config.autoencoder.latent_dim, 6)
    assert_close_l2(model.pretransform.decode(latents), plain_decode(plain_model(model), latents), 1e-5)


@pytest.mark.parametrize("strides", [(2,), (3, 5), (2, 4, 8)])
@torch.no_grad()
def test_tiles_of_any_stride_meet(strides: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    from audiox_ext.config import OobleckDecoderConfig

    torch.manual_seed(0)
    sizes = {"channels": 3, "c_mults": (1,) * len(strides), "strides": strides, "latent_dim": 2}
    decoder = OobleckDecoder(OobleckDecoderConfig(out_channels=2, final_tanh=True, **sizes))
    for parameter in decoder.parameters():
        parameter.data.uniform_(-0.5, 0.5)
    decoder.double().requires_grad_(False)
    latents = draw(1, 2, 200).double()
    whole = decoder.layers(latents)
    for tile in (1, 7, 64):
        monkeypatch.setattr(oobleck, "_TILE", tile * 3 * max(strides))
        assert relative_l2(decoder(latents), whole) < 1e-12
    assert math.isfinite(float(whole.sum()))


# The whole


@pytest.mark.parametrize("kind", KINDS)
def test_one_seed_is_one_sound(kind: str, golden_model: Any) -> None:
    """Bit for bit, whether prompts were encoded before or not, and whatever ran in between."""
    model = golden_model(kind)
    arguments: dict[str, Any] = {
        "conditioning": {"text_prompt": "rain", "audio_prompt": tone(10, model.sample_rate, 220)},
        "steps": 3,
        "seed": 6,
        "device": "cpu",
    }
    model.prompt_cache.clear()
    first = generate_diffusion_cond(model, **arguments)
    again = generate_diffusion_cond(model, **arguments)
    other = generate_diffusion_cond(
        model, **{**arguments, "seed": 7, "conditioning": {"text_prompt": "wind"}}
    )
    assert torch.equal(first, again)
    assert relative_l2(other, first) > 1e-3
    model.prompt_cache.clear()
    assert torch.equal(generate_diffusion_cond(model, **arguments), first)
