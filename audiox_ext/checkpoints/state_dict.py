"""State dicts: read them from disk safely, compare them with a module, and fold weight norms.

A published file has `weight_g` (d0, 1, 1) and `weight_v` instead of `weight` for each weight-normalised
convolution; `networks.keys.published_shapes` says for which.
"""

from __future__ import annotations

import hashlib
import pickle
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from ..errors import CheckpointError
from ..files import is_special
from ..mmap import convert_tensor, release_pages
from ..networks.keys import Shapes
from ..utf8 import is_valid
from .untrusted.archives import check_archive
from .untrusted.headers import check_header
from .untrusted.tensors import check_sizes

_SHOWN = 8
_SAFE_TORCH = (2, 6)  # the first version whose weights_only=True has no known bypass
_PARAMETRIZATIONS = {
    ".parametrizations.weight.original0": ".weight_g",
    ".parametrizations.weight.original1": ".weight_v",
}


def read_tensors(path: str | Path, nested: Collection[str] = ("state_dict", "model")) -> dict[str, Tensor]:
    """Read the tensors of a .safetensors file, or of a torch pickle (any other suffix), on the CPU.

    The file is memory-mapped: a tensor takes memory only where it is read. Writing to a tensor does not
    change the file. To replace a file in use, write another file and rename it. Overwriting it in place
    changes the weights, or ends the process if the file becomes shorter. Pickles are read with
    `weights_only=True`, so no code in them runs.

    Args:
        path: the file.
        nested: keys under which a pickle may hold the state dict. The mapping with the most tensors is used.

    Returns:
        The tensors by key; all other values are left out.

    Raises:
        CheckpointError: the file is missing or damaged, holds more than plain data, or claims more than it
            holds.
    """
    path = Path(path)
    if not path.is_file() and not is_special(path):
        raise CheckpointError(f"{path} does not exist. Put the weights there, or choose another file.")
    check_structure(path)
    is_pickle = not _is_safetensors(path)
    content = _read_pickle(path) if is_pickle else _read_safetensors(path)
    if isinstance(content, Mapping):
        inside = (content[key] for key in nested if isinstance(content.get(key), Mapping))
        content = max((content, *inside), key=_tensor_count)
    if not isinstance(content, Mapping):
        raise CheckpointError(
            f"{path} contains a {type(content).__name__}, not a state dict. Download the file again, or "
            "choose a different file."
        )
    tensors = {
        key: value for key, value in content.items() if isinstance(key, str) and isinstance(value, Tensor)
    }
    if is_pickle:
        check_sizes(path, tensors)
    return tensors


def check_structure(path: Path) -> None:
    """Check that a weights file can hold what it claims, without reading the weights.

    Raises:
        CheckpointError: it cannot.
    """
    if is_special(path):
        raise CheckpointError(f"{path} is a pipe or a device, which is not read. Put a regular file there.")
    (check_header if _is_safetensors(path) else check_archive)(path)


def _is_safetensors(path: Path) -> bool:
    """Whether a file is a .safetensors file; everything else is read as a torch pickle."""
    return path.suffix.lower() == ".safetensors"


def _tensor_count(content: Mapping[Any, Any]) -> int:
    """Count the tensors among a mapping's values."""
    return sum(isinstance(value, Tensor) for value in content.values())


def _read_safetensors(path: Path) -> Any:
    """Map a .safetensors file."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise _damaged(path, error) from None


def _read_pickle(path: Path) -> Any:
    """Map a torch pickle, or read one from before torch 1.6."""
    if _torch_version() < _SAFE_TORCH:
        raise CheckpointError(
            f"{path} is a pickle, and torch {torch.__version__} cannot read pickles safely (CVE-2025-32434). "
            "Update torch to 2.6 or newer, or use weights in a .safetensors file."
        )
    try:
        try:
            return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        except RuntimeError as error:
            # Files from before torch 1.6 are not zip archives, and only archives can be mapped.
            if "mmap can only be used" not in str(error):
                raise
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path} is damaged, or contains more than tensors and plain data, which is never loaded because "
            f"it could run code. Download it again from a source you trust.{_name_code(error)}"
        ) from None
    except Exception as error:  # a damaged pickle can make the reader raise any error
        raise _damaged(path, error) from None


def _torch_version() -> tuple[int, ...]:
    """Return the (major, minor) version of torch."""
    return tuple(int(part) for part in re.findall(r"\d+", torch.__version__)[:2])


def _damaged(path: Path, error: Exception) -> CheckpointError:
    """Return the error for a file that cannot be read."""
    if not is_valid(str(path)):
        return CheckpointError(
            f"{path} cannot be read, because its path is not valid UTF-8. Rename the file or its folder."
        )
    size = path.stat().st_size if path.exists() else 0
    # torch advises to switch its protection off; users should not read that here.
    line = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
    reason = type(error).__name__ if "weights" in line.lower() else line
    return CheckpointError(
        f"{path} ({size} bytes) is damaged or incomplete and cannot be read. Download it again. ({reason})"
    )


def _name_code(error: Exception) -> str:
    """Return a sentence with the name of the code that a pickle asks for, if torch says it."""
    match = re.search(r"GLOBAL ([\w.]+)", str(error))
    return f" (It asks for {match[1][:100]}.)" if match else ""


def rename_parametrizations(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename weight-norm pairs from torch's newer names to weight_g and weight_v."""
    return {_published_name(key): tensor for key, tensor in state.items()}


