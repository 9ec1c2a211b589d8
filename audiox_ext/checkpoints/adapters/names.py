"""The names of tensors in LoRA files: which layer of the network, and which part of its change.

A name is that of a layer, with a prefix of the program that wrote it, and the name of a part. Kohya and
LyCORIS replace the dots of the layer's name by underscores, so only the network's own names tell which layer
it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

# Parts by the end of the tensor's name. The longer of two that fit counts.
_ENDS = {
    **{f"{end}.weight": part for end, part in ((".lora_A", "down"), (".lora_B", "up"))},
    **{".lora_A": "down", ".lora_B": "up"},
    **{".lora_down.weight": "down", ".lora_up.weight": "up", ".lora_mid.weight": "mid"},
    **{".lora.down.weight": "down", ".lora.up.weight": "up"},
    **{"_lora.down.weight": "down", "_lora.up.weight": "up"},
    **{".lora_linear_layer.down.weight": "down", ".lora_linear_layer.up.weight": "up"},
    **{
        f".{part}": part
        for part in ("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b", "hada_t1", "hada_t2")
    },
    **{
        f".{part}": part
        for part in ("lokr_w1", "lokr_w1_a", "lokr_w1_b", "lokr_w2", "lokr_w2_a", "lokr_w2_b")
    },
    **{f".{part}.weight": part for part in ("a1", "a2", "b1", "b2")},
    **{f".{part}": part for part in ("lokr_t2", "oft_blocks", "rescale", "alpha", "dora_scale")},
    **{f".{part}": part for part in ("diff", "diff_b", "w_norm", "b_norm", "set_weight", "reshape_weight")},
    **{".lora_magnitude_vector": "magnitude", ".lora_magnitude_vector.weight": "magnitude"},
}
# peft writes the name of the adapter between, such as lora_A.default.weight.
_PEFT_PARTS = ("lora_A", "lora_B", "lora_down", "lora_up", "lora_magnitude_vector")
KNOWN_PARTS = (
    "LoRA (lora_A and lora_B, lora_down and lora_up, lora.down and lora.up, lora_linear_layer, lora_mid), "
    "DoRA (dora_scale, lora_magnitude_vector), LoHa (hada_*), LoKr (lokr_*), GLoRA (a1, a2, b1, b2), OFT and "
    "BOFT (oft_blocks), diff, diff_b, w_norm, b_norm and set_weight"
)
"""The parts that are read, for messages."""

# No network of this engine has layers whose names begin with these.
_WRAPPERS = ("base_model.model.", "diffusion_model.", "model.")
_PREFIXES = (*_WRAPPERS, "unet.", "transformer.")
_LONGEST_NAME = 500  # characters; prefixes are removed one by one
_UNDERSCORE_PREFIXES = ("lora_unet_", "lora_transformer_", "lora_prior_unet_", "lycoris_")
KNOWN_PREFIXES = (
    "diffusion_model., transformer., unet., model. or base_model.model., and with underscores for dots after "
    "lora_unet_, lora_transformer_ or lycoris_"
)
"""The prefixes that are read, for messages."""


def split_name(key: str) -> tuple[str, str] | None:
    """Split the name of a tensor into its layer, without the certain prefixes, and the part.

    Returns:
        Layer and part; None if it is not a part of a LoRA.
    """
    if len(key) > _LONGEST_NAME:
        return None
    match key.rsplit(".", 3):
        case [layer, kind, _, "weight"] if kind in _PEFT_PARTS:
            key = f"{layer}.{kind}.weight"
    ends = [end for end in _ENDS if key.endswith(end) and key != end]
    if not ends:
        return None
    end = max(ends, key=len)
    return _strip(key.removesuffix(end)), _ENDS[end]


def _strip(name: str) -> str:
    """Remove the prefixes that are certain."""
    while prefix := next((p for p in _WRAPPERS if name.startswith(p) and name != p), ""):
        name = name.removeprefix(prefix)
    return name


@dataclass(frozen=True, kw_only=True)
class LayerNames:
    """Layer names of a file, found in a network.

    Attributes:
        parameters: the network's parameter by layer name of the file.
        unknown: layer names that the network lacks.
        ambiguous: several possible parameters by layer name of the file.
    """

    parameters: dict[str, str] = field(default_factory=dict)
    unknown: list[str] = field(default_factory=list)
    ambiguous: dict[str, list[str]] = field(default_factory=dict)


def find_parameters(names: Iterable[str], parameters: Iterable[str]) -> LayerNames:
    """Find the network's parameters that belong to layer names of a file.

    Args:
        names: layers as `split_name` returns them. A layer stands for its weight; `X.bias` and names of other
            parameters, such as the gain of a norm, for themselves.
        parameters: names of the network's parameters.
    """
    parameters = set(parameters)
    by_underscores: dict[str, set[str]] = {}
    for parameter in parameters:
        layer = parameter.removesuffix(".weight")
        if layer != parameter:
            by_underscores.setdefault(layer.replace(".", "_"), set()).add(layer)
    result = LayerNames()
    for name in names:
        matches = _find(name, parameters, by_underscores)
        if len(matches) == 1:
            result.parameters[name] = matches.pop()
        elif matches:
            result.ambiguous[name] = sorted(matches)
        else:
            result.unknown.append(name)
    return result


def _find(name: str, parameters: set[str], by_underscores: Mapping[str, set[str]]) -> set[str]:
    """Return the parameters that a name can mean."""
    matches = set()
    for form in _strip_all(name, _PREFIXES):
        matches |= {form, f"{form}.weight", f"{form.replace('.processor.to_', '.to_')}.weight"} & parameters
    is_bias = name.endswith(".bias")
    for start in _UNDERSCORE_PREFIXES:
        if name.startswith(start):
            rest = name.removeprefix(start).removeprefix("_").removesuffix(".bias")
            for form in _strip_all(rest, tuple(prefix.replace(".", "_") for prefix in _PREFIXES)):
                layers = by_underscores.get(form, set())
                matches |= {f"{layer}.{'bias' if is_bias else 'weight'}" for layer in layers} & parameters
    return matches


def _strip_all(name: str, prefixes: tuple[str, ...]) -> list[str]:
    """Return the name, and the name without one or more prefixes."""
    forms = [name]
    for form in forms:
        forms += [form.removeprefix(prefix) for prefix in prefixes if form.startswith(prefix)]
    return forms
