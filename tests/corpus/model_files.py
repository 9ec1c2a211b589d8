"""Models with bad files: a folder like that of the sample, with other weights."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

from bad_case import Place


def load_model(folder: Path, **options: Any) -> Any:
    """Load a model of a folder."""
    from audiox_ext import get_pretrained_model

    return get_pretrained_model(str(folder), download=False, **options)


def make_model(place: Place, weights: bytes | None, name: str = "model.ckpt", kind: str = "model") -> Path:
    """Make a model's folder with other weights; None for those of the sample."""
    folder, sample = place.own / "bad", place.samples / kind
    folder.mkdir()
    for part in ("config.json", "text_encoder", *(["model.safetensors"] if weights is None else [])):
        (folder / part).symlink_to(sample / part)
    if weights is not None:
        (folder / name).write_bytes(weights)
    return folder


def pack(pickled: bytes, entries: dict[str, bytes] | None = None, deflate: bool = False) -> bytes:
    """A zip archive as torch writes it, with this pickle."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED if deflate else zipfile.ZIP_STORED) as archive:
        archive.writestr("archive/data.pkl", pickled)
        archive.writestr("archive/byteorder", b"little")
        for name, content in {"archive/version": b"3\n", **(entries or {})}.items():
            archive.writestr(name, content)
    return target.getvalue()


def load_sync(path: Path) -> Any:
    """Load the weights of Synchformer."""
    from audiox_ext.checkpoints.encoders import load_synchformer

    return load_synchformer(path, device="cpu")
