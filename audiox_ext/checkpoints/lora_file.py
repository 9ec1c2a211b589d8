"""Reads and writes LoRAs: small matrices for a network's layers, in one .safetensors file.

R rank, I inputs, O outputs, K width of a filter. In a file of this program, each layer `X` of the network has
the tensors `diffusion_model.X.lora_A.weight` (R, I) or (R, I, K), `diffusion_model.X.lora_B.weight` (O, R) or
(O, R, 1) and `diffusion_model.X.alpha`, a number. Its weight becomes W + strength * alpha / R * B A. Files of
other programs are read with the names and methods in `adapters`.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ..errors import CheckpointError
from .adapters.additions import LoraLayer
from .adapters.base import WeightChange
from .adapters.names import KNOWN_PARTS, split_name
from .adapters.parsing import build_changes, parse_peft_settings
from .safetensors_writer import write_safetensors
from .untrusted.headers import check_header, license_of

if TYPE_CHECKING:
    from ..config import ModelConfig
    from ..networks.keys import Shapes

PREFIX = "diffusion_model."
VERSION = 1
_VERSION_KEY = "audiox_lora"  # in the metadata


@dataclass(frozen=True, kw_only=True)
class LoraInfo:
    """The metadata of a LoRA. Missing entries are empty.

    Attributes:
        name: name of the LoRA, by default its file's.
        kind: kind of the model that it was trained on, see `kind_of`.
        base: that model's name.
        fingerprint: fingerprint of that model's network, see `fingerprint`.
        license: licence of that model's weights, and so of the LoRA; None if unknown.
        trigger: words that a prompt should contain.
        captions: examples from the training.
        steps: number of training steps.
        dataset: a sentence about the training's sounds.
    """

    name: str = ""
    kind: str = ""
    base: str = ""
    fingerprint: str = ""
    license: str | None = None
    trigger: str = ""
    captions: tuple[str, ...] = ()
    steps: int = 0
    dataset: str = ""


@dataclass(frozen=True, kw_only=True, eq=False)
class Lora:
    """A LoRA in memory.

    Attributes:
        info: its metadata.
        layers: changes of weights by name of the network's layer, such as
            transformer.layers.0.self_attn.to_qkv, or as the file names it. A name stands for the layer's
            weight, `X.bias` for its bias.
    """

    info: LoraInfo
    layers: Mapping[str, WeightChange]

    @property
    def rank(self) -> int:
        """The highest rank of its layers."""
        return max(layer.rank for layer in self.layers.values())


def kind_of(config: ModelConfig) -> str:
    """Return the kind of a model; models of one kind share LoRAs.

    Returns:
        "dit" (AudioX), "maf" (AudioX-MAF) or "mmdit" (AudioX-MAF-MMDiT, AudioX-Turbo).
    """
    if config.network.type == "mmdit":
        return "mmdit"
    return "dit" if config.fusion is None else "maf"


def target_shapes(network: nn.Module) -> Shapes:
    """Return the shapes of the weights that a LoRA can change, by layer."""
    return {
        name: tuple(layer.weight.shape)
        for name, layer in network.named_modules()
        if isinstance(layer, (nn.Linear, nn.Conv1d))
    }


def fingerprint(shapes: Mapping[str, tuple[int, ...]]) -> str:
    """Return a short hash of a network's architecture, from its `target_shapes`."""
    text = "\n".join(f"{name} {tuple(shape)}" for name, shape in sorted(shapes.items()))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def write_lora(path: Path, layers: Mapping[str, LoraLayer], info: LoraInfo) -> None:
    """Write a LoRA atomically, each matrix in its own type.

    Args:
        path: the .safetensors file.
        layers: as in `Lora`.
        info: the metadata.

    Raises:
        InputError: the file cannot be written.
    """
    tensors: dict[str, Tensor] = {}
    for name, layer in layers.items():
        tensors[f"{PREFIX}{name}.lora_A.weight"] = layer.down.detach().cpu()
        tensors[f"{PREFIX}{name}.lora_B.weight"] = layer.up.detach().cpu()
        tensors[f"{PREFIX}{name}.alpha"] = torch.tensor(float(layer.alpha))
    rank = Lora(info=info, layers=dict(layers)).rank
    write_safetensors(path, tensors, {}, {"format": "pt", "rank": str(rank), **_metadata(info)})


