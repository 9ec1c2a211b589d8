"""Checks the header of a .safetensors file, and reads the licence in it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from ...errors import CheckpointError
from ...license import find_strictest, names_license

MAX_HEADER_BYTES = 10 << 20
"""Largest header; a published model has 0.3 MB, a LoRA with its captions a few."""
_LICENSE_KEYS = ("license", "licence", "modelspec.license")  # the last is of the standard ModelSpec
_LENGTH_BYTES = 8


def check_header(path: Path) -> None:
    """Check that a .safetensors file is as long as its header claims, and that the header is not too long.

    Reading the file then compares every tensor with its length.

    Raises:
        CheckpointError: it is not.
    """
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(_LENGTH_BYTES), "little")
        size = path.stat().st_size
    except (OSError, ValueError):
        return  # reading reports it
    if size >= _LENGTH_BYTES and length > size - _LENGTH_BYTES:
        raise CheckpointError(
            f"{path} ({size} bytes) is damaged or incomplete: its header claims {length} bytes. Download it "
            "again."
        )
    if length > MAX_HEADER_BYTES:
        raise CheckpointError(
            f"{path} has a header of {length} bytes, but at most {MAX_HEADER_BYTES} are read. Save it again "
            "with fewer texts in its metadata."
        )


def read_license(path: Path) -> str | None:
    """Return the licence that a weights file names in its header, or None.

    A file that cannot be read names none; loading it reports the damage. Pickles have no header.
    """
    from safetensors import SafetensorError, safe_open

    if path.suffix.lower() != ".safetensors" or not path.is_file():
        return None
    try:
        check_header(path)
        with safe_open(path, framework="pt", device="cpu") as file:
            return license_of(file.metadata() or {})
    except (CheckpointError, SafetensorError, OSError, ValueError):
        return None


def license_of(metadata: Mapping[str, str]) -> str | None:
    """Return the strictest licence that a header's metadata name, or None."""
    named = {key.strip().lower(): value for key, value in metadata.items()}
    values = [named[key] for key in _LICENSE_KEYS if names_license(named.get(key))]
    return find_strictest(values)


def add_header_licenses(license_name: str | None, files: Iterable[Path]) -> str | None:
    """Return the licence of a model: the strictest of its config.json's and its files'.

    Args:
        license_name: the licence in config.json.
        files: weights files. Those that name no licence change nothing.
    """
    headers = (read_license(path) for path in files)
    return find_strictest([license_name, *(name for name in headers if name is not None)])
