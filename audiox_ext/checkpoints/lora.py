"""Applies LoRAs to a model: checks that they fit, merges them into the weights, restores the originals.

Merged LoRAs do not slow down generation.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..devices import DevicePlacement, explain_out_of_memory
from ..errors import InputError
from ..license import check_license, is_non_commercial
from ..mmap import release_pages
from .lora_file import Lora, fingerprint, kind_of, read_lora, target_shapes

if TYPE_CHECKING:
    from ..model import AudioXModel

log = logging.getLogger(__name__)

LoraUse = tuple[Lora | str | Path, float]
"""A LoRA or its file, and its strength."""


def set_loras(model: AudioXModel, loras: Sequence[LoraUse] = (), *, accept_cc_by_nc: bool = False) -> None:
    """Apply these LoRAs to a model, and no others.

    The original weights are kept on the CPU, and restored bit for bit when a LoRA is removed or its strength
    is 0.

    Args:
        model: the model.
        loras: LoRAs with their strengths, which may be negative. An empty list removes all LoRAs.
        accept_cc_by_nc: your consent to the licence of non-commercial LoRAs; not needed if the model itself
            has this licence.

    Raises:
        CheckpointError: a file cannot be read.
        LicenseError: a LoRA needs consent.
        InputError: a LoRA does not fit, or a strength is not a finite number: the model stays unchanged.
            Memory runs out, or a weight becomes too large for its type: all LoRAs are removed.
    """
    selection = [(item if isinstance(item, Lora) else read_lora(item), strength) for item, strength in loras]
    for lora, strength in selection:
        check_strength(strength)
        check_lora_license(lora, model, accept_cc_by_nc)
        check_lora_fits(lora, model)
    selection = [(lora, strength) for lora, strength in selection if strength]
    if model.placement is not None:
        # Otherwise offloaded weights would later return without the change.
        model.placement.free_memory(models=True)
    # Inference mode would turn the weights into tensors that cannot be changed later.
    with torch.inference_mode(False), torch.no_grad():
        _restore(model)
        try:
            _merge(model, selection)
        except BaseException:
            _restore(model)
            raise


def check_strength(strength: float) -> None:
    """Check the strength of a LoRA.

    Raises:
        InputError: the strength is not a finite number.
    """
    if not math.isfinite(strength):
        raise InputError(
            f"The strength of a LoRA is {strength}. Give a finite number; 1 is the trained strength."
        )


def check_lora_license(lora: Lora, model: AudioXModel, accepted: bool) -> None:
    """Check that the licence of a LoRA is accepted; consent to the model's own licence is enough.

    Raises:
        LicenseError: the licence is not accepted.
    """
    model_needs_consent = is_non_commercial(model.config.license)
    check_license(lora.info.license, f"the LoRA {lora.info.name}", accepted or model_needs_consent)


def check_lora_fits(lora: Lora, model: AudioXModel) -> None:
    """Check that a LoRA fits a model.

    Raises:
        InputError: the LoRA does not fit; the message names the model it was trained on.
    """
    reason = _describe_misfit(lora, model)
    if not reason:
        return
    info = lora.info
    base_kind = f"a model of the kind {info.kind}" if info.kind else "an unknown model"
    base = f"{info.base} ({info.kind})" if info.base and info.kind else info.base or base_kind
    raise InputError(
        f"The LoRA {info.name} was trained on {base} and does not fit {_name(model)} "
        f"({kind_of(model.config)}): {reason}. Choose the model that it was trained on, or another LoRA."
    )


def _name(model: AudioXModel) -> str:
    """Return a model's name for messages."""
    return model.folder.name if model.folder is not None else "this model"


def _describe_misfit(lora: Lora, model: AudioXModel) -> str:
    """Return why a LoRA does not fit this model, or an empty string."""
    if lora.info.kind and lora.info.kind != kind_of(model.config):
        return "the kinds differ"
    shapes = target_shapes(model.network)
    unknown = [name for name in lora.layers if name not in shapes]
    if unknown:
        return f"the model lacks {len(unknown)} of the LoRA's {len(lora.layers)} layers, such as {unknown[0]}"
    for name, layer in lora.layers.items():
        if layer.shape != shapes[name]:
            return f"{name} has the shape {layer.shape} in the LoRA and {shapes[name]} in the model"
    if lora.info.fingerprint and lora.info.fingerprint != fingerprint(shapes):
        return "the networks differ in layers or sizes"
    return ""


def _merge(model: AudioXModel, selection: Sequence[tuple[Lora, float]]) -> None:
    """Add LoRAs to the original weights."""
    merged, network = model.merged_loras, model.network
    merged.loras = tuple(selection)
    placement = model.placement or DevicePlacement(next(network.parameters()).device)
    advice = "Use fewer LoRAs, or load the model with a lower precision"
    with explain_out_of_memory(placement, "LoRAs were merged into the weights", advice):
        for name in target_shapes(network):
            layer_loras = [(lora, strength) for lora, strength in selection if name in lora.layers]
            if not layer_loras:
                continue
            weight = network.get_parameter(f"{name}.weight")
            precise_dtype = torch.float64 if weight.dtype == torch.float64 else torch.float32
            result = weight.data.to(precise_dtype, copy=True)
            for lora, strength in layer_loras:
                result += lora.layers[name].difference(strength, weight.device)
            _check_range(name, result, weight.dtype, layer_loras)
            merged.originals[name] = original = weight.data.cpu()
            _put(weight, result.to(weight.dtype))
            release_pages(original)
    for lora, strength in selection:
        log.info("Applied the LoRA %s with strength %g.", lora.info.name, strength)


def _check_range(name: str, values: Tensor, dtype: torch.dtype, loras: Sequence[tuple[Lora, float]]) -> None:
    """Raise `InputError` if the merged weight of a layer is too large for its type."""
    largest, limit = float(values.abs().amax()), torch.finfo(dtype).max
    if not largest <= limit:
        names = " and ".join(f"{lora.info.name} (strength {strength:g})" for lora, strength in loras)
        raise InputError(
            f"With {names} the weight of {name} reaches {largest:g}, more than the {limit:g} that "
            f"{str(dtype).removeprefix('torch.')} can hold. Lower the strength."
        )


def _restore(model: AudioXModel) -> None:
    """Restore the original weights, on whatever device the network is now."""
    merged = model.merged_loras
    merged.loras = ()
    for name in list(merged.originals):
        weight = model.network.get_parameter(f"{name}.weight")
        _put(weight, merged.originals[name].to(weight.dtype))
        del merged.originals[name]


def _put(weight: Tensor, values: Tensor) -> None:
    """Change the values of a weight. It remains the same object, which compiled code relies on."""
    if weight.device.type == "cpu":
        weight.data = values.cpu()  # the old values may be memory-mapped, and are kept
    else:
        weight.data.copy_(values)  # needs no more memory, which may have run out
