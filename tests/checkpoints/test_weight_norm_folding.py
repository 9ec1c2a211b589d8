"""Weights that are folded at their first use: never seen unfolded, and not stored twice."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from golden_cases import golden_path
from torch import Tensor, nn
from torch.nn.utils import parametrize

from audiox_ext.checkpoints.pretrained import get_pretrained_model
from audiox_ext.model import AudioXModel
from audiox_ext.networks.operations import PlainOperations
from audiox_ext.random_numbers import RandomNumbers

KEY = "layers.0.weight"


def loaded(**settings: Any) -> AudioXModel:
    return get_pretrained_model(golden_path("maf"), accept_cc_by_nc=True, **settings)[0]


def half_of(model: AudioXModel, name: str) -> nn.Module:
    return model.pretransform.model[name]


def is_waiting(half: nn.Module) -> bool:
    """Whether a weight is not yet folded."""
    return any(parametrize.is_parametrized(layer) for layer in half.modules())


@pytest.fixture(scope="module")
def folded() -> dict[str, Tensor]:
    """The autoencoder's weights, folded while they are loaded."""
    state = loaded(operations=PlainOperations).pretransform.state_dict()
    return {key: value.clone() for key, value in state.items()}


def test_each_half_is_folded_when_it_first_runs() -> None:
    model = loaded()
    encoder, decoder = half_of(model, "encoder"), half_of(model, "decoder")
    assert is_waiting(encoder)
    assert is_waiting(decoder)
    latents = torch.randn(1, model.config.autoencoder.latent_dim, 8)
    at_once = loaded(operations=PlainOperations)
    assert not is_waiting(at_once.pretransform)
    sound = model.pretransform.decode(latents)
    assert torch.equal(sound, at_once.pretransform.decode(latents))
    assert is_waiting(encoder)
    assert not is_waiting(decoder)
    random = [RandomNumbers(torch.Generator().manual_seed(1)) for _ in range(2)]
    encoded = model.pretransform.encode(sound, random[0])
    assert torch.equal(encoded, at_once.pretransform.encode(sound, random[1]))
    assert not is_waiting(encoder)


def test_reading_a_weight_gives_it_folded(folded: dict[str, Tensor]) -> None:
    model = loaded()
    layer = half_of(model, "encoder").get_submodule("layers.0")
    assert torch.equal(layer.weight, folded[f"model.encoder.{KEY}"])
    copied = copy.deepcopy(model.pretransform)
    state = model.state_dict()
    for own in (copied.state_dict(), {k.removeprefix("pretransform."): v for k, v in state.items()}):
        assert all(torch.equal(own[key], value) for key, value in folded.items())
    assert not is_waiting(model.pretransform)
    assert {p.requires_grad for p in model.parameters()} == {False}


def test_weights_can_be_replaced_and_cast_before_they_are_used(folded: dict[str, Tensor]) -> None:
    model = loaded()
    model.pretransform.load_state_dict({key: value + 1 for key, value in folded.items()})
    assert all(torch.equal(v, folded[k] + 1) for k, v in model.pretransform.state_dict().items())
    model = loaded()
    model.pretransform.to(torch.bfloat16)
    assert {value.dtype for value in model.pretransform.state_dict().values()} == {torch.bfloat16}


def test_folding_in_inference_mode_leaves_weights_that_can_be_changed() -> None:
    model = loaded()
    with torch.inference_mode():
        model.pretransform.decode(torch.randn(1, model.config.autoencoder.latent_dim, 4))
    for parameter in half_of(model, "decoder").parameters():
        parameter.add_(1)


@pytest.mark.parametrize("settings", [{"device": "meta"}, {"device": "meta", "offload": True}], ids=str)
def test_other_devices_get_whole_weights(settings: Any) -> None:
    assert not is_waiting(loaded(**settings).pretransform)


def test_folded_files_have_nothing_to_fold(tmp_path: Path) -> None:
    from audiox_ext.checkpoints.conversion import convert_checkpoint

    convert_checkpoint(str(golden_path("maf")), tmp_path / "new", precision="fp32", accept_cc_by_nc=True)
    model, _ = get_pretrained_model(tmp_path / "new", accept_cc_by_nc=True)
    assert not is_waiting(model.pretransform)
