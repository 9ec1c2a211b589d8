"""Checks of the layers and the attention that networks get inside ComfyUI."""

from __future__ import annotations

import hashlib
import uuid
from pathlib import Path
from typing import Any

import comfy.ldm.modules.attention as core
import comfy.model_management as mm
import torch
from in_comfyui import BASE, load, message, pack, sample, unplaced


def check_products_on_a_processor_are_quick_and_the_same() -> None:
    operations = pack("audiox_ext.networks.operations")
    layers = pack("nodes.comfy.precision").pick_float32_layers()
    layer = layers.Linear(768, 640, dtype=torch.float32)
    torch.nn.init.normal_(layer.weight)
    torch.nn.init.normal_(layer.bias)
    x = torch.randn(2, 40, 768)
    assert layer.use_onednn == operations.has_onednn()
    assert operations._is_large_on_cpu(x, layer.weight.detach())
    expected = torch.nn.functional.linear(x, layer.weight, layer.bias)
    assert float((layer(x) - expected).norm() / expected.norm()) < 1e-5
    # A patch that is applied on the way, as partly loaded models have them.
    layer.weight_function = [lambda weight: 2 * weight]
    patched = torch.nn.functional.linear(x, 2 * layer.weight, layer.bias)
    assert float((layer(x) - patched).norm() / patched.norm()) < 1e-5


def check_attention_is_the_one_comfyui_is_set_to() -> None:
    """On any device except the CPU, and only without a bias, because some kernels ignore it."""
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


def check_patches_come_and_go_and_mapped_weights_stay() -> None:
    """A LoRA on memory-mapped weights: loaded whole, loaded partially, and removed."""
    file = BASE / "models" / "audiox" / "tiny-maf" / "model.safetensors"
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    handle = load("tiny-maf", "fp32")
    exact = sample(handle)
    patcher = handle.placement._patchers["network"]
    weights = dict(patcher.model.named_parameters())
    key = "model.transformer.layers.0.ff.ff.2.weight"
    places = {name: weight.data_ptr() for name, weight in weights.items()}
    assert is_mapped(places[key], file)
    generator = torch.Generator().manual_seed(1)
    diff = torch.randn(weights[key].shape, generator=generator)
    before = weights[key].clone()
    assert patcher.add_patches({key: ("diff", (diff,))}, 0.5) == [key]
    patched = sample(handle)
    assert not torch.allclose(patched, exact)
    in_use = dict(patcher.model.named_parameters())[key]
    assert torch.equal(in_use, before + 0.5 * diff)
    assert in_use.data_ptr() != places[key]
    mm.unload_all_models()
    assert torch.equal(sample(handle), patched)
    # Now with room for a third of the weights: the rest is patched when it is used.
    patcher.detach()
    patcher.partially_load(patcher.load_device, patcher.model_size() // 3)
    assert patcher.model.model_lowvram
    with unplaced():
        torch.testing.assert_close(sample(handle), patched)
    patcher.partially_unload(patcher.offload_device, patcher.model_size())
    with unplaced():
        torch.testing.assert_close(sample(handle), patched)
    patcher.patches.clear()
    patcher.patches_uuid = uuid.uuid4()
    assert torch.equal(sample(handle), exact)
    patcher.detach()
    assert {name: weight.data_ptr() for name, weight in patcher.model.named_parameters()} == places
    assert hashlib.sha256(file.read_bytes()).hexdigest() == digest


def check_fp8_halves_the_weights_and_nothing_else() -> None:
    for name in ("tiny-maf", "tiny-base", "tiny-mmdit", "tiny-turbo"):
        exact, half, handle = sample(load(name, "fp32")), load(name, "bf16"), load(name, "fp8")
        network = handle.model.network
        inside = {id(p) for block in network.transformer.blocks() for p in block.parameters() if p.dim() > 1}
        for key, weight in network.named_parameters():
            stored_dtype = torch.float8_e4m3fn if id(weight) in inside else torch.bfloat16
            assert weight.dtype == (torch.float32 if "timestep_features" in key else stored_dtype), key
        assert {p.dtype for p in handle.model.pretransform.parameters()} == {torch.float32}
        patcher = handle.placement._patchers["network"]
        saved = half.placement._patchers["network"].model_size() - patcher.model_size()
        assert saved == sum(p.numel() for p in network.parameters() if id(p) in inside), "a byte each"
        for layer in network.modules():
            if any(id(p) in inside for p in layer.parameters(recurse=False)):
                assert layer.comfy_cast_weights
        waveform = sample(handle)
        error = float((waveform - exact).norm() / exact.norm())
        assert 0 < error < 0.5, f"{name}: {error}"
        patcher.detach()
        patcher.partially_load(patcher.load_device, patcher.model_size() // 3)
        with unplaced():
            torch.testing.assert_close(sample(handle), waveform)
        patcher.detach()


def check_patches_on_fp8_weights_come_and_go() -> None:
    handle = load("tiny-maf", "fp8")
    before = sample(handle)
    patcher = handle.placement._patchers["network"]
    key = "model.transformer.layers.0.ff.ff.2.weight"
    shape = dict(patcher.model.named_parameters())[key].shape
    diff = 0.2 * torch.randn(shape, generator=torch.Generator().manual_seed(1))
    assert patcher.add_patches({key: ("diff", (diff,))}) == [key]
    patched = sample(handle)
    assert patched.isfinite().all()
    assert not torch.allclose(patched, before)
    assert dict(patcher.model.named_parameters())[key].dtype == torch.float8_e4m3fn
    patcher.patches.clear()
    patcher.patches_uuid = uuid.uuid4()
    assert torch.equal(sample(handle), before)


def check_fp8_is_refused_where_it_cannot_be() -> None:
    precision, castable = pack("nodes.comfy.precision"), mm.supports_cast
    try:
        mm.supports_cast = lambda device, dtype: dtype != torch.float8_e4m3fn
        assert "Choose auto, bf16 or fp16" in message(lambda: precision.choose_precision("fp8"))
    finally:
        mm.supports_cast = castable
    assert precision.choose_precision("auto").blocks is None


def is_mapped(address: int, file: Path) -> bool:
    """Whether an address lies in a memory mapping of the file; True where the system does not say."""
    try:
        lines = Path("/proc/self/maps").read_text(encoding="utf-8").splitlines()
    except OSError:
        return True
    spans = (line.split()[0].split("-") for line in lines if line.endswith(str(file)))
    return any(int(first, 16) <= address < int(last, 16) for first, last in spans)
