"""Loaded models, shared by all loader nodes that ask for the same files with the same settings."""

from __future__ import annotations

import logging
from typing import Any
from weakref import WeakValueDictionary

from ...audiox_ext.checkpoints.catalog import find_model_folder, list_models
from ...audiox_ext.errors import InputError
from ..comfy import host
from .fingerprints import model_stamp, noting_fetches
from .sockets import AudioXModelHandle

log = logging.getLogger(__name__)

# A model lives as long as ComfyUI keeps a node output that holds it: freeing the outputs frees the model.
_loaded: WeakValueDictionary[tuple[object, object], AudioXModelHandle] = WeakValueDictionary()


def model_names() -> list[str]:
    """Models found in models/audiox, then the pack's own, then the published ones that can be fetched.

    Never empty; the first is what a new loader has: where the user has no models, the pack's own.
    """
    return list_models(host.model_folders())


def load_model(
    name: str, *, precision: str, engine: str, accept_cc_by_nc: bool, compile: bool = False
) -> AudioXModelHandle:
    """The model `name`, read from disk (or fetched) unless an equal one is still in use.

    Raises `InputError` for a choice that is not offered, and what the engine says about licence and files.
    """
    _check_choice("model", name, model_names())
    _check_choice("precision", precision, host.PRECISIONS)
    _check_choice("engine", engine, ("native", "audiox"))
    # The licence answer is part of the key: one loader's yes must not open the gate for another.
    settings = (name, precision, engine, bool(accept_cc_by_nc), compile)
    handle = _loaded.get((settings, model_stamp(name)))
    if handle is None:
        with noting_fetches(name), host.outside_inference_mode():
            if engine == "native":
                handle = _load_native(name, precision, bool(accept_cc_by_nc), compile)
            else:
                handle = _load_upstream(name, bool(accept_cc_by_nc))
        # Taken again: a model that had to be fetched has its files only now.
        _loaded[settings, model_stamp(name)] = handle
    return handle


def _check_choice(what: str, value: str, allowed: list[str] | tuple[str, ...]) -> None:
    # ComfyUI 0.3.64 does not compare the values of V3 combos with their options.
    if value not in allowed:
        raise InputError(
            f"{what} is {value!r}, which is not one of {', '.join(allowed)}. Choose one of these."
        )


def _load_native(name: str, precision: str, accept_cc_by_nc: bool, compile: bool) -> AudioXModelHandle:
    from ...audiox_ext.checkpoints.pretrained import get_pretrained_model

    chosen = host.network_precision(precision)
    model, config = get_pretrained_model(
        name,
        accept_cc_by_nc=accept_cc_by_nc,
        folders=host.model_folders(),
        allow_paths=False,
        operations=chosen.operations,
        rest_operations=host.float32_operations(),
        dtype=chosen.weights,
        compute_dtype=chosen.compute,
        block_dtype=chosen.blocks,
    )
    if compile:
        from ...audiox_ext.model import compile_network

        compile_network(model, host.network_device())
    placement = host.ComfyPlacement(model.parts())
    model.placement = placement
    kept = chosen.blocks or chosen.weights
    log.info("AudioX: weights are kept in %s, the network computes in %s.", kept, chosen.compute)
    return AudioXModelHandle(
        name=name,
        engine="native",
        model=model,
        config=config,
        folder=model.folder,
        placement=placement,
        accepted=accept_cc_by_nc,
    )


def _load_upstream(name: str, accept_cc_by_nc: bool) -> AudioXModelHandle:
    """The research package decides about precision, devices and compilation itself."""
    from ...audiox_ext.research_package import upstream_get_pretrained_model

    model: Any
    model, config = upstream_get_pretrained_model(name, accept_cc_by_nc=accept_cc_by_nc)
    return AudioXModelHandle(
        name=name,
        engine="audiox",
        model=model,
        config=config,
        folder=find_model_folder(name, host.model_folders(), allow_paths=False),
        accepted=accept_cc_by_nc,
    )
