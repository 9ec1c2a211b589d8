"""Video features as a safetensors file: tensors, and the rest as metadata with a digest of it all."""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import InputError
from .video_features import VideoFeatures

FORMAT = 1  # raise it whenever the same settings begin to give other features


def write_features(path: Path, features: VideoFeatures) -> None:
    """Write features to a file, under a temporary name first. Raises `InputError` when that fails."""
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}.partial")
    try:
        try:
            partial.write_bytes(pack_features(features))
            os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        raise InputError(
            f"The features cannot be written to {path} ({error}). Choose another place."
        ) from None


def read_features(path: Path) -> VideoFeatures:
    """The features of `write_features`. Raises `InputError` for a file that holds none, or damaged ones."""
    try:
        return unpack_features(path.read_bytes())
    except OSError as error:
        raise InputError(f"The features {path} cannot be read ({error}).") from None
    except Exception as error:  # whatever a foreign or damaged file makes the parsers raise
        raise InputError(
            f"{path} holds no video features, or damaged ones ({error}). Extract them again."
        ) from None


def pack_features(features: VideoFeatures) -> bytes:
    """A safetensors file that `unpack_features` gives back bit by bit."""
    from safetensors.torch import save

    tensors = {"frames": features.frames.contiguous()}
    if features.sync is not None:
        tensors["sync"] = features.sync.contiguous()
    about = {"duration": features.duration, "fps": features.fps, "digest": _digest(tensors)}
    return save(tensors, {"format": str(FORMAT), "features": json.dumps(about)})


def unpack_features(data: bytes) -> VideoFeatures:
    """Raises whatever damage makes it meet, and ValueError for another version or another content."""
    from safetensors.torch import load

    length = int.from_bytes(data[:8], "little")  # of the JSON header, which `load` reads but does not give
    metadata = json.loads(data[8 : 8 + length])["__metadata__"]
    if metadata["format"] != str(FORMAT):
        raise ValueError(f"format {metadata['format']}, {FORMAT} is wanted")
    about, tensors = json.loads(metadata["features"]), load(data)
    if _digest(tensors) != about["digest"]:
        raise ValueError("the content has changed")
    return VideoFeatures(
        frames=tensors["frames"],
        sync=tensors.get("sync"),
        duration=float(about["duration"]),
        fps=float(about["fps"]),
    )


def _digest(tensors: dict[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)};".encode())
        digest.update(tensor_bytes(tensor))
    return digest.hexdigest()


def tensor_bytes(tensor: Tensor) -> Any:
    """The numbers of a tensor of any type, as a buffer."""
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