def _published_name(key: str) -> str:
    """Return the published name of one key."""
    for new, old in _PARAMETRIZATIONS.items():
        if key.endswith(new):
            return key.removesuffix(new) + old
    return key


def compare_keys(
    file_shapes: Mapping[str, tuple[int, ...]],
    model_shapes: Mapping[str, tuple[int, ...]],
    optional: Collection[str] = (),
) -> str:
    """Describe how the keys and shapes of a file differ from a model's.

    Args:
        file_shapes: shapes by key, as `shapes_of` returns them.
        model_shapes: the shapes that the model needs.
        optional: keys that may be missing or unexpected; their shapes are still compared.

    Returns:
        An empty string if they agree. Otherwise a line break, then a line each for missing and unexpected
        keys and for wrong shapes, with the count and the first 8.
    """
    may_miss = set(optional)
    problems = {
        "missing": sorted(model_shapes.keys() - file_shapes.keys() - may_miss),
        "unexpected": sorted(file_shapes.keys() - model_shapes.keys() - may_miss),
        "wrong shape": [
            f"{key}: file {tuple(file_shapes[key])}, model {tuple(model_shapes[key])}"
            for key in sorted(model_shapes.keys() & file_shapes.keys())
            if tuple(file_shapes[key]) != tuple(model_shapes[key])
        ],
    }
    return "".join(f"\n  {kind} ({len(keys)}): {_shorten(keys)}" for kind, keys in problems.items() if keys)


def _shorten(items: list[str]) -> str:
    """List the first items, and the number of the others."""
    # Shapes contain commas, so entries with shapes are separated by semicolons.
    separator = "; " if any(": " in item for item in items) else ", "
    more = f" and {len(items) - _SHOWN} more" if len(items) > _SHOWN else ""
    return separator.join(items[:_SHOWN]) + more


def unfolded_shapes(
    file_shapes: Mapping[str, tuple[int, ...]], model_shapes: Mapping[str, tuple[int, ...]]
) -> Shapes:
    """Return the shapes of a file as if its folded weights were still weight-norm pairs.

    A folded weight of the wrong shape gives a pair of the wrong shape.

    Args:
        file_shapes: shapes by key; k.weight may be folded.
        model_shapes: shows which weights are pairs in a published file.
    """
    shapes = {key: tuple(shape) for key, shape in file_shapes.items()}
    for key in model_shapes:
        stem = key.removesuffix("weight_v")
        if stem == key or f"{stem}weight_g" not in model_shapes or f"{stem}weight" not in shapes:
            continue
        if key not in shapes and f"{stem}weight_g" not in shapes:
            shapes[key] = shapes.pop(f"{stem}weight")
            shapes[f"{stem}weight_g"] = tuple(model_shapes[f"{stem}weight_g"])
    return shapes


def fingerprint_weights(path: Path) -> str:
    """Return a short hash of a weights file from its size, first and last MiB, without reading all of it."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(1 << 20)
        file.seek(max(0, size - (1 << 20)))
        return hashlib.sha256(str(size).encode() + head + file.read()).hexdigest()[:16]


def shapes_of(state: Mapping[str, Tensor]) -> Shapes:
    """Return the shapes of a state dict's tensors by key."""
    return {key: tuple(tensor.shape) for key, tensor in state.items()}


