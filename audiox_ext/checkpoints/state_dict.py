"""State dicts: read from disk without running anything, unfold weight normalisation, compare with a module.

A published file holds, for each weight-normalised convolution, `weight_g` (d0, 1, 1) and `weight_v` instead
of `weight`; `networks.keys.published_shapes` says for which.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import CheckpointError
from ..mmap import converted, let_go
from ..networks.keys import Shapes

_SHOWN = 8
_SAFE_TORCH = (2, 6)  # the first whose weights_only=True nothing is known to get round
_PARAMETRIZATIONS = {
    ".parametrizations.weight.original0": ".weight_g",
    ".parametrizations.weight.original1": ".weight_v",
}


def read_tensors(path: str | Path, nested: Collection[str] = ("state_dict", "model")) -> dict[str, Tensor]:
    """The tensors of a .safetensors file, or of a torch pickle (any other suffix), mapped on the CPU.

    Of a mapped tensor only what is read comes into memory. What is written to it stays in this process: the
    file does not change. Whoever replaces a file in use must write another and rename it: written over in
    place, the weights change with it, or end the process where it becomes shorter.

    nested: keys under which a pickle may hold the state dict instead of being one; the first that holds a
    mapping is taken. Values that are not tensors are left out. Pickles are read with `weights_only=True`: no
    code in them runs.
    Raises `CheckpointError` for a file that is missing, damaged, or holds anything but plain data.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"{path} is missing. Put the weights there, or choose another file.")
    content = _read_safetensors(path) if path.suffix.lower() == ".safetensors" else _read_pickle(path)
    if isinstance(content, Mapping):
        inside = (content[key] for key in nested if isinstance(content.get(key), Mapping))
        content = max((content, *inside), key=_tensor_count)
    if not isinstance(content, Mapping):
        raise CheckpointError(
            f"{path} holds {type(content).__name__}, not a state dict. Fetch the right file."
        )
    return {
        key: value for key, value in content.items() if isinstance(key, str) and isinstance(value, Tensor)
    }


def _tensor_count(content: Mapping[Any, Any]) -> int:
    return sum(isinstance(value, Tensor) for value in content.values())


def _read_safetensors(path: Path) -> Any:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise _damaged(path, error) from None


def _read_pickle(path: Path) -> Any:
    if _torch_version() < _SAFE_TORCH:
        raise CheckpointError(
            f"{path} is a pickle, and torch {torch.__version__} cannot read pickles safely (CVE-2025-32434). "
            "Update torch to 2.6 or newer, or use the weights as .safetensors."
        )
    try:
        try:
            return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        except RuntimeError as error:
            # Files from before torch 1.6 are no zip archives, and only archives can be mapped.
            if "mmap can only be used" not in str(error):
                raise
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path} is damaged, or holds more than tensors and plain data, which is never loaded because it "
            f"could run code. Fetch it again from a source you trust. ({_first_line(error)})"
        ) from None
    except Exception as error:  # a damaged pickle can make the reader raise anything; no code of it runs
        raise _damaged(path, error) from None


def _torch_version() -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", torch.__version__)[:2])


def _damaged(path: Path, error: Exception) -> CheckpointError:
    size = path.stat().st_size if path.exists() else 0
    return CheckpointError(
        f"{path} ({size} bytes) cannot be read: it is damaged or incomplete. Fetch it again. "
        f"({_first_line(error)})"
    )


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]


