"""Reads and writes LoRAs: small matrices for a network's layers, in one .safetensors file.

R rank, I inputs, O outputs, K width of a filter. Each layer `X` of the network has the tensors
`diffusion_model.X.lora_A.weight` (R, I) or (R, I, K), `diffusion_model.X.lora_B.weight` (O, R) or (O, R, 1)
and `diffusion_model.X.alpha`, a number. Its weight becomes W + strength * alpha / R * B A. Source: Hu et al.
2021 (arXiv 2106.09685).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ..errors import CheckpointError
from .safetensors_writer import write_safetensors

if TYPE_CHECKING:
    from ..config import ModelConfig
    from ..networks.keys import Shapes

PREFIX = "diffusion_model."
VERSION = 1
_VERSION_KEY = "audiox_lora"  # in the metadata
# Prefixes of other programs: peft, and peft around a whole model.
_PREFIXES = ("base_model.model.", "diffusion_model.", "model.model.")
_PARTS = {"lora_A": "down", "lora_down": "down", "lora_B": "up", "lora_up": "up"}
_TENSOR = re.compile(r"(.+)\.(lora_A|lora_B|lora_down|lora_up)(?:\.default)?\.weight")


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
class LoraLayer:
    """The matrices for one layer.

    Attributes:
        down: A, (R, I) or (R, I, K).
        up: B, (O, R) or (O, R, 1).
        alpha: the matrices are scaled by alpha / R.
    """

    down: Tensor
    up: Tensor
    alpha: float

    @property
    def rank(self) -> int:
        """The rank R."""
        return self.down.shape[0]

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the layer's weight, (O, I) or (O, I, K)."""
        return (self.up.shape[0], *self.down.shape[1:])

    def difference(self, strength: float, device: torch.device | str = "cpu") -> Tensor:
        """Compute the change of the layer's weight, strength * alpha / R * B A, in float32."""
        up, down = (part.to(device, torch.float32).flatten(1) for part in (self.up, self.down))
        return (up @ down).mul_(strength * self.alpha / self.rank).reshape(self.shape)


@dataclass(frozen=True, kw_only=True, eq=False)
class Lora:
    """A LoRA in memory.

    Attributes:
        info: its metadata.
        layers: LoRA layers by name of the network's layer, such as transformer.layers.0.self_attn.to_qkv.
    """

    info: LoraInfo
    layers: dict[str, LoraLayer]

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
    """Read a LoRA, also with the names of other programs (lora_down, lora_up, and the prefixes of peft).

    Raises:
        CheckpointError: the file is missing or damaged, is not a LoRA, or contains unsupported tensors.
    """
    path = Path(path)
    metadata, tensors = _content(path)
    info = _info(metadata, path)
    matrices: dict[str, dict[str, Tensor]] = {}
    others: list[str] = []
    for key, tensor in tensors.items():
        match = _TENSOR.fullmatch(key)
        if match:
            name, part = _layer_name(match[1]), _PARTS[match[2]]
        elif key.endswith(".alpha"):
            name, part = _layer_name(key.removesuffix(".alpha")), "alpha"
        else:
            others.append(key)
            continue
        if part in matrices.setdefault(name, {}):
            raise CheckpointError(
                f"{path} contains two tensors for the same matrix of {name}. Choose another file."
            )
        matrices[name][part] = tensor
    if others:
        raise CheckpointError(
            f"{path} contains tensors other than a LoRA's matrices, which are not supported: "
            f"{_shorten(others)}. Choose another file."
        )
    return Lora(
        info=info, layers={name: _layer(path, name, parts) for name, parts in sorted(matrices.items())}
    )


def _content(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Read the metadata and tensors of a file. They are copied: the file may be replaced during use."""
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise CheckpointError(f"There is no file {path}. Put the LoRA there, or choose another.")
    if path.suffix.lower() != ".safetensors":
        raise CheckpointError(f"{path} is not a .safetensors file, the only format of LoRAs. Choose another.")
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
    """Raise `CheckpointError` if no tensor has the name of a LoRA's matrix."""
    if not any(_TENSOR.fullmatch(key) for key in keys):
        raise CheckpointError(
            f"{path} is not a LoRA: none of its {len(keys)} tensors has a name such as *.lora_A.weight. "
            "Choose another file."
        )


def _layer_name(key: str) -> str:
    """Return the name of the network's layer, without the prefixes of other programs."""
    for prefix in _PREFIXES:
        key = key.removeprefix(prefix)
    return key


def _layer(path: Path, name: str, parts: Mapping[str, Tensor]) -> LoraLayer:
    """Combine and check the tensors of one layer."""
    missing = [label for part, label in (("down", "lora_A"), ("up", "lora_B")) if part not in parts]
    if missing:
        raise CheckpointError(
            f"{path} is incomplete: {name} has no {' and no '.join(missing)}. Choose another file."
        )
    down, up, alpha = parts["down"], parts["up"], parts.get("alpha")
    shapes = f"lora_A is {tuple(down.shape)} and lora_B {tuple(up.shape)}"
    filters = down.dim() == 3 and up.dim() == 3 and up.shape[2] == 1
    if not (filters or (down.dim() == up.dim() == 2)) or down.shape[0] != up.shape[1] or not down.numel():
        raise CheckpointError(
            f"{path}: for {name}, {shapes}. They must be (rank, in) and (out, rank), or for convolutions "
            "(rank, in, width) and (out, rank, 1). Choose another file."
        )
    values = [down, up] if alpha is None else [down, up, alpha]
    if not all(value.is_floating_point() and bool(value.float().isfinite().all()) for value in values):
        raise CheckpointError(f"{path}: {name} contains values that are not finite numbers. Train it again.")
    if alpha is not None and alpha.numel() != 1:
        raise CheckpointError(
            f"{path}: the alpha of {name} has the shape {tuple(alpha.shape)}, not one number."
        )
    # Without alpha nothing is scaled, as in other programs.
    return LoraLayer(down=down, up=up, alpha=float(down.shape[0] if alpha is None else alpha))


def _shorten(items: list[str]) -> str:
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
    """Parse the metadata that this program wrote; for other files return only the name."""
    version = metadata.get(_VERSION_KEY)
    if version is None:
        return LoraInfo(name=path.stem)
    if version != str(VERSION):
        raise CheckpointError(
            f"{path} has format version {version}, but only version {VERSION} is supported. Update AudioX."
        )
    try:
        captions = json.loads(metadata.get("captions", "[]"))
        return LoraInfo(
            name=metadata.get("name") or path.stem,
            kind=metadata.get("kind", ""),
            base=metadata.get("base", ""),
            fingerprint=metadata.get("fingerprint", ""),
            license=metadata.get("license") or None,
            trigger=metadata.get("trigger", ""),
            captions=tuple(str(caption) for caption in captions),
            steps=int(metadata.get("steps", "0")),
            dataset=metadata.get("dataset", ""),
        )
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"The metadata of {path} is damaged ({error}). Choose another file.") from None