def read_lora(path: str | Path) -> Lora:
    """Read a LoRA, also of other programs: what ComfyUI's own loader reads, see `adapters`.

    Raises:
        CheckpointError: the file is missing or damaged, is not a LoRA, or contains unsupported tensors.
    """
    path = Path(path)
    metadata, tensors = _content(path)
    info = _info(metadata, path)
    try:
        settings = parse_peft_settings(metadata)
    except (TypeError, ValueError, RecursionError) as error:
        raise _damaged_metadata(path, error) from None
    parts: dict[str, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        name, part = _split(key)
        if part in parts.setdefault(name, {}):
            raise CheckpointError(
                f"{path} contains two tensors for the same matrix of {name}. Choose another file."
            )
        parts[name][part] = tensor
    layers: dict[str, WeightChange] = {}
    for name in sorted(parts):
        changes = build_changes(str(path), name, parts[name], settings)
        if twice := layers.keys() & changes.keys():
            raise CheckpointError(
                f"{path} contains several changes of {', '.join(sorted(twice))}. Choose another file."
            )
        layers |= changes
    return Lora(info=info, layers=layers)


def _split(key: str) -> tuple[str, str]:
    """Split a name that `_check_names` has let pass."""
    names = split_name(key)
    assert names is not None
    return names


def _content(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Read the metadata and tensors of a file. They are copied: the file may be replaced during use."""
    from safetensors import SafetensorError, safe_open

    if not os.path.isfile(path):  # also for names that no file can have
        raise CheckpointError(f"There is no file {path}. Put the LoRA there, or choose another.")
    if path.suffix.lower() != ".safetensors":
        raise CheckpointError(f"{path} is not a .safetensors file, the only format of LoRAs. Choose another.")
    check_header(path)
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            keys, metadata = list(file.keys()), dict(file.metadata() or {})
            # Check before reading: the file may be a whole model.
            _check_names(path, keys)
            return metadata, {key: file.get_tensor(key).clone() for key in keys}
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(
            f"{path} ({path.stat().st_size} bytes) is damaged or incomplete and cannot be read. Download it "
            f"again. ({error})"
        ) from None


def _check_names(path: Path, keys: list[str]) -> None:
    """Raise `CheckpointError` if no tensor has the name of a LoRA's part, or some have other names."""
    parts = [split_name(key) for key in keys]
    if not any(part is not None and part[1] != "alpha" for part in parts):
        raise CheckpointError(
            f"{path} is not a LoRA: none of its {len(keys)} tensors has a name such as *.lora_A.weight. "
            "Choose another file."
        )
    others = [key for key, part in zip(keys, parts, strict=True) if part is None]
    if others:
        raise CheckpointError(
            f"{path} contains tensors other than a LoRA's matrices, which are not supported: "
            f"{shorten(others)}. These are supported: {KNOWN_PARTS}. Choose another file."
        )


def shorten(items: list[str]) -> str:
    """List the first three items, and the number of the others."""
    return ", ".join(sorted(items)[:3]) + (f" and {len(items) - 3} more" if len(items) > 3 else "")


def _metadata(info: LoraInfo) -> dict[str, str]:
    """Return the metadata for a file's header."""
    entries = {field.name: getattr(info, field.name) for field in fields(info)}
    texts = {
        name: value if isinstance(value, str) else json.dumps(value)
        for name, value in entries.items()
        if value not in ("", None, (), 0)
    }
    return {_VERSION_KEY: str(VERSION), **texts}


def _info(metadata: Mapping[str, str], path: Path) -> LoraInfo:
    """Parse the metadata that this program wrote; for other files return only the name and the licence."""
    version = metadata.get(_VERSION_KEY)
    if version is None:
        return LoraInfo(name=path.stem, license=license_of(metadata))
    if version != str(VERSION):
        raise CheckpointError(
            f"{path} has format version {version[:40]}, but only version {VERSION} is supported. Update "
            "AudioX."
        )
    try:
        captions = json.loads(metadata.get("captions", "[]"))
        return LoraInfo(
            name=metadata.get("name") or path.stem,
            kind=metadata.get("kind", ""),
            base=metadata.get("base", ""),
            fingerprint=metadata.get("fingerprint", ""),
            license=license_of(metadata),
            trigger=metadata.get("trigger", ""),
            captions=tuple(str(caption) for caption in captions),
            steps=int(metadata.get("steps", "0")),
            dataset=metadata.get("dataset", ""),
        )
    except (TypeError, ValueError, RecursionError) as error:
        raise _damaged_metadata(path, error) from None


def _damaged_metadata(path: Path, error: Exception) -> CheckpointError:
    """Return the error for metadata that cannot be parsed."""
    return CheckpointError(f"The metadata of {path} is damaged ({error}). Choose another file.")
