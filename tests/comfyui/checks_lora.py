"""Checks of the AudioX LoRA Loader: its effect on sound and weights, and its complete removal."""

from __future__ import annotations

import gc
import os
import weakref
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import comfy.lora
import comfy.model_management as mm
import comfy.utils
import folder_paths
import torch
from in_comfyui import BASE, EXTRACTOR, load, message, pack, run, sample, unplaced, video

import nodes as comfy_nodes

LORAS = BASE / "models" / "loras"
RAIN, FILTERS = "rain.safetensors", "filters.safetensors"
WIND = str(Path("more", "wind.safetensors"))


def with_lora(model: Any, name: str, strength: float = 1.0) -> Any:
    """Add a LoRA with the LoRA node."""
    return run("AudioXLoadLora", model=model, lora_name=name, strength=strength)[0]


def weights(handle: Any) -> dict[str, torch.Tensor]:
    """The network's weights in use."""
    return {name: w.detach().clone() for name, w in handle.model.network.named_parameters()}


def places(handle: Any) -> dict[str, int]:
    """The addresses of the weights in memory."""
    return {name: w.data_ptr() for name, w in handle.model.network.named_parameters()}


def added(plain: dict[str, torch.Tensor], *used: tuple[str, float]) -> dict[str, torch.Tensor]:
    """W + the sum of strength * alpha / rank * B A, in float64."""
    weights = {name: w.double() for name, w in plain.items()}
    for name, strength in used:
        for key, layer in pack("audiox_ext.checkpoints.lora_file").read_lora(LORAS / name).layers.items():
            up, down = layer.up.double().flatten(1), layer.down.double()
            product = torch.tensordot(up, down, dims=1)
            weights[f"{key}.weight"] += strength * layer.alpha / down.shape[0] * product
    return weights


def distance(a: torch.Tensor, b: torch.Tensor) -> float:
    """Relative L2 distance."""
    return float((a.double() - b.double()).norm() / b.double().norm())


def check_a_lora_is_what_the_formula_says_and_the_model_stays() -> None:
    for model, name in (("tiny-maf", RAIN), ("tiny-mmdit", FILTERS), ("tiny-turbo", FILTERS)):
        plain = load(model, "fp32")
        exact, before, where = sample(plain), weights(plain), places(plain)
        variant = with_lora(plain, name, 0.7)
        assert variant is not plain
        assert torch.equal(sample(plain), exact), "nothing happens before it is used"
        changed = sample(variant)
        assert distance(changed, exact) > 1e-3
        for key, expected in added(before, (name, 0.7)).items():
            assert distance(weights(variant)[key], expected) < 1e-6, key
        # In turn, as in a graph that has both.
        assert torch.equal(sample(plain), exact)
        assert places(plain) == where
        assert torch.equal(sample(variant), changed)
        mm.unload_all_models()
        assert places(plain) == where
        assert torch.equal(sample(variant), changed)
        assert torch.equal(sample(plain), exact)


def check_every_method_gives_what_comfyui_makes_of_the_file() -> None:
    files = sorted((LORAS / "methods").glob("*.safetensors"))
    assert len(files) > 40
    plain = load("tiny-mmdit", "fp32", accept=True)
    sample(plain)
    before = weights(plain)
    network = SimpleNamespace(
        state_dict=lambda: {f"diffusion_model.{key}": weight for key, weight in before.items()},
        model_config=SimpleNamespace(unet_config={}),
    )
    names = comfy.lora.model_lora_keys_unet(network, {})
    for file in files:
        tensors, metadata = comfy.utils.load_torch_file(str(file), return_metadata=True)
        strength = float(metadata["strength"])
        ((key, patch),) = comfy.lora.load_lora(tensors, names).items()
        key = key.removeprefix("diffusion_model.")
        expected = comfy.lora.calculate_weight([(strength, patch, 1.0, None, None)], before[key].clone(), key)
        assert distance(expected, before[key]) > 1e-4, file.name
        patcher = with_lora(plain, f"methods/{file.name}", strength).placement._patchers["network"]
        ((patched, patches),) = patcher.patches.items()
        assert patched == f"model.{key}", file.name
        weight = comfy.lora.calculate_weight(patches, before[key].clone(), key)
        assert distance(weight, expected) < 1e-6, file.name


