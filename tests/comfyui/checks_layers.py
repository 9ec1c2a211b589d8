"""Checks of the layers and the attention that networks get inside ComfyUI."""

from __future__ import annotations

from typing import Any

import comfy.ldm.modules.attention as core
import comfy.model_management as mm
import torch
from in_comfyui import load, pack, sample


def check_products_on_a_processor_are_quick_and_the_same() -> None:
    operations = pack("audiox_ext.networks.operations")
    layers = pack("nodes.comfy_host").float32_operations()
    layer = layers.Linear(768, 640, dtype=torch.float32)
    torch.nn.init.normal_(layer.weight)
    torch.nn.init.normal_(layer.bias)
    x = torch.randn(2, 40, 768)
    assert layer.through_onednn == operations.has_onednn()
    assert operations._is_worth_it(x, layer.weight.detach())
    expected = torch.nn.functional.linear(x, layer.weight, layer.bias)
    assert float((layer(x) - expected).norm() / expected.norm()) < 1e-5
    # A patch that is applied on the way, as partly loaded models have them.
    layer.weight_function = [lambda weight: 2 * weight]
    patched = torch.nn.functional.linear(x, 2 * layer.weight, layer.bias)
    assert float((layer(x) - patched).norm() / patched.norm()) < 1e-5


def check_attention_is_the_one_comfyui_is_set_to() -> None:
    """On a device that is no processor; a bias never goes there, because some kernels drop it."""
    calls: list[dict[str, Any]] = []

    def recording(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, heads: int, **more: Any) -> torch.Tensor:
        calls.append(more)
        return core.attention_pytorch(q, k, v, heads, **more)

    exact = sample(load("tiny-maf", "fp32"))
    chosen, on_processor = core.optimized_attention, mm.is_device_cpu
    try:
        core.optimized_attention, mm.is_device_cpu = recording, lambda device: False
        # Another answer to the licence makes another model than the one that is in use.
        handle = load("tiny-maf", "fp32", accept=True)
    finally:
        mm.is_device_cpu = on_processor
    try:
        assert torch.equal(sample(handle), exact)
    finally:
        core.optimized_attention = chosen
    assert calls
    assert all("mask" not in call for call in calls)
    biases = [layer.cross_attn.attend for layer in handle.model.network.transformer.blocks()]
    q = torch.randn(1, 2, 5, 8)
    bias = torch.tensor([[[[0.0, 2.0, 0.0, 0.0, -5.0]]]])
    plain = torch.nn.functional.scaled_dot_product_attention(q, q, q, attn_mask=bias)
    assert all(torch.equal(attend(q, q, q, bias), plain) for attend in biases)
