"""Folders of sounds with captions, settings of trainings, and files of features."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from bad_case import Case, Place

NAN = float("nan")
TABLES: dict[str, tuple[str, str | bytes, str]] = {
    "a quotation mark that stays open": (
        "captions.csv",
        'file,caption\nrain.wav,"rain\nx.wav,wind\n',
        r"line 3|quot",
    ),
    "more cells than columns": ("captions.csv", "file,caption\nrain.wav,rain, wind\n", r"line 2"),
    "no file": ("captions.csv", "file,caption\n,rain\n", r"line 2"),
    "no captions": ("captions.csv", "file,size\nrain.wav,5\n", r"(?i)columns"),
    "a whole path outside": ("captions.csv", "file,caption\n/etc/passwd.wav,x\n", r"(?i)outside"),
    "a path upwards": ("captions.csv", "file,caption\n../outside/secret.wav,x\n", r"(?i)outside"),
    "a path up and down": ("captions.csv", "file,caption\nx/../../outside/secret.wav,x\n", r"(?i)outside"),
    "a cell of 200 kB": ("captions.csv", "file,caption\nrain.wav," + "x" * 200_000, r"(?i)line 2|long|limit"),
    "a million columns": (
        "captions.csv",
        "file,caption" + "," * 10**6 + "\nrain.wav,rain\n" + "," * (10**6 + 5) + "x",
        r"(?i)line|columns|cells",
    ),
    "Latin-1": ("captions.csv", b"file,caption\nrain.wav,caf\xe9\n", r"UTF-8"),
    "UTF-16 without a mark": ("captions.csv", "file,caption\n".encode("utf-16-le"), r"UTF-8"),
    "half of UTF-16": ("captions.csv", b"\xff\xfef", r"UTF-8"),
    "zero bytes": ("captions.csv", b"file,caption\nrain.wav,a\0b\n", r"(?i)zero bytes"),
    "binary": ("captions.csv", bytes(range(256)) * 50, r"UTF-8"),
    "TSV without captions": ("captions.tsv", "file\nrain.wav\n", r"(?i)columns"),
    "JSON lines, not JSON": ("metadata.jsonl", "rain.wav: rain\n", r"line 1.*JSON"),
    "JSON lines, a list": ("metadata.jsonl", '["rain.wav"]\n', r"line 1"),
    "JSON lines, deep": ("metadata.jsonl", "[" * 10**5, r"line 1.*JSON"),
    "JSON lines, a caption that is an object": (
        "metadata.jsonl",
        '{"file": "rain.wav", "caption": {"a": 1}}',
        r"line 1.*dict",
    ),
    "JSON lines, a caption that is a bool": (
        "metadata.jsonl",
        '{"file": "rain.wav", "caption": true}',
        r"line 1.*bool",
    ),
    "JSON lines, a path outside": (
        "metadata.jsonl",
        '{"file": "../outside/secret.wav", "caption": "x"}',
        r"(?i)outside",
    ),
    "JSON, a text": ("captions.json", '"rain"', r"captions\.json"),
    "JSON, a number of 10000 digits": ("captions.json", "9" * 10_000, r"captions\.json"),
    "JSON, half of it": ("captions.json", '[{"file": "rain.wav"', r"JSON"),
    "JSON, a list of texts": ("captions.json", '["rain.wav"]', r"entry 1"),
    "JSON, a path outside": ("captions.json", '{"/etc/hosts.wav": "x"}', r"(?i)outside"),
    "a caption file in Latin-1": ("rain.txt", b"caf\xe9", r"UTF-8"),
    "a caption file of zeros": ("rain.txt", bytes(1000), r"(?i)zero bytes"),
}
FOLDERS = (
    "no folder",
    "a file",
    "no sounds",
    "names without words",
    "a link to itself",
    "a table that is a pipe",
    "a caption that is a pipe",
    "a path with a NUL",
    "an empty name",
)


def _make_table(name: str, content: str | bytes) -> Callable[[Place], Path]:
    """A folder with a sound and this table."""

    def make(place: Place) -> Path:
        place.write("sounds/rain.wav", place.sample("good.wav"))
        place.write(f"sounds/{name}", content)
        (place.own / "outside").symlink_to(place.outside)
        return place.own / "sounds"

    return make


def _make_folder(kind: str) -> Callable[[Place], Path]:
    """A folder that cannot be used."""

    def make(place: Place) -> Path:
        folder = place.own / "sounds"
        if kind == "a file":
            folder.write_bytes(b"x")
        elif kind == "a link to itself":
            folder.symlink_to(folder)
        elif kind != "no folder":
            folder.mkdir()
        if kind == "names without words":
            (folder / "123.wav").write_bytes(place.sample("good.wav"))
        if kind in ("a table that is a pipe", "a caption that is a pipe"):
            (folder / "123.wav").write_bytes(place.sample("good.wav"))
        if kind == "a table that is a pipe":
            os.mkfifo(folder / "captions.csv")
        if kind == "a caption that is a pipe":
            os.mkfifo(folder / "123.txt")
        if kind == "a path with a NUL":
            return Path(f"{folder}\0x")
        return Path(f"{folder}/no such") if kind == "an empty name" else folder

    return make


def _read_folder(folder: Path) -> Any:
    from audiox_ext.training.audio_folder import read_audio_folder

    return read_audio_folder(folder)


SETTINGS: dict[str, tuple[Any, ...]] = {
    "steps": (0, -1, NAN, "10"),
    "batch_size": (0, 10**18, 1.5),
    "learning_rate": (0.0, -1.0, NAN, float("inf")),
    "rank": (0, -1, 1.5, 10**18),
    "alpha": (NAN, float("inf")),
    "dropout": (-0.1, 1.0, NAN),
    "ema_decay": (-1.0, 1.0, NAN),
    "held_out_fraction": (-0.1, 1.0, NAN),
    "warmup_steps": (-1, NAN),
    "checkpoint_every": (0, NAN),
    "min_seconds": (-1.0, NAN),
    "context_dropout": (-0.1, 1.5, NAN),
    "seed": (-1, 2**64, 1.5),
    "precision": ("fp4", 5),
}


def _make_settings(values: dict[str, Any]) -> Any:
    from audiox_ext.training.settings import LoraSettings

    return LoraSettings(**values)


def _train(change: Callable[[Path], None]) -> Callable[[Path], Any]:
    """Train a LoRA on sounds that cannot be used."""

    def call(folder: Path) -> Any:
        import torch

        from audiox_ext.training.finetune import TrainingRequest, train_lora
        from audiox_ext.training.settings import LoraSettings

        change(folder)
        request = TrainingRequest(
            model=folder.parent / "bad",
            dataset=folder,
            output=folder.parent / "out",
            device=torch.device("cpu"),
        )
        path = folder.parent / "out" / "x.safetensors"
        return train_lora(request, LoraSettings(steps=1, batch_size=1), path=path, report=lambda line: None)

    return call


def _make_training(content: Callable[[Place], bytes]) -> Callable[[Place], Path]:
    def make(place: Place) -> Path:
        from model_files import make_model

        make_model(place, None)
        place.write("sounds/rain.wav", content(place))
        return place.own / "sounds"

    return make


def _write_features(**changes: Any) -> Callable[[Place], Path]:
    """Write features as the program does, with values that it must not read again."""

    def make(place: Place) -> Path:
        import torch

        from audiox_ext.conditioning.feature_cache import pack_features
        from audiox_ext.conditioning.video_features import VideoFeatures

        frames, sync = torch.zeros(2, 3, 224, 224, dtype=torch.uint8), torch.zeros(1, 240, 8)
        values = {"frames": frames, "sync": sync, "duration": 1.0, "fps": 24.0}
        made = {name: value() if callable(value) else value for name, value in changes.items()}
        return place.write("bad.safetensors", _repack({**values, **made}, pack_features, VideoFeatures))

    return make


def _repack(values: dict[str, Any], pack: Any, kind: Any) -> bytes:
    """Pack without the checks of VideoFeatures, as another program might."""
    features = object.__new__(kind)
    for name, value in values.items():
        object.__setattr__(features, name, value)
    return pack(features)


def _full(*shape: int, value: float = 0.0, dtype: str = "float32") -> Callable[[], Any]:
    def make() -> Any:
        import torch

        return torch.full(shape, value, dtype=getattr(torch, dtype))

    return make


FEATURES: dict[str, dict[str, Any]] = {
    "NaN seconds": {"duration": NAN},
    "infinite seconds": {"duration": float("inf")},
    "-1 s": {"duration": -1.0},
    "a length of text": {"duration": "long"},
    "NaN frames a second": {"fps": NAN},
    "-5 frames a second": {"fps": -5.0},
    "frames of float": {"frames": _full(2, 3, 224, 224)},
    "frames of int8": {"frames": _full(2, 3, 224, 224, dtype="int8")},
    "frames of another size": {"frames": _full(2, 3, 8, 8, dtype="uint8")},
    "no frames": {"frames": _full(0, 3, 224, 224, dtype="uint8")},
    "frames of two axes": {"frames": _full(2, 3, dtype="uint8")},
    "sync of NaN": {"sync": _full(1, 240, 8, value=NAN)},
    "sync of bool": {"sync": _full(1, 240, 8, dtype="bool")},
    "sync of int64": {"sync": _full(1, 240, 8, dtype="int64")},
    "sync of two axes": {"sync": _full(240, 8)},
}


def _change_features(place: Place, change: Callable[[dict[str, Any]], Any]) -> Path:
    """Change the header of good features."""
    data = place.sample("features.safetensors")
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    change(header["__metadata__"])
    text = json.dumps(header).encode()
    return place.write("bad.safetensors", len(text).to_bytes(8, "little") + text + data[8 + size :])


CHANGES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "another version": lambda about: about.update(
        features=about["features"].replace('"format": 2', '"format": 99')
    ),
    "no version": lambda about: about.update(features=about["features"].replace('"format": 2, ', "")),
    "no description": lambda about: about.pop("features"),
    "another length": lambda about: about.update(
        features=about["features"].replace('"duration": 1.0', '"duration": 9.0')
    ),
    "another rate": lambda about: about.update(
        features=about["features"].replace('"fps": 24.0', '"fps": 12.0')
    ),
    "a deep description": lambda about: about.update(features="[" * 10**5),
    "a description that is a list": lambda about: about.update(features="[]"),
}


def read_features_file(path: Path) -> Any:
    from audiox_ext.conditioning.feature_cache import read_features

    return read_features(path)


def list_cases() -> list[Case]:
    """All cases of this module."""
    patterns = r"(?i)features.*(damaged|not contain|again)|nan|frames"
    groups = {
        "table of captions": [
            Case(name, _make_table(file, content), _read_folder, pattern)
            for name, (file, content, pattern) in TABLES.items()
        ],
        "folder of sounds": [
            Case(
                kind,
                _make_folder(kind),
                _read_folder,
                r"(?i)no folder|no sound|no words|cannot be read|holds no|link|outside|name",
            )
            for kind in FOLDERS
        ],
        "setting of a training": [
            Case(f"{name} = {value!r:.20}", lambda p, n=name, v=value: {n: v}, _make_settings, name)
            for name, values in SETTINGS.items()
            for value in values
        ],
        "sound to train on": [
            Case(
                "text",
                _make_training(lambda p: b"words " * 100),
                _train(lambda folder: None),
                r"(?i)rain\.wav|read|used",
            ),
            Case(
                "empty",
                _make_training(lambda p: b""),
                _train(lambda folder: None),
                r"(?i)rain\.wav|read|used",
            ),
            Case(
                "too short",
                _make_training(lambda p: p.sample("good.wav")[:400]),
                _train(lambda folder: None),
                r"(?i)rain\.wav|short|used",
            ),
        ],
        "features in a file": [
            *(
                Case(name, _write_features(**changes), read_features_file, patterns)
                for name, changes in FEATURES.items()
            ),
            *(
                Case(name, lambda p, change=change: _change_features(p, change), read_features_file, patterns)
                for name, change in CHANGES.items()
            ),
        ],
    }
    return [replace(case, kind=kind) for kind, cases in groups.items() for case in cases]
