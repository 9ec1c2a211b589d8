"""LoRA files: every naming scheme with wrong matrices, and damaged metadata."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from bad_case import Case, Place

# (down, up) of every naming scheme.
SCHEMES = {
    "peft": ("base_model.model.x.lora_A.weight", "base_model.model.x.lora_B.weight"),
    "peft with an adapter's name": ("x.lora_A.default.weight", "x.lora_B.default.weight"),
    "without .weight": ("diffusion_model.x.lora_A", "diffusion_model.x.lora_B"),
    "kohya": ("lora_unet_x.lora_down.weight", "lora_unet_x.lora_up.weight"),
    "diffusers": ("unet.x.lora.down.weight", "unet.x.lora.up.weight"),
    "old diffusers": ("x_lora.down.weight", "x_lora.up.weight"),
    "linear layers": ("x.lora_linear_layer.down.weight", "x.lora_linear_layer.up.weight"),
    "LyCORIS": ("lycoris_x.lora_down.weight", "lycoris_x.lora_up.weight"),
}
DAMAGED = r"(?i)lora_A|lora_B|rank|incomplete|finite|shape|several|two|not a LoRA|other than"


def _ones(*shape: int) -> Any:
    import torch

    return torch.ones(shape)


def _file(
    tensors: Callable[[], dict[str, Any]], metadata: dict[str, str] | None = None
) -> Callable[[Place], Path]:
    """Write a LoRA of these tensors."""

    def make(place: Place) -> Path:
        from safetensors.torch import save_file

        save_file(tensors(), place.own / "bad.safetensors", metadata)
        return place.own / "bad.safetensors"

    return make


def _read(path: Path) -> Any:
    from audiox_ext import read_lora

    return read_lora(path)


def _apply(path: Path) -> Any:
    from good_files import load_pocket

    from audiox_ext import set_loras

    return set_loras(load_pocket(), [(path, 1.0)], accept_cc_by_nc=True)


def _list_schemes() -> list[Case]:
    """Every naming scheme with matrices that do not fit, and with one missing."""
    cases = []
    for name, (down, up) in SCHEMES.items():
        cases += [
            Case(
                f"{name}, ranks differ",
                _file(lambda d=down, u=up: {d: _ones(2, 4), u: _ones(4, 3)}),
                _read,
                r"(2, 4).*(4, 3)",
            ),
            Case(
                f"{name}, half is missing",
                _file(lambda d=down: {d: _ones(2, 4)}),
                _read,
                r"(?i)incomplete|has no",
            ),
            Case(
                f"{name}, NaN",
                _file(lambda d=down, u=up: {d: _ones(2, 4) * float("nan"), u: _ones(4, 2)}),
                _read,
                r"(?i)finite|nan",
            ),
        ]
    return cases


def _with(**parts: Any) -> Callable[[Place], Path]:
    """A LoRA of one layer with these parts; a part is a function that makes a tensor."""
    names = {"A": "x.lora_A.weight", "B": "x.lora_B.weight"}
    return _file(lambda: {names.get(name, f"x.{name}"): make() for name, make in parts.items()})


def _full(value: Any, *shape: int, dtype: str = "float32") -> Callable[[], Any]:
    """A function that makes a tensor."""

    def make() -> Any:
        import torch

        return torch.full(shape, value, dtype=getattr(torch, dtype))

    return make


A, B = _full(1.0, 2, 4), _full(1.0, 4, 2)
TENSORS: dict[str, tuple[Callable[[Place], Path], str]] = {
    "alpha NaN": (_with(A=A, B=B, alpha=_full(float("nan"))), r"(?i)finite"),
    "alpha infinite": (_with(A=A, B=B, alpha=_full(float("inf"))), r"(?i)finite"),
    "alpha a vector": (_with(A=A, B=B, alpha=_full(1.0, 3)), r"alpha"),
    "alpha a bool": (_with(A=A, B=B, alpha=_full(True, dtype="bool")), r"(?i)finite|bool|alpha"),
    "alpha alone": (_with(alpha=_full(1.0)), r"(?i)not a LoRA"),
    "int8 matrices": (_with(A=_full(1, 2, 4, dtype="int8"), B=B), r"(?i)finite|int8"),
    "bool matrices": (_with(A=_full(True, 2, 4, dtype="bool"), B=B), r"(?i)finite|bool"),
    "complex matrices": (_with(A=_full(1j, 2, 4, dtype="complex64"), B=B), r"(?i)finite|complex"),
    "infinite values": (_with(A=_full(float("inf"), 2, 4), B=B), r"(?i)finite"),
    "rank 0": (_with(A=_full(1.0, 0, 4), B=_full(1.0, 4, 0)), r"rank"),
    "matrices of no axis": (_with(A=_full(1.0), B=_full(1.0)), r"rank"),
    "matrices of five axes": (_with(A=_full(1.0, 2, 4, 1, 1, 1), B=_full(1.0, 4, 2, 2, 1, 1)), r"rank"),
    "two methods": (_with(A=A, B=B, lokr_w1=A, lokr_w2=B), r"several"),
    "a third matrix that does not fit": (
        _with(A=A, B=B, **{"lora_mid.weight": _full(1.0, 5, 5, 1)}),
        DAMAGED,
    ),
    "LoHa, half of it": (_with(hada_w1_a=B, hada_w1_b=A), r"hada_w2"),
    "LoHa, ranks differ": (
        _with(hada_w1_a=B, hada_w1_b=A, hada_w2_a=_full(1.0, 4, 3), hada_w2_b=A),
        r"\(4, 3\)",
    ),
    "LoKr, half of it": (_with(lokr_w1=A), r"lokr_w2"),
    "LoKr, twice": (_with(lokr_w1=A, lokr_w1_a=A, lokr_w1_b=B, lokr_w2=A), r"lokr_w1 twice"),
    "LoKr, no matrix": (_with(lokr_w1=_full(1.0, 4), lokr_w2=A), r"lokr_w1"),
    "GLoRA, half of it": (_with(**{"a1.weight": A, "a2.weight": B}), r"b1"),
    "GLoRA, vectors": (_with(**{f"{n}.weight": _full(1.0, 4) for n in ("a1", "a2", "b1", "b2")}), r"a1"),
    "OFT of two axes": (_with(oft_blocks=A), r"oft_blocks"),
    "DoRA alone": (_with(dora_scale=_full(1.0, 4)), r"(?i)lora_A|DoRA|incomplete"),
    "DoRA of a difference": (_with(diff=A, dora_scale=_full(1.0, 4)), r"DoRA"),
    "DoRA twice": (_with(A=A, B=B, dora_scale=_full(1.0, 4), lora_magnitude_vector=_full(1.0, 4)), r"DoRA"),
    "another shape": (_with(A=A, B=B, reshape_weight=_full(9, 2, dtype="int64")), r"reshape_weight"),
    "a shape of 10^18": (_with(A=A, B=B, reshape_weight=_full(10**18, 2, dtype="int64")), r"reshape_weight"),
    "two biases": (_with(diff_b=_full(1.0, 4), b_norm=_full(1.0, 4)), r"several"),
    "unknown parts": (_with(A=A, B=B, surprise=A), r"surprise"),
    "a whole model": (_file(lambda: {"model.layers.0.weight": _ones(4, 4)}), r"not a LoRA"),
    "one matrix under two names": (
        _file(
            lambda: {
                "x.lora_A.weight": _ones(2, 4),
                "x.lora_down.weight": _ones(2, 4),
                "x.lora_B.weight": _ones(4, 2),
            }
        ),
        r"two tensors",
    ),
    "a name of 100000 letters": (
        _file(lambda: {f"{'a.' * 50_000}lora_A.weight": _ones(2, 4)}),
        r"(?i)not a LoRA|name",
    ),
}
APPLIED: dict[str, tuple[Callable[[Place], Path], str]] = {
    "a layer that the model lacks": (_with(A=A, B=B), r"lacks 1"),
    "sizes of another model": (
        _file(
            lambda: {
                f"diffusion_model.{_layer()}.lora_A.weight": _ones(2, 7),
                f"diffusion_model.{_layer()}.lora_B.weight": _ones(9, 2),
            }
        ),
        r"\(9, 7\)",
    ),
    "LoKr of 10^9 values": (
        _file(lambda: {f"{_layer()}.lokr_w1": _ones(30000, 1), f"{_layer()}.lokr_w2": _ones(30000, 1)}),
        r"900000000",
    ),
    "OFT of no block": (_file(lambda: {f"{_layer()}.oft_blocks": _ones(0, 4, 4)}), r"(?i)blocks|shape|fit"),
    "OFT of blocks that are not square": (
        _file(lambda: {f"{_layer()}.oft_blocks": _ones(_shape()[0] // 4, 4, 3)}),
        r"(?i)blocks|shape|fit",
    ),
    "OFT of other blocks": (
        _file(lambda: {f"{_layer()}.oft_blocks": _ones(3, 7, 7)}),
        r"(?i)blocks|shape|fit",
    ),
    "values of 10^38": (
        _file(
            lambda: {
                f"{_layer()}.lora_A.weight": _ones(1, _shape()[1]) * 1e30,
                f"{_layer()}.lora_B.weight": _ones(_shape()[0], 1) * 1e30,
            }
        ),
        r"(?i)strength|finite|hold",
    ),
}


def _layer() -> str:
    """A linear layer of the bundled model."""
    return next(name for name, shape in _shapes().items() if len(shape) == 2)


def _shape() -> tuple[int, ...]:
    return _shapes()[_layer()]


def _shapes() -> dict[str, tuple[int, ...]]:
    from good_files import load_pocket

    from audiox_ext.checkpoints.lora_file import target_shapes

    return target_shapes(load_pocket().network)


PEFT = "lora_adapter_metadata"
METADATA: dict[str, tuple[dict[str, str], str]] = {
    "version 2": ({"audiox_lora": "2"}, r"version 2"),
    "version of 1 MB": ({"audiox_lora": "9" * 10**6}, r"version"),
    "steps that are a text": ({"steps": "many"}, r"(?i)metadata|steps"),
    "steps of 100000 digits": ({"steps": "9" * 10**5}, r"(?i)metadata|steps"),
    "steps NaN": ({"steps": "nan"}, r"(?i)metadata|steps"),
    "captions that are not JSON": ({"captions": "rain"}, r"(?i)metadata|captions"),
    "captions that are a number": ({"captions": "5"}, r"(?i)metadata|captions"),
    "deep captions": ({"captions": "[" * 10**5 + "]" * 10**5}, r"(?i)metadata|captions"),
    "peft's settings that are not JSON": ({PEFT: "{"}, r"(?i)metadata"),
    "peft's settings in a list": ({PEFT: "[]"}, PEFT),
    "deep settings of peft": ({PEFT: '{"a":' * 10**5}, r"(?i)metadata"),
    "peft's alpha NaN": ({PEFT: json.dumps({"lora_alpha": float("nan")})}, r"lora_alpha"),
    "peft's alpha infinite": ({PEFT: '{"lora_alpha": 1e999}'}, r"lora_alpha"),
    "peft's alpha of 10^400": ({PEFT: '{"lora_alpha": ' + "9" * 400 + "}"}, r"lora_alpha"),
    "peft's alpha a text": ({PEFT: '{"lora_alpha": "16"}'}, r"lora_alpha"),
    "peft's alphas in a list": (
        {PEFT: '{"lora_alpha": 1, "alpha_pattern": [1]}'},
        r"(?i)metadata|alpha_pattern",
    ),
    "peft's alphas of text": ({PEFT: '{"lora_alpha": 1, "alpha_pattern": {"x": "2"}}'}, r"(?i)alpha"),
}


def _make_odd(kind: str) -> Callable[[Place], Any]:
    """Make a path of a LoRA that leads to no plain file."""

    def make(place: Place) -> Any:
        path = place.put_oddity(place.own / "bad.safetensors", kind)
        if kind == "a pickle":
            path = place.write("bad.ckpt", b"x")
        elif kind == "a name with a NUL":
            return str(place.own / "a\0b.safetensors")
        elif kind == "a name of 300 letters":
            path = place.own / f"{'x' * 300}.safetensors"
        elif kind == "a name that is not UTF-8":
            path = place.own / "caf\udce9.safetensors"
            path.write_bytes(place.sample("lora.safetensors"))
        return path

    return make


def _use_strength(value: Any) -> Callable[[Any], Any]:
    def call(path: Path) -> Any:
        from good_files import load_pocket

        from audiox_ext import set_loras

        return set_loras(load_pocket(), [(path, value)], accept_cc_by_nc=True)

    return call


def list_cases() -> list[Case]:
    """All cases of this module."""
    layer = {"audiox_lora": "1"}
    tensors = _file(lambda: {"x.lora_A.weight": _ones(2, 4), "x.lora_B.weight": _ones(4, 2)})
    groups = {
        "names of a LoRA": _list_schemes(),
        "tensors of a LoRA": [Case(name, make, _read, pattern) for name, (make, pattern) in TENSORS.items()],
        "LoRA that does not fit": [
            *(Case(name, make, _apply, pattern) for name, (make, pattern) in APPLIED.items()),
            *(
                Case(
                    f"strength {value!r}",
                    tensors,
                    _use_strength(value),
                    rf"(?i)strength.*{re.escape(str(value))}",
                )
                for value in (float("nan"), float("inf"), "1", None, [1.0])
            ),
        ],
        "metadata of a LoRA": [
            Case(name, _file(_two, {**layer, **metadata}), _read, pattern)
            for name, (metadata, pattern) in METADATA.items()
        ],
        "no file at all": [
            Case(
                f"LoRA, {kind}", _make_odd(kind), _read, r"(?i)no file|not a .safetensors|cannot|name|regular"
            )
            for kind in (
                "no file",
                "a folder",
                "a pipe",
                "a link to itself",
                "a pickle",
                "a name with a NUL",
                "a name of 300 letters",
                "a name that is not UTF-8",
            )
        ],
    }
    return [replace(case, kind=kind) for kind, cases in groups.items() for case in cases]


def _two() -> dict[str, Any]:
    return {"x.lora_A.weight": _ones(2, 4), "x.lora_B.weight": _ones(4, 2)}
