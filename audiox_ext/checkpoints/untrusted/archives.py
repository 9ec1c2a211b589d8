"""Checks a torch file from its structure, before anything in it is unpacked or unpickled.

torch writes a zip archive without compression: one pickle with the names and shapes, and one entry per
tensor. Before torch 1.6 it wrote five pickles, followed by the values. Sources: APPNOTE.TXT of PKWARE,
sections 4.3.12 to 4.3.16; pickletools of Python.
"""

from __future__ import annotations

import io
import os
import pickletools
import struct
import zipfile
from pathlib import Path
from typing import BinaryIO, NoReturn

from ...errors import CheckpointError

MAX_PICKLE_BYTES = 1 << 20
"""Largest pickle of names and shapes; a published model has 0.2 MB, with its training's state 0.7 MB."""
MAX_ENTRIES = 50_000
"""Most entries of an archive; a published model has 1100."""
_MAX_DIRECTORY_BYTES = 16 << 20
_LOCAL, _PICKLE = b"PK\x03\x04", b"\x80"
_LEGACY_PICKLES = 5  # magic number, version, system, content, names of the values
_END, _LOCATOR, _END64 = struct.Struct("<4s4H2LH"), struct.Struct("<4sLQL"), struct.Struct("<4sQ2H2L4Q")
_ENCRYPTED = 1


def check_archive(path: Path) -> None:
    """Check that reading a torch file takes no more memory than the file is large.

    Args:
        path: the file.

    Raises:
        CheckpointError: the file is not one that torch writes, or claims more than it holds.
    """
    try:
        with path.open("rb") as file:
            start = file.read(len(_LOCAL))
            if start == _LOCAL:
                _check_zip(path, file)
            elif start[:1] == _PICKLE:
                _check_pickles(path, file)
            else:
                _refuse(path, "is damaged, or neither a .safetensors file nor one that torch.save wrote")
    except (OSError, ValueError, struct.error, zipfile.BadZipFile, NotImplementedError) as error:
        _refuse(path, f"is damaged or incomplete ({error})")


def _check_zip(path: Path, file: BinaryIO) -> None:
    """Check the directory of an archive: first its size, then its entries."""
    size = os.fstat(file.fileno()).st_size
    count, directory = _read_end(file, size)
    if count > MAX_ENTRIES or directory > min(size, _MAX_DIRECTORY_BYTES):
        _refuse(
            path,
            f"claims {count} entries, with a directory of {directory} bytes; at most {MAX_ENTRIES} are read",
        )
    with zipfile.ZipFile(file) as archive:
        entries = archive.infolist()
    for entry in entries:
        if entry.compress_type != zipfile.ZIP_STORED or entry.file_size != entry.compress_size:
            _refuse(path, f"holds the compressed entry {entry.filename[:80]!r}, which torch never writes")
        if entry.flag_bits & _ENCRYPTED:
            _refuse(path, f"holds the encrypted entry {entry.filename[:80]!r}, which torch never writes")
        if entry.filename.endswith(".pkl") and entry.file_size > MAX_PICKLE_BYTES:
            _refuse_pickle(path, entry.file_size)
    claimed = sum(entry.file_size for entry in entries)
    if claimed > size:
        _refuse(path, f"claims to hold {claimed} bytes in a file of {size}")


def _read_end(file: BinaryIO, size: int) -> tuple[int, int]:
    """Return the number of entries and the size of the directory that the end of an archive claims."""
    file.seek(max(0, size - _END.size))
    signature, *_, count, directory, _, comment = _END.unpack(file.read(_END.size))
    if signature != b"PK\x05\x06" or comment:
        raise ValueError("its directory is missing at the end")
    file.seek(max(0, size - _END.size - _LOCATOR.size))
    signature, _, offset, _ = _LOCATOR.unpack(file.read(_LOCATOR.size))
    if signature == b"PK\x06\x07":
        file.seek(min(offset, size))
        signature, *_, count, directory, _ = _END64.unpack(file.read(_END64.size))
        if signature != b"PK\x06\x06":
            raise ValueError("its directory of 64 bits is missing")
    return count, directory


def _check_pickles(path: Path, file: BinaryIO) -> None:
    """Check that the pickles of a file from before torch 1.6 end in time. Nothing in them is executed."""
    file.seek(0)
    head = io.BytesIO(file.read(MAX_PICKLE_BYTES))
    try:
        for _ in range(_LEGACY_PICKLES):
            for _ in pickletools.genops(head):
                pass
    except (ValueError, UnicodeDecodeError, IndexError) as error:
        if os.fstat(file.fileno()).st_size > MAX_PICKLE_BYTES:
            _refuse_pickle(path, head.tell())
        raise ValueError(f"the pickles in it do not end: {error}") from None


def _refuse_pickle(path: Path, size: int) -> NoReturn:
    _refuse(path, f"holds a pickle of {size} bytes or more; names and shapes may take {MAX_PICKLE_BYTES}")


def _refuse(path: Path, reason: str) -> NoReturn:
    raise CheckpointError(
        f"{path} {reason}. It was not read. Download it again from a source you trust, or use weights in a "
        ".safetensors file."
    )
