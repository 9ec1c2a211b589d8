"""A LoRA as a file: small matrices beside a network's layers, one .safetensors file in the usual naming.

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
_MARK = "audiox_lora"  # the entry of the metadata that holds the version
# What other programs put before a layer's name: peft, and peft around a whole model.
_PREFIXES = ("base_model.model.", "diffusion_model.", "model.model.")
_PARTS = {"lora_A": "down", "lora_down": "down", "lora_B": "up", "lora_up": "up"}
_TENSOR = re.compile(r"(.+)\.(lora_A|lora_B|lora_down|lora_up)(?:\.default)?\.weight")


@dataclass(frozen=True, kw_only=True)
class LoraInfo:
    """What a file says about itself; what it does not say is empty.

    kind: of the model it was trained on, see `kind_of`; base: that model's name; fingerprint: of its network,
    see `fingerprint`; license: of its weights, which is the LoRA's as well, None where none is named.
    captions: examples of what it was trained with. dataset: what that was, in a sentence.
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
    """What is added to one layer. down: A, (R, I) or (R, I, K). up: B, (O, R) or (O, R, 1)."""

    down: Tensor
    up: Tensor
    alpha: float

    @property
    def rank(self) -> int:
        return self.down.shape[0]

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the weight that it is for, (O, I) or (O, I, K)."""
        return (self.up.shape[0], *self.down.shape[1:])

    def difference(self, strength: float, device: torch.device | str = "cpu") -> Tensor:
        """strength * alpha / R * B A, float32, of `shape`."""
        up, down = (part.to(device, torch.float32).flatten(1) for part in (self.up, self.down))
        return (up @ down).mul_(strength * self.alpha / self.rank).reshape(self.shape)


@dataclass(frozen=True, kw_only=True, eq=False)
class Lora:
    """layers: by name of the network's layer, such as transformer.layers.0.self_attn.to_qkv."""

    info: LoraInfo
    layers: dict[str, LoraLayer]

    @property
    def rank(self) -> int:
        """The largest of its layers' ranks."""
        return max(layer.rank for layer in self.layers.values())


def kind_of(config: ModelConfig) -> str:
    """Which models share LoRAs: "dit" (AudioX), "maf" (AudioX-MAF) or "mmdit" (AudioX-MAF-MMDiT, Turbo)."""
    if config.network.type == "mmdit":
        return "mmdit"
    return "dit" if config.fusion is None else "maf"


def target_shapes(network: nn.Module) -> Shapes:
    """The layers that a LoRA can be for, with the shapes of their weights."""
    return {
        name: tuple(layer.weight.shape)
        for name, layer in network.named_modules()
        if isinstance(layer, (nn.Linear, nn.Conv1d))
    }


def fingerprint(shapes: Mapping[str, tuple[int, ...]]) -> str:
    """Tells one architecture from another. shapes: `target_shapes` of the network."""
    text = "\n".join(f"{name} {tuple(shape)}" for name, shape in sorted(shapes.items()))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def write_lora(path: Path, layers: Mapping[str, LoraLayer], info: LoraInfo) -> None:
    """Write a LoRA, each matrix in its own type. layers: as in `Lora`. The file is there whole or not at all.

    Raises `InputError` when it cannot be written.
    """
    tensors: dict[str, Tensor] = {}
    for name, layer in layers.items():
        tensors[f"{PREFIX}{name}.lora_A.weight"] = layer.down.detach().cpu()
        tensors[f"{PREFIX}{name}.lora_B.weight"] = layer.up.detach().cpu()
        tensors[f"{PREFIX}{name}.alpha"] = torch.tensor(float(layer.alpha))
    rank = Lora(info=info, layers=dict(layers)).rank
    write_safetensors(path, tensors, {}, {"format": "pt", "rank": str(rank), **_metadata(info)})


