"""The tensors of a checkpoint under a model's published keys: read, compared, and loaded into the model."""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import chain

import torch
from torch import Tensor

from ..config import ModelConfig
from ..errors import CheckpointError
from ..mmap import convert_tensor
from ..model import AudioXModel
from ..networks.keys import Shapes, module_key, published_key
from .catalog import CheckpointFiles
from .state_dict import (
    check_structure,
    compare_keys,
    ensure_within_range,
    fold_at_first_use,
    fold_weight_norm,
    pop_weight_norm_pairs,
    read_tensors,
    rename_parametrizations,
    shapes_of,
    unfolded_shapes,
)
from .untrusted.sizes import count_least_values
from .untrusted.tensors import check_weights

_NESTED = ("state_dict", "model", "student", "student_state_dict")
_STUDENT_PREFIXES = ("", "module.", "model.", "student.", "student.model.")
_AUTOENCODER = "pretransform.model."
_AUTOENCODER_PREFIXES = ("", "model.", _AUTOENCODER, "autoencoder.")


def read_checkpoint(files: CheckpointFiles, shapes: Shapes) -> dict[str, Tensor]:
    """Read a checkpoint's tensors, memory-mapped, without comparing them with the model.

    Args:
        files: the model's files. A separate autoencoder file fills in what the weights lack.
        shapes: the published keys of the model.

    Raises:
        CheckpointError: a file cannot be read.
    """
    state = _strip_prefix(rename_parametrizations(read_tensors(files.weights, _NESTED)), shapes)
    if files.vae is not None:
        _fill_in_autoencoder(state, read_tensors(files.vae, _NESTED), shapes)
    return state


def read_fitting_checkpoint(model: AudioXModel, files: CheckpointFiles) -> dict[str, Tensor]:
    """Read a checkpoint's tensors, memory-mapped, and check that they fit the model.

    Raises:
        CheckpointError: a file cannot be read, keys or shapes differ (the message lists all differences), or
            a tensor is not usable as a weight.
    """
    shapes = model.published_shapes()
    state = read_checkpoint(files, shapes)
    differences = describe_differences(model, shapes_of(state), shapes)
    if differences:
        raise CheckpointError(
            f"{files.weights} does not fit its config.json.{differences}\nUse the config.json that was "
            "published with these weights, or download both again."
        )
    check_weights(files.weights, state, other_types=state.keys() - used_keys(model))
    return state


def check_files(config: ModelConfig, files: CheckpointFiles) -> None:
    """Check, before a model is built, that its files hold what they and its configuration claim.

    Raises:
        CheckpointError: a file is damaged, or they are too small, even with one byte per value.
    """
    paths = [path for path in (files.weights, files.vae) if path is not None]
    for path in paths:
        check_structure(path)
    size, values = sum(path.stat().st_size for path in paths), count_least_values(config)
    if values <= size:
        return
    for path in paths:
        read_tensors(path, _NESTED)
    raise CheckpointError(
        f"{files.weights} does not fit its config.json, which describes a model of at least {values} values: "
        f"{' and '.join(path.name for path in paths)} has only {size} bytes. Use the config.json that was "
        "published with these weights, or download both again."
    )


def describe_differences(model: AudioXModel, file_shapes: Shapes, model_shapes: Shapes) -> str:
    """Describe how a checkpoint's keys and shapes differ from the model's, as `compare_keys` does.

    Weights that are weight-normalised in published files may be folded, as `convert` writes them.
    """
    optional = model_shapes.keys() - used_keys(model)
    return compare_keys(unfolded_shapes(file_shapes, model_shapes), model_shapes, optional=optional)


def used_keys(model: AudioXModel) -> set[str]:
    """Return the checkpoint keys that the model uses, with weight norm folded or not."""
    names = (published_key(key) for key in model.state_dict())
    return set(chain.from_iterable((name, f"{name}_g", f"{name}_v") for name in names))


def load_weights(model: AudioXModel, files: CheckpointFiles, *, defer_folding: bool) -> None:
    """Load a checkpoint into a model on the meta device.

    Args:
        model: the model; its parameters keep their types.
        files: the model's files.
        defer_folding: whether the autoencoder's weights are folded when it is first used.

    Raises:
        CheckpointError: the checkpoint cannot be read or does not fit.
    """
    state = read_fitting_checkpoint(model, files)
    used = used_keys(model)
    state = {key: value for key, value in state.items() if key in used}
    pairs = pop_weight_norm_pairs(state, "pretransform.") if defer_folding else {}
    state = fold_weight_norm(state) | {key: v for key, (_, v) in pairs.items()}
    dtypes = dtypes_of(model)
    loaded = {}
    # In the order of the file, so that it is read from beginning to end.
    for key in sorted(state, key=lambda key: state[key].data_ptr()):
        name = module_key(key)
        loaded[name] = ensure_within_range(key, convert_tensor(state.pop(key), dtypes[name]))
    model.load_state_dict(loaded, strict=True, assign=True)
    for name, half in model.pretransform.model.items():
        prefix = f"{_AUTOENCODER}{name}."
        gains = {key.removeprefix(prefix): g for key, (g, _) in pairs.items() if key.startswith(prefix)}
        fold_at_first_use(half, gains)


def dtypes_of(model: AudioXModel) -> dict[str, torch.dtype]:
    """Return the types of a model's parameters and buffers by name."""
    return {name: tensor.dtype for name, tensor in chain(model.named_parameters(), model.named_buffers())}


def _strip_prefix(state: Mapping[str, Tensor], shapes: Shapes) -> dict[str, Tensor]:
    """Take the part of a checkpoint under the prefix that most of the expected keys have, without the prefix.

    A checkpoint without prefix stays whole, so that unexpected keys are noticed.
    """
    counts = {prefix: sum(prefix + key in state for key in shapes) for prefix in _STUDENT_PREFIXES}
    best = max(counts, key=lambda prefix: counts[prefix])
    return {key.removeprefix(best): value for key, value in state.items() if key.startswith(best)}


def _fill_in_autoencoder(state: dict[str, Tensor], vae: Mapping[str, Tensor], shapes: Shapes) -> None:
    """Add autoencoder tensors that a checkpoint lacks from a file that holds the autoencoder alone."""
    vae = rename_parametrizations(vae)
    for key in shapes:
        folded = re.sub(r"weight_[gv]$", "weight", key)
        if key in state or folded in state or _AUTOENCODER not in key:
            continue
        inner = key.split(_AUTOENCODER, 1)[1]
        match = next((prefix + inner for prefix in _AUTOENCODER_PREFIXES if prefix + inner in vae), None)
        if match is not None:
            state[key] = vae[match]
