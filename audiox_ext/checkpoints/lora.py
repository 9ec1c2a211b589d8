"""Applies LoRAs to a model: checks that they fit, merges them into the weights, restores the originals.

Merged LoRAs do not slow down generation.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from ..devices import DevicePlacement, explain_out_of_memory
from ..errors import InputError, is_number, quote_value
from ..license import check_license, is_non_commercial
from ..mmap import release_pages
from ..utf8 import get_logger
from .adapters.base import WeightChange
from .adapters.names import KNOWN_PREFIXES, LayerNames, find_parameters
from .lora_file import Lora, fingerprint, kind_of, read_lora, shorten, target_shapes

if TYPE_CHECKING:
    from ..model import AudioXModel
    from ..networks.keys import Shapes

log = get_logger(__name__)

LoraUse = tuple[Lora | str | Path, float]
"""A LoRA or its file, and its strength."""


class _FittedLora(NamedTuple):
    """A LoRA with its strength, and its changes by name of the network's parameter."""

    lora: Lora
    strength: float
    changes: dict[str, WeightChange]


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
    selection: list[_FittedLora] = []
    for item, strength in loras:
        lora = item if isinstance(item, Lora) else read_lora(item)
        check_strength(strength)
        check_lora_license(lora, model, accept_cc_by_nc)
        changes = fit_lora(lora, model)
        if strength:
            selection.append(_FittedLora(lora, strength, changes))
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
    if not is_number(strength):
        raise InputError(
            f"The strength of a LoRA is {quote_value(strength)}. Give a finite number; 1 is the trained "
            "strength."
        )


def check_lora_license(lora: Lora, model: AudioXModel, accepted: object) -> None:
    """Check that the licence of a LoRA is accepted; consent to the model's own licence is enough.

    Raises:
        LicenseError: the licence is not accepted.
    """
    consent = True if is_non_commercial(model.config.license) else accepted
    check_license(lora.info.license, f"the LoRA {lora.info.name}", consent)


def fit_lora(lora: Lora, model: AudioXModel) -> dict[str, WeightChange]:
    """Find the weights of a model that a LoRA changes, and check that it fits them.

    Returns:
        The changes by name of the network's parameter.

    Raises:
        InputError: the LoRA does not fit; the message names the model it was trained on.
    """
    shapes = {name: tuple(weight.shape) for name, weight in model.network.named_parameters()}
    names = find_parameters(lora.layers, shapes)
    reason = _describe_misfit(lora, model, names) or _describe_shapes(lora, names, shapes)
    if not reason:
        return {names.parameters[name]: change for name, change in lora.layers.items()}
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


def _describe_misfit(lora: Lora, model: AudioXModel, names: LayerNames) -> str:
    """Return why a LoRA is not one of this model, or an empty string."""
    if lora.info.kind and lora.info.kind != kind_of(model.config):
        return "the kinds differ"
    if names.unknown:
        return (
            f"the model lacks {len(names.unknown)} of the LoRA's {len(lora.layers)} layers, such as "
            f"{shorten(names.unknown)}. Names are read as the model's own, with the prefixes {KNOWN_PREFIXES}"
        )
    if names.ambiguous:
        name, candidates = next(iter(names.ambiguous.items()))
        return f"{name} could be {' or '.join(candidates)} in the model"
    count = Counter(names.parameters.values())
    twice = [name for name, parameter in names.parameters.items() if count[parameter] > 1]
    if twice:
        return f"it changes the same weight under several names: {shorten(twice)}"
    if lora.info.fingerprint and lora.info.fingerprint != fingerprint(target_shapes(model.network)):
        return "the networks differ in layers or sizes"
    return ""


def _describe_shapes(lora: Lora, names: LayerNames, shapes: Shapes) -> str:
    """Return which change does not fit its weight, or an empty string."""
    for name, change in lora.layers.items():
        parameter = names.parameters[name]
        if misfit := change.describe_misfit(tuple(shapes[parameter])):
            return f"{parameter.removesuffix('.weight')} {misfit}"
    return ""


def _merge(model: AudioXModel, selection: Sequence[_FittedLora]) -> None:
    """Add LoRAs to the original weights."""
    merged, network = model.merged_loras, model.network
    merged.loras = tuple((lora, strength) for lora, strength, _ in selection)
    placement = model.placement or DevicePlacement(next(network.parameters()).device)
    advice = "Use fewer LoRAs, or load the model with a lower precision"
    with explain_out_of_memory(placement, "LoRAs were merged into the weights", advice):
        for name, weight in network.named_parameters():
            used = [item for item in selection if name in item.changes]
            if not used:
                continue
            precise_dtype = torch.float64 if weight.dtype == torch.float64 else torch.float32
            result = weight.data.to(precise_dtype, copy=True)
            for lora in used:
                result += lora.changes[name].difference(lora.strength, result)
            _check_range(name, result, weight.dtype, used)
            merged.originals[name] = original = weight.data.cpu()
            _put(weight, result.to(weight.dtype))
            release_pages(original)
    for lora in selection:
        log.info("Applied the LoRA %s with strength %g.", lora.lora.info.name, lora.strength)


def _check_range(name: str, values: Tensor, dtype: torch.dtype, loras: Sequence[_FittedLora]) -> None:
    """Raise `InputError` if a merged weight is too large for its type."""
    largest, limit = float(values.abs().amax()), torch.finfo(dtype).max
    if not largest <= limit:
        names = " and ".join(f"{item.lora.info.name} (strength {item.strength:g})" for item in loras)
        layer = name.removesuffix(".weight")
        subject = f"the weight of {layer}" if layer != name else name
        raise InputError(
            f"With {names} {subject} reaches {largest:g}, more than the {limit:g} that "
            f"{str(dtype).removeprefix('torch.')} can hold. Lower the strength."
        )


def _restore(model: AudioXModel) -> None:
    """Restore the original weights, on whatever device the network is now."""
    merged = model.merged_loras
    merged.loras = ()
    for name in list(merged.originals):
        weight = model.network.get_parameter(name)
        _put(weight, merged.originals[name].to(weight.dtype))
        del merged.originals[name]


def _put(weight: Tensor, values: Tensor) -> None:
    """Change the values of a weight. It remains the same object, which compiled code relies on."""
    if weight.device.type == "cpu":
        weight.data = values.cpu()  # the old values may be memory-mapped, and are kept
    else:
        weight.data.copy_(values)  # needs no more memory, which may have run out
