"""LoRAs on a model: merged into its weights, refused, and removed."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from golden_cases import KINDS, assert_close_l2, golden_path, relative_l2
from random_loras import explicit_weights, random_lora
from torch import Tensor

from audiox_ext import devices as placement
from audiox_ext.checkpoints.adapters.additions import LoraLayer
from audiox_ext.checkpoints.config_parser import parse_config
from audiox_ext.checkpoints.lora import set_loras
from audiox_ext.checkpoints.lora_file import (
    Lora,
    LoraInfo,
    fingerprint,
    kind_of,
    target_shapes,
    write_lora,
)
from audiox_ext.checkpoints.pretrained import get_pretrained_model
from audiox_ext.checkpoints.untrusted.json_files import read_config
from audiox_ext.devices import DevicePlacement
from audiox_ext.errors import CheckpointError, InputError, LicenseError
from audiox_ext.model import AudioXModel
from audiox_ext.pipeline.generate import generate_diffusion_cond

Load = Callable[..., AudioXModel]


@pytest.fixture
def fresh() -> Load:
    """A golden checkpoint of a kind, loaded from the files, because LoRAs change it."""

    def load(kind: str, **settings: Any) -> AudioXModel:
        return get_pretrained_model(golden_path(kind), accept_cc_by_nc=True, **settings)[0]

    return load


def weights_of(model: AudioXModel) -> dict[str, Tensor]:
    return {name: weight.detach().clone() for name, weight in model.network.named_parameters()}


def places_of(model: AudioXModel) -> dict[str, int]:
    return {name: weight.data_ptr() for name, weight in model.network.named_parameters()}


def equal(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def sound(model: AudioXModel) -> Tensor:
    settings: dict[str, Any] = {"steps": 2, "conditioning": {"text_prompt": "rain"}, "seed": 1}
    return generate_diffusion_cond(model, device="cpu", return_latents=True, **settings)


@pytest.mark.parametrize("kind", KINDS)
def test_two_loras_add_up_as_in_the_formula(kind: str, fresh: Load) -> None:
    model, plain = fresh(kind), fresh(kind)
    first = random_lora(model, 1, rank=3, alpha=2)
    second = random_lora(model, 2, rank=5, alpha=5, is_target=lambda name: ".layers.1." in name)
    used = [(first, 0.8), (second, -0.5)]
    expected = explicit_weights(model.network, used)
    set_loras(model, used)
    changed = {f"{name}.weight" for name in first.layers}
    assert changed >= {f"{name}.weight" for name in second.layers}
    for name, weight in model.network.named_parameters():
        assert relative_l2(weight, expected[name]) < 1e-6, name
        assert torch.equal(weight, plain.network.get_parameter(name)) == (name not in changed)
    plain.network.load_state_dict({name: weight.float() for name, weight in expected.items()}, strict=False)
    assert_close_l2(sound(model), sound(plain), 1e-4)
    if kind == "mmdit":
        assert any(layer.down.dim() == 3 and layer.down.shape[2] == 3 for layer in first.layers.values())


@pytest.mark.parametrize("kind", KINDS)
def test_removed_loras_leave_nothing(kind: str, fresh: Load) -> None:
    model = fresh(kind)
    before, places, plain = weights_of(model), places_of(model), sound(model)
    lora = random_lora(model)
    set_loras(model, [(lora, 1.0)])
    assert relative_l2(sound(model), plain) > 1e-3
    set_loras(model)
    assert equal(weights_of(model), before)
    assert places_of(model) == places, "they are the pages of the file again"
    assert torch.equal(sound(model), plain)
    set_loras(model, [(lora, 0.0)])
    assert places_of(model) == places
    assert torch.equal(sound(model), plain)


def test_earlier_loras_have_no_effect(fresh: Load) -> None:
    """Each is added to the original weights, and no cache keeps results of other LoRAs."""
    model, other = fresh("maf"), fresh("maf")
    first, second = random_lora(model, 1), random_lora(model, 2)
    sounds = []
    for loras in ([(first, 1.0)], [(second, 0.3), (first, -2.0)], [(second, 1.0)]):
        set_loras(model, loras)
        sounds.append(sound(model))
    set_loras(other, [(second, 1.0)])
    assert equal(weights_of(model), weights_of(other))
    assert torch.equal(sounds[-1], sound(other))
    assert relative_l2(sounds[0], sounds[-1]) > 1e-3
    assert model.merged_loras.loras == ((second, 1.0),)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_is_rounded_once(precision: str, fresh: Load) -> None:
    model = fresh("base", precision=precision)
    used = [(random_lora(model, seed), 0.7) for seed in (1, 2, 3)]
    before, expected = weights_of(model), explicit_weights(model.network, used)
    set_loras(model, used)
    for name in used[0][0].layers:
        weight = model.network.get_parameter(f"{name}.weight")
        assert weight.dtype == before[f"{name}.weight"].dtype
        right = (weight == expected[f"{name}.weight"].to(weight.dtype)).double().mean()
        assert right > 0.999, "but for ties that float32 breaks otherwise"
    set_loras(model)
    assert equal(weights_of(model), before)


def test_the_checkpoint_on_disk_stays_as_it_is(fresh: Load) -> None:
    file = golden_path("mmdit/model.safetensors")
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    model = fresh("mmdit")
    set_loras(model, [(random_lora(model), 1.0)])
    sound(model)
    set_loras(model)
    assert hashlib.sha256(file.read_bytes()).hexdigest() == digest


def test_a_prompt_is_not_encoded_again_for_another_lora(fresh: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    model = fresh("maf")
    sound(model)
    encoder = model.conditioner.conditioners["text_prompt"]
    monkeypatch.setattr(encoder, "forward", None)
    set_loras(model, [(random_lora(model), 1.0)])
    sound(model)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("other", ["base", "maf", "mmdit"])
def test_a_lora_of_another_kind_is_refused(kind: str, other: str, fresh: Load, golden_model: Any) -> None:
    lora, model = random_lora(golden_model(other)), fresh(kind)
    if {kind, other} <= {"mmdit", "turbo"} or kind == other:
        set_loras(model, [(lora, 1.0)])
        return
    its_kind = {"base": "dit"}.get(other, other)
    with pytest.raises(
        InputError, match=rf"random-1 was trained on {other} \({its_kind}\) and does not fit {kind}"
    ):
        set_loras(model, [(lora, 1.0)])


def test_published_models_of_one_kind_share_loras() -> None:
    kinds = {}
    for name in ("AudioX", "AudioX-MAF", "AudioX-MAF-MMDiT", "AudioX-Turbo"):
        config = read_config(Path(__file__).parents[1] / "configs" / f"{name}.json")
        with torch.device("meta"):
            model = AudioXModel(parse_config(config))
        kinds[name] = kind_of(model.config), fingerprint(target_shapes(model.network))
    assert [kind for kind, _ in kinds.values()] == ["dit", "maf", "mmdit", "mmdit"]
    assert kinds["AudioX-MAF-MMDiT"] == kinds["AudioX-Turbo"]
    assert len({*kinds.values()}) == 3


def with_info(lora: Lora, **info: Any) -> Lora:
    return dataclasses.replace(lora, info=dataclasses.replace(lora.info, **info))


def wider(lora: Lora) -> Lora:
    layers = {
        name: dataclasses.replace(layer, down=torch.cat([layer.down, layer.down], dim=1))
        for name, layer in lora.layers.items()
    }
    return dataclasses.replace(lora, layers=layers)


def test_a_lora_of_another_network_is_refused_and_nothing_changes(fresh: Load, golden_model: Any) -> None:
    model = fresh("maf")
    fits = random_lora(model)
    set_loras(model, [(fits, 0.5)])
    before = weights_of(model)
    foreign = random_lora(golden_model("mmdit")).layers
    refused = [
        ("was trained on an unknown model and", dataclasses.replace(fits, layers=foreign, info=LoraInfo())),
        (
            r"the model lacks \d+ of the LoRA's \d+ layers, such as transformer",
            dataclasses.replace(fits, layers=foreign),
        ),
        (r"has the shape \(64, 512\) in the LoRA and \(64, 256\) in the model", wider(fits)),
        ("the networks differ in layers or sizes", with_info(fits, fingerprint="0123456789abcdef")),
    ]
    for message, lora in refused:
        with pytest.raises(InputError, match=message):
            set_loras(model, [(fits, 1.0), (lora, 1.0)])
    for strength in (float("nan"), float("inf")):
        with pytest.raises(InputError, match="strength of a LoRA is"):
            set_loras(model, [(fits, strength)])
    with pytest.raises(CheckpointError, match=r"There is no file .* Put the LoRA there"):
        set_loras(model, [("nowhere.safetensors", 1.0)])
    assert equal(weights_of(model), before)
    assert model.merged_loras.loras == ((fits, 0.5),)


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory"), KeyboardInterrupt()], ids=repr
)
def test_a_merge_that_fails_half_way_leaves_the_model_unchanged(
    error: BaseException, fresh: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = fresh("maf")
    before, places, lora = weights_of(model), places_of(model), random_lora(model)
    difference, calls = LoraLayer.difference, []

    def failing(layer: LoraLayer, strength: float, device: Any = "cpu") -> Tensor:
        calls.append(layer)
        if len(calls) == 5:
            raise error
        return difference(layer, strength, device)

    monkeypatch.setattr(LoraLayer, "difference", failing)
    expected_error = InputError if isinstance(error, RuntimeError) else KeyboardInterrupt
    with pytest.raises(
        expected_error, match="Memory ran out while LoRAs" if expected_error is InputError else None
    ):
        set_loras(model, [(lora, 1.0)])
    assert equal(weights_of(model), before)
    assert places_of(model) == places
    assert model.merged_loras.loras == ()
    assert not model.merged_loras.originals


def test_weights_beyond_half_precision_are_refused(fresh: Load) -> None:
    model = fresh("base", precision="fp16")
    before = weights_of(model)
    with pytest.raises(InputError, match=r"With random-1 \(strength 1e\+08\) .* float16 can hold"):
        set_loras(model, [(random_lora(model), 1e8)])
    assert equal(weights_of(model), before)


def test_the_licence_of_a_lora_needs_consent(tiny_folder: Any, fresh: Load) -> None:
    free, _ = get_pretrained_model(tiny_folder("maf"))
    assert free.config.license
    bound = random_lora(free, license="cc-by-nc-4.0")
    for lora in (bound, random_lora(free, license=None)):
        with pytest.raises(LicenseError, match="the LoRA random-1 are not known to be free"):
            set_loras(free, [(lora, 1.0)])
        set_loras(free, [(lora, 1.0)], accept_cc_by_nc=True)
    set_loras(free, [(random_lora(free), 1.0)])
    # Loading such a model needed consent to the same licence.
    needed_a_yes = fresh("maf")
    set_loras(needed_a_yes, [(random_lora(needed_a_yes), 1.0)])


def test_loras_stay_when_an_offloaded_network_returns(fresh: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    # Copies on the CPU stand for the memory of a device.
    monkeypatch.setattr(placement, "_copy_to", lambda tensor, device: tensor.clone())
    model, other = fresh("maf"), fresh("maf")
    before, places = weights_of(model), places_of(model)
    where = model.placement = DevicePlacement("meta", offload=True)
    used = [(random_lora(model), 1.0)]
    set_loras(other, used)
    for loras, expected in ((used, weights_of(other)), ([], before)):
        where.use("network", model.model, 0)
        set_loras(model, loras)
        assert equal(weights_of(model), expected)
        where.use("network", model.model, 0)
        where.use("autoencoder", model.pretransform, 0)
        assert equal(weights_of(model), expected)
        where.free_memory(models=True)
    assert places_of(model) == places


@pytest.mark.skipif(not torch.cuda.is_available(), reason="NO CUDA: LoRAs on a GPU were not tested")
def test_loras_are_merged_and_removed_on_a_gpu(fresh: Load) -> None:
    model, on_cpu = fresh("maf", device="cuda"), fresh("maf")
    before, places = weights_of(model), places_of(model)
    used = [(random_lora(on_cpu), 1.0)]
    set_loras(model, used)
    assert places_of(model) == places, "in place, without memory of their own"
    expected = explicit_weights(on_cpu.network, used)
    for name, weight in model.network.named_parameters():
        assert relative_l2(weight, expected[name]) < 1e-5, name
    set_loras(model)
    assert places_of(model) == places
    assert equal(weights_of(model), before)


def test_weights_that_moved_since_are_restored(fresh: Load) -> None:
    """Originals are restored where the weights are now; another type stands for another device here."""
    model, other = fresh("maf"), fresh("maf")
    set_loras(model, [(random_lora(model), 1.0)])
    model.network.double()
    set_loras(model)
    assert equal(weights_of(model), {name: w.double() for name, w in weights_of(other).items()})


def test_a_copy_of_a_model_has_its_own_loras(fresh: Load) -> None:
    model = fresh("base")
    before = weights_of(model)
    set_loras(model, [(random_lora(model), 1.0)])
    with_lora, twin = weights_of(model), copy.deepcopy(model)
    set_loras(model)
    assert equal(weights_of(twin), with_lora)
    set_loras(twin)
    assert equal(weights_of(twin), before)


def test_loras_work_through_the_public_names(tmp_path: Path, fresh: Load) -> None:
    import audiox_ext

    model, path = fresh("base"), tmp_path / "lora.safetensors"
    lora = random_lora(model)
    write_lora(path, lora.layers, lora.info)
    audiox_ext.set_loras(model, [(path, 0.5), (str(path), 0.5)])
    twice = weights_of(model)
    audiox_ext.set_loras(model, [(audiox_ext.read_lora(path), 1.0)])
    for name, weight in weights_of(model).items():
        assert relative_l2(weight, twice[name]) < 1e-6
