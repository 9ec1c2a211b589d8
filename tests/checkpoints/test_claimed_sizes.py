"""Files that claim more than they hold are refused before memory or time is spent."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from audiox_ext.checkpoints.encoders import load_synchformer
from audiox_ext.checkpoints.inspection import inspect_checkpoint
from audiox_ext.checkpoints.pretrained import get_pretrained_model
from audiox_ext.checkpoints.state_dict import read_tensors
from audiox_ext.checkpoints.untrusted.archives import MAX_PICKLE_BYTES
from audiox_ext.errors import CheckpointError, ConfigError
from tools.random_checkpoint import build_tiny_config, write_tiny_checkpoint

MEGABYTE = bytes(1 << 20)


def write_archive(path: Path, pickled: bytes, count: int = 0) -> None:
    """Write a torch file with this pickle, and further entries."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickled)
        for number in range(count):
            archive.writestr(f"archive/data/{number}", b"")
        archive.writestr("archive/version", "3\n")


def write_deflated(path: Path, megabytes: int = 512) -> None:
    """Write an archive whose pickle is compressed."""
    entry = zipfile.ZipInfo("archive/data.pkl")
    entry.compress_type = zipfile.ZIP_DEFLATED
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open(entry, "w", force_zip64=True) as file:
            for _ in range(megabytes):
                file.write(MEGABYTE)
        archive.writestr("archive/version", "3\n")


def write_overlapping(path: Path) -> None:
    """Write an archive whose directory lists the same megabyte a hundred times."""
    write_archive(path, MEGABYTE)
    data = path.read_bytes()
    start = data.index(b"PK\x01\x02")
    size = data.index(b"PK\x01\x02", start + 1) - start
    directory = data[start : start + size] * 100
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 100, 100, len(directory), start, 0)
    path.write_bytes(data[:start] + directory + end)


def write_end(path: Path, count: int, size: int) -> None:
    """Write an archive whose end claims a directory."""
    write_archive(path, b"\x80\x02}.")
    data = path.read_bytes()[:-22]
    path.write_bytes(
        data + struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, count, count, size, len(data) // 2, 0)
    )


BOMBS: dict[str, tuple[Callable[[Path], object], str]] = {
    "compressed": (write_deflated, "compressed entry 'archive/data.pkl', which torch never writes"),
    "overlapping": (write_overlapping, "claims to hold .* bytes in a file of"),
    "large directory": (lambda path: write_end(path, 60_000, 100), "claims 60000 entries"),
    "long directory": (lambda path: write_end(path, 3, 1 << 31), "a directory of 2147483648 bytes"),
    "large pickle": (
        lambda path: write_archive(path, b"\x80\x02" + b")" * MAX_PICKLE_BYTES + b"."),
        "holds a pickle of",
    ),
    "many entries": (lambda path: write_archive(path, b"\x80\x02}.", 50_001), "at most 50000"),
    "endless pickle": (
        lambda path: path.write_bytes(b"\x80\x02" + b")" * (2 * MAX_PICKLE_BYTES)),
        "holds a pickle of",
    ),
    "long bytes": (
        lambda path: path.write_bytes(b"\x80\x04\x8e" + struct.pack("<Q", 1 << 40) + b"x"),
        "is damaged or incomplete",
    ),
    "tar": (lambda path: path.write_bytes(b"storages" + bytes(1000)), "nor one that torch.save wrote"),
    "one byte": (lambda path: path.write_bytes(b"P"), "damaged"),
    "zip alone": (lambda path: path.write_bytes(b"PK\x03\x04"), "damaged"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", BOMBS)
def test_torch_files_that_claim_too_much_are_refused(name: str, tmp_path: Path) -> None:
    write, message = BOMBS[name]
    path = tmp_path / "model.ckpt"
    write(path)
    with pytest.raises(CheckpointError, match=message) as error:
        read_tensors(path)
    assert "weights_only" not in str(error.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (struct.pack("<Q", 1 << 60) + b"{}", "its header claims 1152921504606846976 bytes"),
        (struct.pack("<Q", 11 << 20) + b" " * (11 << 20), "at most 10485760 are read"),
        (
            struct.pack("<Q", 70)
            + b'{"a":{"dtype":"F32","shape":[1000000000],"data_offsets":[0,4000000000]}}',
            "damaged",
        ),
        (struct.pack("<Q", 1 << 20) + b'{"a":' * 210_000, "damaged"),
        (b"123", "damaged"),
    ],
)
def test_headers_that_claim_too_much_are_refused(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(CheckpointError, match=message):
        read_tensors(tmp_path / "model.safetensors")


def test_tensors_that_repeat_their_values_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.ckpt"
    torch.save({"a": torch.zeros(1).expand(10**6, 10**6)}, path)
    with pytest.raises(
        CheckpointError, match=r"a claims 1000000000000 values, but the file holds only 1 of them"
    ):
        read_tensors(path)
    shared = torch.zeros(1000)
    torch.save({f"{number}": shared for number in range(1000)}, path)
    with pytest.raises(CheckpointError, match="claims tensors of 4000000 bytes"):
        read_tensors(path)
    torch.save({"a": shared, "tied": shared}, path)
    assert read_tensors(path).keys() == {"a", "tied"}


@pytest.mark.parametrize("legacy", [True, False])
def test_ordinary_torch_files_are_read(legacy: bool, tmp_path: Path) -> None:
    path = tmp_path / "model.ckpt"
    torch.save({"state_dict": {"a": torch.ones(3)}}, path, _use_new_zipfile_serialization=not legacy)
    assert torch.equal(read_tensors(path)["a"], torch.ones(3))


def change(path: str, value: object) -> dict[str, Any]:
    """The configuration of the smallest model with another value."""
    config = build_tiny_config("base")
    section: Any = config
    *names, last = path.split(".")
    for name in names:
        section = section[int(name)] if name.isdigit() else section[name]
    section[last] = value
    return config


CLIP, TEXT, AUDIO = (f"model.conditioning.configs.{number}.config" for number in range(3))
NETWORK = "model.diffusion.config"


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("model.pretransform.config.decoder.config.channels", 10**18),
        ("model.pretransform.config.encoder.config.c_mults", [1] * 33),
        ("model.pretransform.config.encoder.config.strides", [10**12]),
        (f"{CLIP}.clip_config", {"image_size": 10**30}),
        (f"{CLIP}.clip_config", {"num_hidden_layers": 10**6}),
        (f"{CLIP}.clip_config", {"layer_norm_eps": float("inf")}),
        (f"{CLIP}.out_features", 10**9),
        (f"{CLIP}.temporal_depth", 10**9),
        (f"{TEXT}.t5_model_name", "x" * 5000),
        (f"{TEXT}.t5_model_name", "a\nb"),
        (f"{TEXT}.max_length", 10**9),
        (f"{NETWORK}.depth", 10**9),
        (f"{NETWORK}.num_heads", 10**12),
        (f"{NETWORK}.embed_dim", 10**15),
        (f"{NETWORK}.global_cond_dim", 10**18),
        ("sample_size", 10**18),
        ("sample_rate", 10**9),
        ("training", {"dmd_sample_steps": 10**9}),
        ("sampling", {"steps": 10**12}),
        ("license", "x" * 10**5),
        ("model.conditioning.configs", [{}] * 100),
    ],
)
def test_sizes_beyond_the_stated_bounds_are_refused(path: str, value: object, tmp_path: Path) -> None:
    from audiox_ext.checkpoints.config_parser import parse_config

    with pytest.raises(ConfigError) as error:
        parse_config(change(path, value))
    assert path.split(".")[-1] in str(error.value)
    assert len(str(error.value)) < 500


