"""Headers of .safetensors files: of models, Synchformer, LoRAs and features."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bad_case import Case, Place
from model_files import load_model, load_sync, make_model

DAMAGED = (
    r"(?i)damaged|incomplete|cannot be read|missing|not a LoRA|too large|does not fit|do not contain|"
    r"not contain|No key|at most \d+ are read|has only \d+ bytes"
)


def build_file(header: Any, data: bytes = bytes(16), length: int | None = None) -> bytes:
    """A .safetensors file with any header: an object, or its bytes."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + data


def _tensor(**changes: Any) -> dict[str, Any]:
    """A header with one tensor of 4 numbers."""
    entry = {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]} | changes
    return {"x.lora_A.weight": {key: value for key, value in entry.items() if value is not None}}


def _two(first: list[int], second: list[int]) -> dict[str, Any]:
    """A header with two tensors at these places."""
    entries = {
        name: {"dtype": "F32", "shape": [2], "data_offsets": at} for name, at in (("a", first), ("b", second))
    }
    return {f"{name}.lora_A.weight": entry for name, entry in entries.items()}


ENTRY = b'"x.lora_A.weight":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}'
HEADERS: dict[str, Callable[[], bytes]] = {
    "empty": lambda: b"",
    "seven bytes": lambda: bytes(7),
    "length 0": lambda: bytes(8),
    "length beyond the file": lambda: build_file(_tensor(), length=10**6),
    "length 2^63": lambda: build_file(_tensor(), length=2**63),
    "length 2^64 - 1": lambda: build_file(_tensor(), length=2**64 - 1),
    "length of the file": lambda: build_file(_tensor(), b"", length=len(json.dumps(_tensor())) + 8),
    "not JSON": lambda: build_file(b"hello"),
    "half of the JSON": lambda: build_file(json.dumps(_tensor()).encode()[:20]),
    "a list": lambda: build_file([]),
    "a text": lambda: build_file("x"),
    "no tensors": lambda: build_file({}, b""),
    "not UTF-8": lambda: build_file(b'{"caf\xe9":1}'),
    "a lone surrogate": lambda: build_file(ENTRY.join((b"{", b"}")).replace(b"x.lora", b"\\ud800.lora")),
    "zero bytes": lambda: build_file(bytes(50)),
    "1 MB of blanks": lambda: build_file(b" " * 1_000_000),
    "blanks of 101 MB": lambda: build_file(b" " * 101_000_000),
    "deep nesting": lambda: build_file(b'{"a":' * 100_000),
    "50000 tensors": lambda: build_file(
        {f"t{i}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for i in range(50_000)}, b""
    ),
    "a tensor twice": lambda: build_file(b"{" + ENTRY + b"," + ENTRY + b"}"),
    "overlapping tensors": lambda: build_file(_two([0, 8], [4, 12]), bytes(12)),
    "a gap between tensors": lambda: build_file(_two([0, 8], [16, 24]), bytes(24)),
    "equal places": lambda: build_file(_two([0, 8], [0, 8]), bytes(8)),
    "offsets beyond the file": lambda: build_file(_tensor(data_offsets=[0, 16]), bytes(4)),
    "offsets reversed": lambda: build_file(_tensor(data_offsets=[16, 0])),
    "offsets of 2^62": lambda: build_file(_tensor(data_offsets=[2**62, 2**62 + 16])),
    "a negative offset": lambda: build_file(_tensor(data_offsets=[-16, 0])),
    "offsets as text": lambda: build_file(_tensor(data_offsets=["0", "16"])),
    "one offset": lambda: build_file(_tensor(data_offsets=[0])),
    "no offsets": lambda: build_file(_tensor(data_offsets=None)),
    "unused bytes at the end": lambda: build_file(_tensor(), bytes(1000)),
    "an unknown type": lambda: build_file(_tensor(dtype="F128")),
    "a type of 4 bits": lambda: build_file(_tensor(dtype="F4", shape=[32])),
    "no type": lambda: build_file(_tensor(dtype=None)),
    "a type that is a number": lambda: build_file(_tensor(dtype=32)),
    "a negative size": lambda: build_file(_tensor(shape=[-4])),
    "a size of 1.5": lambda: build_file(_tensor(shape=[1.5])),
    "sizes whose product overflows": lambda: build_file(_tensor(shape=[2**32, 2**32])),
    "a size of 2^64": lambda: build_file(_tensor(shape=[2**64])),
    "a shape that is too large": lambda: build_file(_tensor(shape=[5])),
    "a shape of 100000 axes": lambda: build_file(_tensor(shape=[1] * 100_000)),
    "metadata that is a list": lambda: build_file({"__metadata__": [], **_tensor()}),
    "metadata of numbers": lambda: build_file({"__metadata__": {"a": 1}, **_tensor()}),
    "NaN": lambda: build_file(b'{"x":{"dtype":"F32","shape":[NaN],"data_offsets":[0,16]}}'),
}
# Others read the same bytes by the same function; these differ between the readers.
FOR_OTHERS = (
    "empty",
    "length 2^64 - 1",
    "not JSON",
    "no tensors",
    "not UTF-8",
    "deep nesting",
    "overlapping tensors",
    "an unknown type",
    "sizes whose product overflows",
    "metadata of numbers",
)


def read_lora_file(path: Path) -> Any:
    from audiox_ext import read_lora

    return read_lora(path)


def read_features_file(path: Path) -> Any:
    from audiox_ext.conditioning.feature_cache import read_features

    return read_features(path)


READERS: dict[str, tuple[str, Callable[[Path], Any]]] = {
    "LoRA": ("lora.safetensors", read_lora_file),
    "Synchformer": ("sync.safetensors", load_sync),
    "features": ("features.safetensors", read_features_file),
}


def list_cases() -> list[Case]:
    """All cases of this module."""
    models = [
        Case(
            name,
            lambda p, build=build: make_model(p, build(), "model.safetensors"),
            load_model,
            DAMAGED,
            kind="header of a model",
        )
        for name, build in HEADERS.items()
    ]
    others = [
        Case(
            f"{reader}, {name}",
            lambda p, file=file, name=name: p.write(file, HEADERS[name]()),
            read,
            f"{Path(file).stem}.*({DAMAGED.removeprefix('(?i)')})".join(("(?is)", "")),
            kind="header of another file",
        )
        for reader, (file, read) in READERS.items()
        for name in FOR_OTHERS
    ]
    text_encoder = [
        Case(
            f"text encoder, {name}",
            lambda p, name=name: make_text_encoder(p, HEADERS[name]()),
            load_model,
            DAMAGED,
            kind="header of another file",
        )
        for name in FOR_OTHERS[:6]
    ]
    return [*models, *others, *text_encoder]


def make_text_encoder(place: Place, content: bytes) -> Path:
    """A model whose text encoder has other weights."""
    folder = make_model(place, None)
    (folder / "text_encoder").unlink()
    (folder / "text_encoder").mkdir()
    for file in (place.samples / "model" / "text_encoder").iterdir():
        if file.suffix != ".safetensors":
            (folder / "text_encoder" / file.name).symlink_to(file)
    (folder / "text_encoder" / "model.safetensors").write_bytes(content)
    return folder
