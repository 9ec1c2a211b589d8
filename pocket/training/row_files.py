"""Rows of tensors that are computed once and stored in files of a few hundred rows.

    FOLDER/00000.safetensors, 00001.safetensors, ... and fingerprint.json, which identifies their contents

An interrupted preparation resumes after the last complete file.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from audiox_ext.checkpoints.safetensors_writer import write_safetensors
from audiox_ext.checkpoints.state_dict import read_tensors
from audiox_ext.files import check_space, write_atomically
from audiox_ext.training.trainer import Batch, BatchSource, make_loader

Report = Callable[[str], None]

GROUP = 8  # rows that are encoded together
_FILE = 25 * GROUP  # rows per file
_REPORT_EVERY = 5  # files


class Rows:
    """The rows of several files, memory-mapped."""

    def __init__(self, files: Sequence[Path]) -> None:
        """Open nothing yet.

        Args:
            files: Files of the rows, in order.
        """
        self._files = tuple(files)
        self._opened: dict[int, dict[str, Tensor]] = {}

    def __getstate__(self) -> dict[str, Any]:
        """State for another process, which maps the files again."""
        return {"_files": self._files, "_opened": {}}

    def __getitem__(self, number: int) -> dict[str, Tensor]:
        """Read a row.

        Args:
            number: Index of the row.

        Returns:
            Its tensors by name, float32.
        """
        file, row = divmod(number, _FILE)
        if file not in self._opened:
            self._opened[file] = read_tensors(self._files[file])
        return {key: value[row].float() for key, value in self._opened[file].items()}


def fingerprint_of(words: str, *parts: nn.Module | None) -> str:
    """Compute a hash of a text and of weights.

    Args:
        words: The text.
        *parts: Modules with the weights; None counts as no weights.

    Returns:
        The hash in hexadecimal.
    """
    digest = hashlib.sha256(words.encode())
    for part in parts:
        for key, value in (part.state_dict() if part is not None else {}).items():
            digest.update(key.encode())
            digest.update(value.detach().cpu().float().numpy().tobytes())
    return digest.hexdigest()


def row_range(step: int, count: int) -> range:
    """Return the indices of the rows in a group.

    Args:
        step: Number of the group.
        count: Number of all rows.
    """
    return range(step * GROUP, min((step + 1) * GROUP, count))


def prepare_rows(
    folder: Path,
    fingerprint: str,
    groups: BatchSource,
    count: int,
    encode: Callable[[Batch], dict[str, Tensor]],
    *,
    device: torch.device,
    workers: int,
    report: Report,
) -> Rows:
    """Compute rows that are not stored yet. Rows with a different fingerprint are deleted first.

    Args:
        folder: Folder of the files.
        fingerprint: Identifies the contents.
        groups: Inputs of `encode`, by number of the group (see `row_range`).
        count: Number of rows.
        encode: Returns the tensors of a group on the device, one row per item.
        device: Device to encode on.
        workers: Processes that make the groups.
        report: Receives lines about the progress.

    Returns:
        All rows.

    Raises:
        InputError: The rows do not fit on the disk.
    """
    path = folder / "fingerprint.json"
    if not path.is_file() or json.loads(path.read_text(encoding="utf-8")) != fingerprint:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        with write_atomically(path) as temporary:
            temporary.write_text(json.dumps(fingerprint), encoding="utf-8")
    files = [folder / f"{number:05}.safetensors" for number in range(-(-count // _FILE))]
    done = next((number for number, file in enumerate(files) if not file.is_file()), len(files))
    rows: list[dict[str, Tensor]] = []
    for group in make_loader(
        groups, done * _FILE // GROUP, -(-count // GROUP), workers if done < len(files) else 0
    ):
        rows.append(encode(group.to(device)))
        if group.step == done * _FILE // GROUP:
            check_space(folder, _count_bytes(rows[0]) * (-(-count // GROUP) - group.step))
        ready = min((group.step + 1) * GROUP, count)
        if ready == count or not ready % _FILE:
            number = (ready - 1) // _FILE
            _write(files[number], rows)
            rows = []
            if number % _REPORT_EVERY == 0 or ready == count:
                report(f"{folder.name}: {ready} of {count} prepared")
    return Rows(files)


def _count_bytes(tensors: Mapping[str, Tensor]) -> int:
    return sum(value.numel() * value.element_size() for value in tensors.values())


def _write(path: Path, rows: Sequence[dict[str, Tensor]]) -> None:
    """Write groups of rows to a file."""
    tensors: dict[str, Any] = {key: torch.cat([row[key] for row in rows]) for key in rows[0]}
    write_safetensors(path, tensors, {}, {})
