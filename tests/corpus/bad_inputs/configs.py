"""config.json: numbers out of range, wrong types, and files that are not JSON."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bad_case import Case, Place
from model_files import load_model, make_model

NETWORK = "model/diffusion/config/"
ENCODER, DECODER = (f"model/pretransform/config/{part}/config/" for part in ("encoder", "decoder"))
CLIP, TEXT, SOUND = (f"model/conditioning/configs/{index}/config/" for index in range(3))
NUMBERS = (
    *("sample_size", "sample_rate", "video_fps", "audio_channels", "model/conditioning/cond_dim"),
    *(f"{NETWORK}{name}" for name in ("io_channels", "embed_dim", "depth", "num_heads", "cond_token_dim")),
    *(f"model/pretransform/config/{name}" for name in ("latent_dim", "downsampling_ratio", "io_channels")),
    *(f"{DECODER}{name}" for name in ("out_channels", "channels", "latent_dim")),
    *(f"{ENCODER}{name}" for name in ("in_channels", "channels", "latent_dim")),
    *(f"{CLIP}{name}" for name in ("out_features", "temporal_dim", "temporal_depth", "temporal_heads")),
    *(f"{CLIP}clip_config/{name}" for name in ("hidden_size", "num_hidden_layers", "image_size")),
    *(f"{TEXT}{name}" for name in ("max_length", "dim")),
    f"{SOUND}empty_seq_len",
)
VALUES: tuple[Any, ...] = (-1, 0, 10**18, float("nan"), "8", [8], 1e400, 10**30, True, 0.5, {}, -(10**18))
FIELD = r"(?i)config\.json|does not fit|{name}"


def make_config(place: Place, text: str | bytes) -> Path:
    """Make a model with this config.json."""
    folder = make_model(place, None)
    path = folder / "config.json"
    path.unlink()
    path.write_bytes(text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text)
    return folder


def read_good(place: Place) -> dict[str, Any]:
    """The sample's config.json."""
    return json.loads((place.samples / "model" / "config.json").read_text())


def _change(place: Place, field: str, value: Any) -> Path:
    """Make a model with another value in its config.json."""
    config = read_good(place)
    *parents, last = field.split("/")
    section: Any = config
    for name in parents:
        section = section[int(name)] if isinstance(section, list) else section[name]
    section[int(last) if isinstance(section, list) else last] = value
    return make_config(place, json.dumps(config))


def _list_numbers() -> list[Case]:
    """Every number with two bad values; all values occur."""
    cases = []
    for index, field in enumerate(NUMBERS):
        name = field.rpartition("/")[2]
        for step in (0, 5):
            value = VALUES[(index + step) % len(VALUES)]
            cases.append(
                Case(
                    f"{field} = {value!r:.20}",
                    lambda p, field=field, value=value: _change(p, field, value),
                    load_model,
                    FIELD.format(name=name),
                    kind="number in config.json",
                )
            )
    return cases


OTHER_VALUES: dict[str, tuple[str, Any, str]] = {
    "model_type unknown": ("model_type", "lm", r"model_type"),
    "model_type a number": ("model_type", 5, r"model_type"),
    "no model": ("model", None, r"model"),
    "no diffusion": ("model/diffusion", None, r"diffusion"),
    "an unknown network": ("model/diffusion/type", "unet", r"unet"),
    "an unknown objective": ("model/diffusion/diffusion_objective", "x0", r"x0"),
    "an unknown bottleneck": ("model/pretransform/config/bottleneck/type", "rvq", r"rvq"),
    "an unknown conditioner": ("model/conditioning/configs/0/type", "int", r"int"),
    "conditioners in an object": ("model/conditioning/configs", {}, r"configs"),
    "a conditioner that is a text": ("model/conditioning/configs/1", "t5", r"configs"),
    "no conditioners": ("model/conditioning/configs", [], r"(?i)cross_attention|prompt"),
    "a conditioner's name with a path": ("model/conditioning/configs/0/id", "../x_prompt", r"id"),
    "a conditioner's name twice": ("model/conditioning/configs/0/id", "text_prompt", r"text_prompt"),
    "a conditioner's name of 1 MB": (
        "model/conditioning/configs/0/id",
        "a" * 10**6 + "_prompt",
        r"(?i)id|missing|unexpected",
    ),
    "prompts that do not exist": ("model/diffusion/cross_attention_cond_ids", ["x_prompt"], r"x_prompt"),
    "prompts of numbers": ("model/diffusion/cross_attention_cond_ids", [1], r"cross_attention_cond_ids"),
    "a prompt 100000 times": (
        "model/diffusion/cross_attention_cond_ids",
        ["text_prompt"] * 10**5,
        r"(?i)cross_attention|text_prompt|\d+ bytes",
    ),
    "strides of a million": (f"{DECODER}strides", [2] * 10**6, r"(?i)strides|downsampling|\d+ bytes"),
    "strides of 10^18": (f"{DECODER}strides", [10**18] * 4, r"(?i)strides|downsampling"),
    "no strides": (f"{DECODER}strides", [], r"strides"),
    "strides with NaN": (f"{DECODER}strides", [2, 4, float("nan"), 8], r"strides"),
    "c_mults of 10^18": (f"{DECODER}c_mults", [1, 2, 2, 10**18], r"(?i)c_mults|does not fit|channels"),
    "one c_mult": (f"{DECODER}c_mults", [1], r"(?i)c_mults|strides"),
    "a text encoder outside": (f"{TEXT}t5_model_name", "../../../etc", r"(?i)etc|t5_model_name|text encoder"),
    "a text encoder by its whole path": (
        f"{TEXT}t5_model_name",
        "/etc",
        r"(?i)etc|t5_model_name|text encoder",
    ),
    "a text encoder with a NUL": (f"{TEXT}t5_model_name", "a\0b", r"(?i)t5_model_name|text encoder|name"),
    "a text encoder of 5000 letters": (
        f"{TEXT}t5_model_name",
        "x" * 5000,
        r"(?i)t5_model_name|text encoder|name",
    ),
    "a text encoder with a lone surrogate": (
        f"{TEXT}t5_model_name",
        "\ud800",
        r"(?i)t5_model_name|text encoder|name|ud800",
    ),
    "a licence that is a number": ("license", 5, r"license"),
    "a licence that is a list": ("license", ["MIT"], r"license"),
    "a non-commercial licence": ("license", "CC-BY-NC-4.0", r"(?i)CC-BY-NC"),
    "an unknown activation": (f"{CLIP}clip_config/hidden_act", "relu", r"hidden_act"),
    "training that is a list": ("training", [], r"training"),
    "a negative number of steps": ("training", {"dmd_sample_steps": -1}, r"dmd_sample_steps"),
}


