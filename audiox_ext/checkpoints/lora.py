"""LoRAs on a model: whether they fit, and the network's weights with them and as they were.

What is added is merged into the weights, so that a generation costs nothing more.
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
"""(a LoRA, or its file, its strength)."""


def set_loras(model: AudioXModel, loras: Sequence[LoraUse] = (), *, accept_cc_by_nc: bool = False) -> None:
    """From now on the model is as it was loaded, with these LoRAs and no others.

    Their strengths may be negative. What is 0 or not there any more leaves every weight as it was, bit for
    bit; until then the original weights are kept on the CPU. accept_cc_by_nc: the opt-in that a LoRA under a
    non-commercial licence needs, unless the model needed it itself.

    Raises `CheckpointError` for a file that cannot be read, `LicenseError`, and `InputError` for a LoRA that
    does not fit or a strength that is no number, all before anything is changed. Also `InputError` when
    memory runs out or a weight becomes too large for its type: the model is without any LoRA then.
    """
    chosen = [(item if isinstance(item, Lora) else read_lora(item), strength) for item, strength in loras]
    for lora, strength in chosen:
        check_strength(strength)
        check_lora_license(lora, model, accept_cc_by_nc)
        check_lora_fits(lora, model)
    chosen = [(lora, strength) for lora, strength in chosen if strength]
    if model.placement is not None:
        # Weights that are on a device for now go back, or they would come back later as they were.
        model.placement.free_memory(models=True)
    # In inference mode they would become tensors that nothing can change again.
    with torch.inference_mode(False), torch.no_grad():
        _take_off(model)
        try:
            _merge(model, chosen)
        except BaseException:
            _take_off(model)
            raise


def check_strength(strength: float) -> None:
    """Raises `InputError` for what is no finite number."""
    if not math.isfinite(strength):
        raise InputError(f"The strength of a LoRA is {strength}. Give a number; 1 is as it was trained.")


def check_lora_license(lora: Lora, model: AudioXModel, accepted: bool) -> None:
    """Raises `LicenseError` where a LoRA needs an opt-in that was given neither for it nor for the model."""
    needed_it_itself = is_non_commercial(model.config.license)
    check_license(lora.info.license, f"the LoRA {lora.info.name}", accepted or needed_it_itself)


def check_lora_fits(lora: Lora, model: AudioXModel) -> None:
    """Raises `InputError`, which says for which model a LoRA is, where it is not for this one."""
    reason = _misfit(lora, model)
    if not reason:
        return
    info, here = lora.info, kind_of(model.config)
    its_kind = f"a model of the kind {info.kind}" if info.kind else "a model that it does not name"
    its_model = f"{info.base} ({info.kind})" if info.base and info.kind else info.base or its_kind
    raise InputError(
        f"The LoRA {info.name} is for {its_model} and does not fit {_name(model)} ({here}): {reason}. Choose "
        "the model that it was trained on, or another LoRA."
    )


def _name(model: AudioXModel) -> str:
    return model.folder.name if model.folder is not None else "this model"


def _misfit(lora: Lora, model: AudioXModel) -> str:
    """Why a LoRA is not for this model, or an empty string."""
    if lora.info.kind and lora.info.kind != kind_of(model.config):
        return "it is of another kind"
    shapes = target_shapes(model.network)
    unknown = [name for name in lora.layers if name not in shapes]
    if unknown:
        return f"{len(unknown)} of the LoRA's {len(lora.layers)} layers are not in it, such as {unknown[0]}"
    for name, layer in lora.layers.items():
        if layer.shape != shapes[name]:
            return f"{name} is {layer.shape} for the LoRA and {shapes[name]} here"
    if lora.info.fingerprint and lora.info.fingerprint != fingerprint(shapes):
        return "its network has other layers or sizes"
    return ""


def _merge(model: AudioXModel, chosen: Sequence[tuple[Lora, float]]) -> None:
    """Add LoRAs to weights that have none."""
    merged, network = model.merged_loras, model.network
    merged.loras = tuple(chosen)
    where = model.placement or DevicePlacement(next(network.parameters()).device)
    advice = "Use fewer LoRAs, or load the model with a lower precision"
    with explain_out_of_memory(where, "LoRAs were merged into the weights", advice):
        for name in target_shapes(network):
            used = [(lora, strength) for lora, strength in chosen if name in lora.layers]
            if not used:
                continue
            weight = network.get_parameter(f"{name}.weight")
            precise = torch.float64 if weight.dtype == torch.float64 else torch.float32
            result = weight.data.to(precise, copy=True)
            for lora, strength in used:
                result += lora.layers[name].difference(strength, weight.device)
            _check_range(name, result, weight.dtype, used)
            merged.originals[name] = original = weight.data.cpu()
            _put(weight, result.to(weight.dtype))
            release_pages(original)
    for lora, strength in chosen:
        log.info("The LoRA %s is used with strength %g.", lora.info.name, strength)


def _check_range(name: str, values: Tensor, dtype: torch.dtype, used: Sequence[tuple[Lora, float]]) -> None:
    largest, limit = float(values.abs().amax()), torch.finfo(dtype).max
    if not largest <= limit:
        names = " and ".join(f"{lora.info.name} (strength {strength:g})" for lora, strength in used)
        raise InputError(
            f"With {names} the weight of {name} reaches {largest:g}, beyond the {limit:g} that "
            f"{str(dtype).removeprefix('torch.')} can hold. Lower the strength."
        )


def _take_off(model: AudioXModel) -> None:
    """Every weight as it was loaded, wherever it is now."""
    merged = model.merged_loras
    merged.loras = ()
    for name in list(merged.originals):
        weight = model.network.get_parameter(f"{name}.weight")
        _put(weight, merged.originals[name].to(weight.dtype))
        del merged.originals[name]


def _put(weight: Tensor, values: Tensor) -> None:
    """Give a weight other values. It remains the same object, as what was compiled with it expects."""
    if weight.device.type == "cpu":
        weight.data = values.cpu()  # what was there may be pages of a file, and is kept as they are
    else:
        weight.data.copy_(values)  # without memory of its own, which may have run out