def read_lora(path: str | Path) -> Lora:
    """A LoRA in memory. Also reads lora_down and lora_up, and the prefixes of peft.

    Raises `CheckpointError` for a file that is missing, damaged or no LoRA, or that holds what is not
    supported.
    """
    path = Path(path)
    metadata, tensors = _content(path)
    info = _info(metadata, path)
    found: dict[str, dict[str, Tensor]] = {}
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
        if part in found.setdefault(name, {}):
            raise CheckpointError(f"{path} holds two matrices for the same part of {name}.")
        found[name][part] = tensor
    if others:
        raise CheckpointError(
            f"{path} holds more than a LoRA's pairs of matrices, which is not supported: {_some(others)}."
        )
    return Lora(info=info, layers={name: _layer(path, name, parts) for name, parts in sorted(found.items())})


def _content(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    """The metadata and the tensors of a file, copied, so that it may be replaced while they are in use."""
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise CheckpointError(f"There is no LoRA {path}. Put the file there, or choose another.")
    if path.suffix.lower() != ".safetensors":
        raise CheckpointError(f"{path} is no .safetensors file, the only form in which LoRAs are read.")
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            keys, metadata = list(file.keys()), dict(file.metadata() or {})
            # First of all: it may be a whole model, which is not to be read into memory.
            _check_names(path, keys)
            return metadata, {key: file.get_tensor(key).clone() for key in keys}
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(
            f"{path} ({path.stat().st_size} bytes) cannot be read: it is damaged or incomplete. Fetch it "
            f"again. ({error})"
        ) from None


def _check_names(path: Path, keys: list[str]) -> None:
    if not any(_TENSOR.fullmatch(key) for key in keys):
        raise CheckpointError(
            f"{path} is no LoRA: none of its {len(keys)} tensors is named as in a LoRA (*.lora_A.weight). "
            "Choose another file."
        )


def _layer_name(key: str) -> str:
    for prefix in _PREFIXES:
        key = key.removeprefix(prefix)
    return key


def _layer(path: Path, name: str, parts: Mapping[str, Tensor]) -> LoraLayer:
    missing = [spelt for part, spelt in (("down", "lora_A"), ("up", "lora_B")) if part not in parts]
    if missing:
        raise CheckpointError(f"{path} is incomplete: {name} has no {' and no '.join(missing)}.")
    down, up, alpha = parts["down"], parts["up"], parts.get("alpha")
    shapes = f"lora_A is {tuple(down.shape)} and lora_B {tuple(up.shape)}"
    filters = down.dim() == 3 and up.dim() == 3 and up.shape[2] == 1
    if not (filters or (down.dim() == up.dim() == 2)) or down.shape[0] != up.shape[1] or not down.numel():
        raise CheckpointError(
            f"{path}: of {name} {shapes}. They must be (rank, in) and (out, rank), or with filters "
            "(rank, in, width) and (out, rank, 1)."
        )
    values = [down, up] if alpha is None else [down, up, alpha]
    if not all(value.is_floating_point() and bool(value.float().isfinite().all()) for value in values):
        raise CheckpointError(f"{path}: {name} holds values that are no finite numbers.")
    if alpha is not None and alpha.numel() != 1:
        raise CheckpointError(f"{path}: the alpha of {name} is {tuple(alpha.shape)}, not one number.")
    # Where there is none, nothing is scaled, as elsewhere.
    return LoraLayer(down=down, up=up, alpha=float(down.shape[0] if alpha is None else alpha))


def _some(items: list[str]) -> str:
    return ", ".join(sorted(items)[:3]) + (f" and {len(items) - 3} more" if len(items) > 3 else "")


def _metadata(info: LoraInfo) -> dict[str, str]:
    entries = {field.name: getattr(info, field.name) for field in fields(info)}
    texts = {
        name: value if isinstance(value, str) else json.dumps(value)
        for name, value in entries.items()
        if value not in ("", None, (), 0)
    }
    return {_MARK: str(VERSION), **texts}


def _info(metadata: Mapping[str, str], path: Path) -> LoraInfo:
    """What the metadata says, if they are this program's; only the name of the file otherwise."""
    version = metadata.get(_MARK)
    if version is None:
        return LoraInfo(name=path.stem)
    if version != str(VERSION):
        raise CheckpointError(
            f"{path} is of version {version}, and version {VERSION} is known here. Update AudioX."
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
        raise CheckpointError(f"The metadata of {path} cannot be read. ({error})") from None