def test_sizes_beyond_the_weights_are_refused(tmp_path: Path) -> None:
    folder = write_tiny_checkpoint(tmp_path / "model", "base")
    (folder / "config.json").write_text(json.dumps(change(f"{NETWORK}.depth", 256)))
    for read in (inspect_checkpoint, get_pretrained_model):
        with pytest.raises(
            CheckpointError, match=r"does not fit its config\.json, which describes a model of at"
        ):
            read(str(folder))


def test_long_or_deep_configurations_are_refused(tmp_path: Path) -> None:
    folder = write_tiny_checkpoint(tmp_path / "model", "base")
    for text, message in (
        (" " * (2 << 20), "has 2097152 bytes, but at most"),
        ("[" * 10**6, "not valid JSON"),
    ):
        (folder / "config.json").write_text(text)
        with pytest.raises(ConfigError, match=message):
            inspect_checkpoint(str(folder))


@pytest.mark.parametrize(
    ("name", "value"),
    [("num_layers", 10**9), ("d_model", 10**18), ("vocab_size", "many"), ("d_ff", 0), ("d_kv", 10**5)],
)
def test_sizes_of_a_text_encoder_are_bounded(name: str, value: object, tmp_path: Path) -> None:
    folder = write_tiny_checkpoint(tmp_path / "model", "base")
    path = folder / "text_encoder" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), name: value}))
    with pytest.raises(ConfigError, match=f"{name} is|describes a text encoder of"):
        get_pretrained_model(folder)


def test_sizes_of_a_synchformer_are_bounded(tmp_path: Path) -> None:
    folder = write_tiny_checkpoint(tmp_path / "model", "maf")
    path = folder / "synchformer_state_dict.safetensors"
    state = {key: value.clone() for key, value in read_tensors(path).items()}
    save_file({**state, "vfeat_extractor.blocks.1000000000.norm1.weight": torch.zeros(1)}, path)
    with pytest.raises(CheckpointError, match="have numbers up to 1000000000"):
        load_synchformer(path)
    key = "vfeat_extractor.patch_embed_3d.proj.weight"
    save_file({**state, key: torch.zeros(0, 3, 2, 16, 16)}, path)
    with pytest.raises(CheckpointError, match="its sizes are"):
        load_synchformer(path, num_heads=1)


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="NO LINUX: peak memory was not measured")
def test_a_bomb_takes_no_more_memory_than_a_missing_file(tmp_path: Path) -> None:
    folder = write_tiny_checkpoint(tmp_path / "model", "base")
    (folder / "model.safetensors").unlink()
    write_deflated(folder / "model.ckpt", 512)
    code = f"""
import sys, time
import torch
from audiox_ext.checkpoints.inspection import inspect_checkpoint
from audiox_ext.errors import CheckpointError

def peak():
    lines = open("/proc/self/status").read().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024

before, start = peak(), time.process_time()
try:
    inspect_checkpoint({str(folder)!r})
except CheckpointError:
    print(peak() - before, time.process_time() - start)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[2]
    )
    megabytes, seconds = map(float, done.stdout.split())
    assert megabytes < 20, f"{megabytes:.0f} MB"
    assert seconds < 1
