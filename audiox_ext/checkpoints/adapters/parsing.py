"""Builds the changes of weights from the tensors of a LoRA file, and checks their shapes and values."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ...errors import CheckpointError, is_number, quote_value
from .additions import DifferenceLayer, HadamardLayer, KroneckerLayer, LoraLayer, Matrix, TuckerLayer
from .base import Product, WeightChange
from .transformations import GeneralizedLayer, MagnitudeLayer, ReplacementLayer, RotationLayer

Parts = Mapping[str, Tensor]

# The parts of each method; those of LoRA come first, because an alpha alone is counted as one.
_METHODS: dict[str, tuple[str, ...]] = {
    "LoRA": ("down", "up", "mid", "reshape_weight"),
    "LoHa": ("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b", "hada_t1", "hada_t2"),
    "LoKr": ("lokr_w1", "lokr_w1_a", "lokr_w1_b", "lokr_w2", "lokr_w2_a", "lokr_w2_b", "lokr_t2"),
    "GLoRA": ("a1", "a2", "b1", "b2"),
    "OFT": ("oft_blocks", "rescale"),
    "diff": ("diff",),
    "w_norm": ("w_norm",),
    "set_weight": ("set_weight",),
}
_BIAS_PARTS = ("diff_b", "b_norm")
_MAGNITUDES = ("dora_scale", "magnitude")
_LABELS = {"down": "lora_A", "up": "lora_B", "mid": "lora_mid", "magnitude": "lora_magnitude_vector"}


@dataclass(frozen=True, kw_only=True)
class PeftSettings:
    """The settings of peft in a file's metadata, which stand for missing alphas.

    Attributes:
        alpha: alpha of all layers, None if not known.
        patterns: other alphas by the end of a layer's name; the longest end counts.
        is_root: whether alpha is divided by the square root of the rank.
    """

    alpha: float | None = None
    patterns: Mapping[str, float] = field(default_factory=dict)
    is_root: bool = False

    def alpha_of(self, layer: str, rank: int) -> float:
        """Return the alpha of a layer. Without settings nothing is scaled, as in other programs."""
        words = layer.split(".")
        ends = (".".join(words[start:]) for start in range(len(words)))
        alpha = next((self.patterns[end] for end in ends if end in self.patterns), self.alpha)
        if alpha is None:
            return float(rank)
        return alpha * rank**0.5 if self.is_root else alpha


def parse_peft_settings(metadata: Mapping[str, str]) -> PeftSettings:
    """Parse the settings that diffusers writes into a file's metadata.

    Kohya's `ss_network_alpha` is not used: files that have it without alphas were converted, and their
    matrices contain it.

    Raises:
        ValueError: they are damaged.
    """
    data: Any = json.loads(metadata.get("lora_adapter_metadata", "{}"))
    if not isinstance(data, dict):
        raise ValueError("lora_adapter_metadata is not an object")
    for prefix in ("transformer.", "unet.", "diffusion_model.", ""):
        if f"{prefix}lora_alpha" in data:
            patterns = dict(data.get(f"{prefix}alpha_pattern") or {})
            return PeftSettings(
                alpha=_parse_alpha(data[f"{prefix}lora_alpha"]),
                patterns={str(end): _parse_alpha(value) for end, value in patterns.items()},
                is_root=data.get(f"{prefix}use_rslora") is True,
            )
    return PeftSettings()


def _parse_alpha(value: Any) -> float:
    """Return an alpha of the metadata; raises `ValueError` if it is not a finite number."""
    if is_number(value):
        return float(value)
    raise ValueError(f"lora_alpha is {quote_value(value)}, not a finite number")


def build_changes(where: str, layer: str, parts: Parts, settings: PeftSettings) -> dict[str, WeightChange]:
    """Build the changes of a layer.

    Args:
        where: the file, for messages.
        layer: the layer's name in the file.
        parts: tensors by the parts of `split_name`.
        settings: alphas for a file without them.

    Returns:
        The changes by name: the layer's, for its weight, and `X.bias`.

    Raises:
        CheckpointError: tensors are missing, do not fit each other, or contain other than finite numbers.
    """
    return _Layer(where, layer, parts, settings).build()


@dataclass(frozen=True)
class _Layer:
    """The tensors of one layer in a file."""

    where: str
    name: str
    parts: Parts
    settings: PeftSettings

    def build(self) -> dict[str, WeightChange]:
        """Build the changes; see `build_changes`."""
        self._check_values()
        changes: dict[str, WeightChange] = {}
        biases = [part for part in _BIAS_PARTS if part in self.parts]
        methods = [name for name, parts in _METHODS.items() if any(part in self.parts for part in parts)]
        if len(biases) > 1 or len(methods) > 1:
            raise self._error(
                f"{self.name} has several changes of one weight: {', '.join(biases + methods)}."
            )
        if methods or not biases:
            changes[self.name] = self._build(methods[0] if methods else "LoRA")
        if biases:
            changes[f"{self.name}.bias"] = DifferenceLayer(values=self.parts[biases[0]])
        return changes

    def _build(self, method: str) -> WeightChange:
        """Build the change of the weight, with the magnitudes of DoRA if there are any."""
        builders = {
            "LoRA": self._build_lora,
            "LoHa": self._build_hadamard,
            "LoKr": self._build_kronecker,
            "GLoRA": self._build_generalized,
            "OFT": self._build_rotation,
            "diff": lambda: DifferenceLayer(values=self.parts["diff"]),
            "w_norm": lambda: DifferenceLayer(values=self.parts["w_norm"]),
            "set_weight": lambda: ReplacementLayer(values=self.parts["set_weight"]),
        }
        change: WeightChange = builders[method]()
        magnitudes = [part for part in _MAGNITUDES if part in self.parts]
        if not magnitudes:
            return change
        if len(magnitudes) > 1 or method not in ("LoRA", "LoHa", "LoKr", "GLoRA"):
            labels = ", ".join(_LABELS.get(part, part) for part in magnitudes)
            raise self._error(f"{self.name} has {labels} beside {method}, which is not a known form of DoRA.")
        magnitude = self.parts[magnitudes[0]]
        return MagnitudeLayer(change=change, magnitude=magnitude, of_original=magnitudes[0] == "dora_scale")

    def _build_lora(self) -> WeightChange:
        """Build LoRA, with or without a third matrix."""
        self._require("down", "up")
        down, up = self.parts["down"], self.parts["up"]
        product = self._product("up", "down", "mid")
        alpha = self._alpha()
        if alpha is None:
            alpha = self.settings.alpha_of(self.name, product.rank)
        if "reshape_weight" in self.parts:
            self._check_reshape(product.shape)
        if product.core is not None:
            return TuckerLayer(product=product, alpha=alpha)
        return LoraLayer(down=down, up=up, alpha=alpha)

    def _build_hadamard(self) -> WeightChange:
        """Build LoHa."""
        self._require("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b")
        if ("hada_t1" in self.parts) != ("hada_t2" in self.parts):
            self._require("hada_t1", "hada_t2")
        first, second = (
            self._product(f"hada_w{index}_a", f"hada_w{index}_b", f"hada_t{index}") for index in (1, 2)
        )
        alpha = self._alpha()
        return HadamardLayer(first=first, second=second, alpha=float(first.rank) if alpha is None else alpha)

    def _build_kronecker(self) -> WeightChange:
        """Build LoKr."""
        first, second = self._factor("lokr_w1", ""), self._factor("lokr_w2", "lokr_t2")
        return KroneckerLayer(first=first, second=second, alpha=self._alpha())

    def _factor(self, part: str, core: str) -> Matrix:
        """Return a matrix of LoKr, whole or as a product."""
        is_product = f"{part}_a" in self.parts or f"{part}_b" in self.parts
        if part in self.parts:
            if is_product:
                raise self._error(f"{self.name} has {part} twice: as one matrix, and as a product.")
            self._check_dimensions(part)
            return self.parts[part]
        if not is_product:
            self._require(part)
        self._require(f"{part}_a", f"{part}_b")
        return self._product(f"{part}_a", f"{part}_b", core)

    def _build_generalized(self) -> WeightChange:
        """Build GLoRA."""
        self._require("a1", "a2", "b1", "b2")
        for part in ("a1", "a2", "b1", "b2"):
            self._check_dimensions(part)
        a1, a2, b1, b2 = (self.parts[part] for part in ("a1", "a2", "b1", "b2"))
        return GeneralizedLayer(a1=a1, a2=a2, b1=b1, b2=b2, alpha=self._alpha())

    def _build_rotation(self) -> WeightChange:
        """Build OFT, whose blocks have three axes, or BOFT, whose blocks have four."""
        self._require("oft_blocks")
        blocks = self.parts["oft_blocks"]
        if blocks.dim() not in (3, 4):
            raise self._error(f"oft_blocks of {self.name} is {tuple(blocks.shape)}, not three or four axes.")
        return RotationLayer(
            blocks=blocks if blocks.dim() == 4 else blocks[None],
            rescale=self.parts.get("rescale"),
            limit=self._alpha() or 0.0,
            is_butterfly=blocks.dim() == 4,
        )

    def _product(self, up_part: str, down_part: str, core_part: str) -> Product:
        """Return a product after a check that its matrices fit each other."""
        up, down, core = (self.parts.get(part) for part in (up_part, down_part, core_part))
        assert up is not None
        assert down is not None
        if core is not None and up_part != "up":
            # In the Tucker form of LyCORIS the first matrix is (R, O).
            up = up.transpose(0, 1) if up.dim() == 2 else up
        if not _fit_each_other(up, down, core):
            used = [part for part in (down_part, up_part, core_part) if part in self.parts]
            labels = [(_LABELS.get(part, part), tuple(self.parts[part].shape)) for part in used]
            shapes = f"{labels[0][0]} is " + " and ".join(
                [str(labels[0][1]), *(f"{label} {shape}" for label, shape in labels[1:])]
            )
            raise self._error(
                f"for {self.name}, {shapes}. They must be (rank, in) and (out, rank), or for convolutions "
                "(rank, in, width) and (out, rank, 1)."
            )
        return Product(up=up, down=down, core=core)

    def _check_reshape(self, shape: tuple[int, ...]) -> None:
        """Raise `CheckpointError` if the LoRA makes the layer larger than its matrices say."""
        new = tuple(int(size) for size in self.parts["reshape_weight"].flatten().tolist())
        if new != shape:
            raise self._error(
                f"{self.name} changes the shape of the weight to {new} (reshape_weight), but its matrices "
                f"have the shape {shape}."
            )

    def _require(self, *parts: str) -> None:
        """Raise `CheckpointError` if a part is missing."""
        missing = [_LABELS.get(part, part) for part in parts if part not in self.parts]
        if missing:
            raise CheckpointError(
                f"{self.where} is incomplete: {self.name} has no {' and no '.join(missing)}. Choose another "
                "file."
            )

    def _check_dimensions(self, part: str) -> None:
        """Raise `CheckpointError` if a part is not a matrix."""
        tensor = self.parts[part]
        if tensor.dim() < 2 or not tensor.numel():
            raise self._error(f"{part} of {self.name} has the shape {tuple(tensor.shape)}, not a matrix's.")

    def _check_values(self) -> None:
        """Raise `CheckpointError` if a value is not a finite number."""
        for part, tensor in self.parts.items():
            is_number = tensor.is_floating_point() or (
                part in ("alpha", "reshape_weight") and not tensor.is_complex() and tensor.dtype != torch.bool
            )
            name = f"{_LABELS.get(part, part)} of {self.name}"
            if not is_number:
                raise self._error(
                    f"{name} is of type {str(tensor.dtype).removeprefix('torch.')}, but must hold "
                    "floating-point numbers."
                )
            if not bool(tensor.float().isfinite().all()):
                raise CheckpointError(
                    f"{self.where}: {name} contains values that are not finite numbers. Train it again."
                )

    def _alpha(self) -> float | None:
        """Return the alpha in the file, of any type, or None."""
        alpha = self.parts.get("alpha")
        if alpha is None:
            return None
        if alpha.numel() != 1:
            raise CheckpointError(
                f"{self.where}: the alpha of {self.name} has the shape {tuple(alpha.shape)}, not one number."
            )
        return float(alpha)

    def _error(self, problem: str) -> CheckpointError:
        """Return an error about this layer."""
        return CheckpointError(f"{self.where}: {problem} Choose another file.")


def _fit_each_other(up: Tensor, down: Tensor, core: Tensor | None) -> bool:
    """Whether the matrices of a product fit each other and have a rank."""
    if up.dim() < 2 or up.dim() != down.dim() or not (up.numel() and down.numel()):
        return False
    if up[0, 0].numel() != 1:
        return False
    if core is None:
        return up.shape[1] == down.shape[0]
    ranks = (up.shape[1], down.shape[0])
    return core.dim() > 2 and core.numel() > 0 and core.shape[:2] == ranks and down[0, 0].numel() == 1