def _twice(place: Place, *, license: bool = False) -> str:
    """JSON in which a key stands twice."""
    text = json.dumps(read_good(place))
    if license:
        return text.replace('"license": "MIT"', '"license": "CC-BY-NC-4.0", "license": "MIT"')
    return text.replace('"sample_rate": 16000', '"sample_rate": 8000, "sample_rate": 16000', 1)


TEXTS: dict[str, Callable[[Place], str | bytes]] = {
    "empty": lambda place: "",
    "blanks of 1 MB": lambda place: " " * 10**6,
    "not JSON": lambda place: "sample_rate: 16000",
    "half of it": lambda place: json.dumps(read_good(place))[:500],
    "followed by more": lambda place: json.dumps(read_good(place)) + "}",
    "a list": lambda place: "[]",
    "a text": lambda place: '"config"',
    "a number": lambda place: "1e999",
    "null": lambda place: "null",
    "empty object": lambda place: "{}",
    "UTF-16": lambda place: json.dumps(read_good(place)).encode("utf-16"),
    "Latin-1": lambda place: '{"license": "caf\xe9"}'.encode("latin-1"),
    "zero bytes": lambda place: bytes(1000),
    "binary": lambda place: bytes(range(256)) * 100,
    "nested lists": lambda place: "[" * 10**5,
    "nested objects": lambda place: '{"model":' * 10**5,
    "a number of 100000 digits": lambda place: '{"sample_rate": ' + "9" * 10**5 + "}",
    "a lone surrogate": lambda place: '{"model_type": "\\ud800"}',
    "a key twice": lambda place: _twice(place),
    "a licence twice": lambda place: _twice(place, license=True),
    "a comment": lambda place: "// a comment\n" + json.dumps(read_good(place)),
}


def _make_odd(kind: str) -> Callable[[Place], Path]:
    """Make something in place of config.json that is not a plain file."""

    def make(place: Place) -> Path:
        folder = make_model(place, None)
        path = folder / "config.json"
        path.unlink()
        place.put_oddity(path, kind)
        return folder

    return make


def list_cases() -> list[Case]:
    """All cases of this module."""
    values = [
        Case(
            name,
            lambda p, field=field, value=value: _change(p, field, value),
            load_model,
            pattern,
            kind="value in config.json",
        )
        for name, (field, value, pattern) in OTHER_VALUES.items()
    ]
    texts = [
        Case(
            name,
            lambda p, make=make: make_config(p, make(p)),
            load_model,
            r"(?i)config\.json.*(JSON|missing|object|must|twice|is )|(?i:licen[cs]e)",
            kind="text of config.json",
        )
        for name, make in TEXTS.items()
    ]
    odd = [
        Case(f"config.json, {name}", _make_odd(name), load_model, r"config\.json", kind="no file at all")
        for name in ("no file", "a folder", "a pipe", "a link to itself", "an endless device")
    ]
    return [*_list_numbers(), *values, *texts, *odd]