def fold_weight_norm(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Replace every pair k.weight_g, k.weight_v by k.weight = g * v / ||v||, the norm over all axes but 0.

    Pairs are removed from `state` one by one as they are folded, so that only one exists twice in memory.
    Half of a pair stays as it is.

    Args:
        state: may use torch's newer names (`parametrizations.weight.original0` and `1`). It is emptied of
            pairs.

    Returns:
        A new dict; tensors without a pair are unchanged. Folded weights are float32 (float64 from float64),
        even from half precision, whose range the product can exceed: the caller casts.

    Source: Salimans and Kingma 2016.
    """
    for key in list(state):
        if _published_name(key) != key:
            state[_published_name(key)] = state.pop(key)
    folded: dict[str, Tensor] = {}
    for key in list(state):
        stem, _, last = key.rpartition("weight_")
        if last == "g" and f"{stem}weight_v" in state:
            folded[f"{stem}weight"] = fold_pair(state.pop(key), state.pop(f"{stem}weight_v"))
        elif key in state and not (last == "v" and f"{stem}weight_g" in state):
            folded[key] = state[key]
    return folded


def fold_pair(g: Tensor, v: Tensor) -> Tensor:
    """Return g * v / ||v|| as in `fold_weight_norm`, and release the memory-mapped pages of v."""
    # Not `promote_types`, which does not know float8.
    dtype = torch.float64 if v.dtype == torch.float64 else torch.float32
    source, v = v, convert_tensor(v, dtype)
    g = g.to(dtype).reshape(-1, *[1] * (v.dim() - 1))
    norm = torch.linalg.vector_norm(v, dim=tuple(range(1, v.dim())), keepdim=True)
    # A filter of zeros has no direction; it stays zero instead of becoming NaN.
    folded = v * (g / norm.clamp_min(torch.finfo(dtype).tiny))
    release_pages(source)
    return folded


def can_defer_folding() -> bool:
    """Return whether this torch (2.5 or newer) calls a hook for everything that reads or replaces weights."""
    return hasattr(nn.Module, "register_load_state_dict_pre_hook")


def pop_weight_norm_pairs(state: dict[str, Tensor], prefix: str) -> dict[str, tuple[Tensor, Tensor]]:
    """Remove the pairs whose keys begin with `prefix` from `state`.

    Returns:
        (weight_g, weight_v) by the key of the weight.
    """
    stems = [
        key.removesuffix("_v")
        for key in state
        if key.startswith(prefix) and key.endswith("weight_v") and f"{key.removesuffix('v')}g" in state
    ]
    return {stem: (state.pop(f"{stem}_g"), state.pop(f"{stem}_v")) for stem in stems}


class _WeightNorm(nn.Module):
    """v -> gain * v / ||v||, in the type of v."""

    def __init__(self, gain: Tensor) -> None:
        super().__init__()
        self.register_buffer("gain", gain)
        self.gain: Tensor

    def forward(self, v: Tensor) -> Tensor:
        return fold_pair(self.gain, v).to(v.dtype)


def fold_at_first_use(part: nn.Module, gains: Mapping[str, Tensor]) -> None:
    """Fold the weights of `part` when it first runs; until then they stay memory-mapped.

    A folded weight takes memory that cannot be given back, and half of an autoencoder runs at the very end of
    a generation, the other half perhaps never. Reading a weight earlier returns it folded. Reading or
    replacing the state dict folds all of them.

    Args:
        part: its layers hold weight_v as their weight.
        gains: weight_g by the key of the layer's weight.
    """
    for key, gain in gains.items():
        layer = part.get_submodule(key.rpartition(".")[0])
        # unsafe=True skips a check that would read the weight.
        parametrize.register_parametrization(layer, "weight", _WeightNorm(gain), unsafe=True)
    part.register_forward_pre_hook(_fold_now)
    part.register_state_dict_pre_hook(_fold_now)
    part.register_load_state_dict_pre_hook(_fold_now)


def _fold_now(part: nn.Module, *_: Any) -> None:
    """Fold every weight of `part` that still waits for it."""
    for layer in list(part.modules()):
        if not parametrize.is_parametrized(layer, "weight"):
            continue
        shared_class: Any = type(layer)
        unfolded_weight = shared_class.weight
        # Inference mode would turn the weights into tensors that cannot be changed later.
        with torch.inference_mode(False):
            parametrize.remove_parametrizations(layer, "weight")
        # Copies of the layer have the same class, and may still wait.
        shared_class.weight = unfolded_weight


def ensure_within_range(key: str, weight: Tensor) -> Tensor:
    """Return `weight`. Raises `CheckpointError` where fp8 could not hold one of its values."""
    # float8_e4m3fn has no infinity: a value that is too large becomes NaN.
    if weight.dtype == torch.float8_e4m3fn and bool(weight.isnan().any()):
        raise CheckpointError(
            f"{key} holds a value beyond {torch.finfo(weight.dtype).max:.0f}, which fp8 cannot hold. Choose "
            "another precision for this model."
        )
    return weight