def check_methods_of_other_programs_are_applied_and_removed() -> None:
    plain = load("tiny-mmdit", "fp32", accept=True)
    exact, before = sample(plain), weights(plain)
    used = [("OFT", 0.8), ("DoRA of inputs, LoRA", -0.5), ("LoHa", 1.5), ("set_weight", 0.5)]
    chosen = [(f"methods/lora_unet_{name}.safetensors", strength) for name, strength in used]
    variant = plain
    for name, strength in chosen:
        variant = with_lora(variant, name, strength)
    changed = sample(variant)
    assert distance(changed, exact) > 1e-3
    direct, _ = pack("audiox_ext.checkpoints.pretrained").get_pretrained_model(plain.folder)
    loras = [(LORAS / name, strength) for name, strength in chosen]
    pack("audiox_ext.checkpoints.lora").set_loras(direct, loras, accept_cc_by_nc=True)
    for key, weight in direct.network.named_parameters():
        assert distance(weights(variant)[key], weight.detach()) < 1e-6, key
    patcher = variant.placement._patchers["network"]
    patcher.detach()
    patcher.partially_load(patcher.load_device, patcher.model_size() // 3)
    with unplaced():
        assert distance(sample(variant), changed) < 1e-5
    assert torch.equal(sample(plain), exact)
    assert all(torch.equal(weight, before[key]) for key, weight in weights(plain).items())


def check_loras_are_chained_and_strength_0_is_the_model() -> None:
    plain = load("tiny-maf", "fp32")
    exact, before = sample(plain), weights(plain)
    assert with_lora(plain, RAIN, 0.0) is plain
    one = with_lora(plain, RAIN, 0.5)
    both = with_lora(with_lora(one, WIND, -1.5), RAIN, 0.25)
    sounds = [sample(handle) for handle in (both, one, both, plain)]
    assert torch.equal(sounds[0], sounds[2])
    assert torch.equal(sounds[3], exact)
    assert distance(sounds[0], sounds[1]) > 1e-3
    sample(both)
    for key, expected in added(before, (RAIN, 0.75), (WIND, -1.5)).items():
        assert distance(weights(both)[key], expected) < 1e-6, key
    # The engine's own way to the same weights.
    direct, _ = pack("audiox_ext.checkpoints.pretrained").get_pretrained_model(plain.folder)
    pack("audiox_ext.checkpoints.lora").set_loras(direct, [(LORAS / RAIN, 0.75), (LORAS / WIND, -1.5)])
    for key, weight in direct.network.named_parameters():
        assert distance(weights(both)[key], weight.detach()) < 1e-6, key


def check_a_partly_loaded_model_sounds_the_same_with_a_lora() -> None:
    # In bf16 what is patched when it is used has been rounded before, too.
    for precision, limit in (("fp32", 1e-5), ("bf16", 0.03)):
        plain = load("tiny-maf", precision)
        exact = sample(plain)
        variant = with_lora(with_lora(plain, RAIN), WIND, 0.5)
        changed = sample(variant)
        assert distance(exact, changed) > 0.3
        patcher = variant.placement._patchers["network"]
        patcher.detach()
        patcher.partially_load(patcher.load_device, patcher.model_size() // 3)
        assert patcher.model.model_lowvram
        with unplaced():
            assert distance(sample(variant), changed) < limit
        patcher.partially_unload(patcher.offload_device, patcher.model_size())
        with unplaced():
            assert distance(sample(variant), changed) < limit
        assert torch.equal(sample(plain), exact)
        assert torch.equal(sample(variant), changed)


def check_loras_on_eight_bits() -> None:
    plain, wide = load("tiny-maf", "fp8"), load("tiny-maf", "bf16")
    before, reference = sample(plain), weights(plain)
    variant = with_lora(plain, RAIN)
    changed = sample(variant)
    expected = added(reference, (RAIN, 1.0))
    for key, weight in weights(variant).items():
        assert weight.dtype == reference[key].dtype
        # A step of eight bits is an eighth of a number's own power of two.
        assert distance(weight, expected[key]) < (0.06 if weight.dtype == torch.float8_e4m3fn else 5e-3), key
    reference, without = sample(with_lora(wide, RAIN)), sample(wide)
    limit = distance(without, reference) / 3
    assert distance(changed, reference) < limit
    patcher = variant.placement._patchers["network"]
    patcher.detach()
    patcher.partially_load(patcher.load_device, patcher.model_size() // 3)
    with unplaced():
        # What is patched when it is used is not rounded to eight bits again.
        assert distance(sample(variant), reference) < limit
    assert torch.equal(sample(plain), before)
    assert torch.equal(sample(variant), changed)


def check_memory_that_runs_out_half_way_leaves_the_weights() -> None:
    plain = load("tiny-maf", "fp32")
    exact, where = sample(plain), places(plain)
    variant = with_lora(plain, RAIN)
    changed = sample(variant)
    mm.unload_all_models()
    original, calls = comfy.lora.calculate_weight, []

    def failing(*arguments: Any, **settings: Any) -> torch.Tensor:
        calls.append(arguments)
        if len(calls) == 5:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return original(*arguments, **settings)

    comfy.lora.calculate_weight = failing
    try:
        assert "Memory ran out while the network was loaded" in message(lambda: sample(variant))
    finally:
        comfy.lora.calculate_weight = original
    assert len(calls) == 5
    assert places(plain) == where
    assert torch.equal(sample(plain), exact)
    assert torch.equal(sample(variant), changed)


def check_models_and_their_loras_share_and_go() -> None:
    plain = load("tiny-maf", "fp32")
    variant = with_lora(plain, RAIN)
    exact = sample(plain)
    assert variant.model.prompt_cache is plain.model.prompt_cache
    assert next(variant.model.parameters()) is next(plain.model.parameters())
    others = ("autoencoder", "conditioner.text_prompt")
    for part in others:
        assert variant.placement._patchers[part] is plain.placement._patchers[part]
    sample(variant)
    loaded = len(mm.current_loaded_models)
    sample(plain)
    sample(variant)
    assert len(mm.current_loaded_models) == loaded
    # The LoRA goes while it is loaded.
    reference = weakref.ref(variant)
    del variant
    gc.collect()
    assert reference() is None
    assert torch.equal(sample(plain), exact)
    # And the other way round: no loader reads the weights again while a model with a LoRA has them.
    variant = with_lora(plain, RAIN)
    reference = weakref.ref(plain)
    del plain
    gc.collect()
    assert load("tiny-maf", "fp32") is reference()
    del variant
    mm.unload_all_models()
    gc.collect()
    assert reference() is None


def check_the_wrong_lora_is_refused() -> None:
    maf, turbo = load("tiny-maf"), load("tiny-turbo")
    text = message(lambda: with_lora(maf, FILTERS))
    assert "was trained on tiny-mmdit (mmdit) and does not fit tiny-maf (maf)" in text
    assert "does not fit tiny-turbo (mmdit)" in message(lambda: with_lora(turbo, RAIN))
    assert "does not fit tiny-turbo" in message(lambda: with_lora(turbo, RAIN, 0.0))
    assert "does not fit tiny-maf (maf)" in message(lambda: with_lora(maf, "base.safetensors"))
    assert "models/loras has no such file" in message(lambda: with_lora(maf, "missing.safetensors"))
    no_lora = pack("nodes.audiox_lora_loader").NO_LORA
    assert "models/loras has no such file" in message(lambda: with_lora(maf, no_lora))
    assert "not a model of this pack" in message(lambda: with_lora(object(), RAIN))
    assert "strength of a LoRA is nan" in message(lambda: with_lora(maf, RAIN, float("nan")))
    (LORAS / "damaged.safetensors").write_bytes((LORAS / RAIN).read_bytes()[:-10])
    assert "damaged or incomplete" in message(lambda: with_lora(maf, "damaged.safetensors"))
    upstream = pack("nodes.shared.sockets").AudioXModelHandle(
        name="AudioX", engine="audiox", model=None, config={}, folder=None
    )
    assert "Choose engine native" in message(lambda: with_lora(upstream, RAIN))


def check_the_licence_of_a_lora_is_asked_for() -> None:
    text = message(lambda: with_lora(load("tiny-maf"), "nc.safetensors"))
    assert "the LoRA random-5 are not known to be free" in text
    assert "tick accept_cc_by_nc on the AudioX Model Loader" in text
    with_lora(load("tiny-maf", accept=True), "nc.safetensors")


def check_a_replaced_lora_is_read_again() -> None:
    node = comfy_nodes.NODE_CLASS_MAPPINGS["AudioXLoadLora"]

    def fingerprint(name: str | None) -> Any:
        return node.fingerprint_inputs(model=None, lora_name=name, strength=1.0)

    before = fingerprint(RAIN)
    assert fingerprint(RAIN) == before
    os.utime(LORAS / RAIN, ns=(1, 1))
    assert fingerprint(RAIN) != before
    assert fingerprint("missing.safetensors") == ("missing.safetensors", 1.0, ())
    assert fingerprint(None) == (None, 1.0, ())


def check_the_list_of_loras() -> None:
    (LORAS / "notes.pt").write_bytes(b"not for us")
    names = pack("nodes.comfy.paths").list_loras()
    assert {RAIN, WIND, FILTERS} <= set(names)
    assert "notes.pt" not in names
    listed, folder_paths.get_filename_list = folder_paths.get_filename_list, lambda folder: []
    try:
        info = comfy_nodes.NODE_CLASS_MAPPINGS["AudioXLoadLora"].GET_NODE_INFO_V1()
    finally:
        folder_paths.get_filename_list = listed
    assert info["input"]["required"]["lora_name"][1]["options"] == ["(no LoRA in models/loras)"]


def check_features_may_be_for_a_model_with_a_lora() -> None:
    variant = with_lora(load("tiny-maf", "fp32"), RAIN)
    inputs = EXTRACTOR | {"duration": 1.0}
    features = run("AudioXExtractFeatures", video=video(), model=variant, **inputs)[0]
    assert sample(variant, features=features).isfinite().all()