def rename_parametrizations(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors, torch's newer names of weight-normalised pairs turned into weight_g and weight_v."""
    return {_published_name(key): tensor for key, tensor in state.items()}


def _published_name(key: str) -> str:
    for new, old in _PARAMETRIZATIONS.items():
        if key.endswith(new):
            return key.removesuffix(new) + old
    return key


def fold_weight_norm(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Every pair k.weight_g, k.weight_v as one k.weight = g * v / ||v||, the norm over all dimensions but 0.

    state: also with torch's newer names (`parametrizations.weight.original0` and `1`). The pairs are taken
    out of it one by one as they are folded, and their pages of a file let go of, so that no more than one
    exists twice. Half of a pair stays as it is.
    Returns a new dict with the other tensors untouched. Folded weights are float32 (float64 from float64),
    also from half precision, which cannot hold what the product gains: the caller casts. Source: Salimans and
    Kingma 2016.
    """
    for key in list(state):
        if _published_name(key) != key:
            state[_published_name(key)] = state.pop(key)
    folded: dict[str, Tensor] = {}
    for key in list(state):
        stem, _, last = key.rpartition("weight_")
        if last == "g" and f"{stem}weight_v" in state:
            folded[f"{stem}weight"] = fold(state.pop(key), state.pop(f"{stem}weight_v"))
        elif key in state and not (last == "v" and f"{stem}weight_g" in state):
            folded[key] = state[key]
    return folded


def fold(g: Tensor, v: Tensor) -> Tensor:
    """g * v / ||v|| as in `fold_weight_norm`. The pages of a file that hold v are let go of."""
    dtype = torch.promote_types(v.dtype, torch.float32)
    source, v = v, converted(v, dtype)
    g = g.to(dtype).reshape(-1, *[1] * (v.dim() - 1))
    norm = torch.linalg.vector_norm(v, dim=tuple(range(1, v.dim())), keepdim=True)
    # A filter of zeros has no direction; it stays zero instead of becoming NaN.
    folded = v * (g / norm.clamp_min(torch.finfo(dtype).tiny))
    let_go(source)
    return folded


def compare_keys(
    have: Mapping[str, tuple[int, ...]], want: Mapping[str, tuple[int, ...]], optional: Collection[str] = ()
) -> str:
    """An empty string when a file's keys and shapes (have) are a model's (want), else a report of all that
    differs.

    optional: keys that may be in the file or not; their shapes are still compared. The report has a line each
    for what is missing, unexpected, and of the wrong shape, each with its count and at most the first 8, and
    begins with a line break, so that it can follow a sentence.
    """
    may_miss = set(optional)
    problems = {
        "missing": sorted(want.keys() - have.keys() - may_miss),
        "unexpected": sorted(have.keys() - want.keys() - may_miss),
        "wrong shape": [
            f"{key}: file {tuple(have[key])}, model {tuple(want[key])}"
            for key in sorted(want.keys() & have.keys())
            if tuple(have[key]) != tuple(want[key])
        ],
    }
    return "".join(
        f"\n  {kind} ({len(found)}): {_shorten(found)}" for kind, found in problems.items() if found
    )


def _shorten(items: list[str]) -> str:
    # Shapes hold commas, so entries that have them are kept apart by semicolons.
    separator = "; " if any(": " in item for item in items) else ", "
    more = f" and {len(items) - _SHOWN} more" if len(items) > _SHOWN else ""
    return separator.join(items[:_SHOWN]) + more


def unfolded_shapes(have: Mapping[str, tuple[int, ...]], want: Mapping[str, tuple[int, ...]]) -> Shapes:
    """A file's shapes, where it holds a folded k.weight for which a pair is wanted, with that pair instead.

    A folded weight of another shape than the pair's gives a pair of the wrong shape.
    """
    shapes = {key: tuple(shape) for key, shape in have.items()}
    for key in want:
        stem = key.removesuffix("weight_v")
        if stem == key or f"{stem}weight_g" not in want or f"{stem}weight" not in shapes:
            continue
        if key not in shapes and f"{stem}weight_g" not in shapes:
            shapes[key] = shapes.pop(f"{stem}weight")
            shapes[f"{stem}weight_g"] = tuple(want[f"{stem}weight_g"])
    return shapes


def shapes_of(state: Mapping[str, Tensor]) -> Shapes:
    """The keys of a state dict with the shapes of their tensors, as `compare_keys` takes them."""
    return {key: tuple(tensor.shape) for key, tensor in state.items()}
