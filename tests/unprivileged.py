"""Places that nothing can be written to, for root as well."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

_NOBODY = 65534


@contextmanager
def read_only_folder() -> Iterator[Path]:
    """A folder that this process can read but not write to, with the read-only file old.wav.

    Root may write anywhere, so its process is another user while the context lasts.
    """
    if os.name == "nt":
        pytest.skip("NO READ-ONLY FOLDERS on Windows")
    with tempfile.TemporaryDirectory() as name:
        top, folder = Path(name), Path(name) / "locked"
        top.chmod(0o755)
        folder.mkdir()
        (folder / "old.wav").write_bytes(b"old")
        (folder / "old.wav").chmod(0o444)
        folder.chmod(0o555)
        is_root = os.geteuid() == 0
        try:
            if is_root:
                os.seteuid(_NOBODY)
            yield folder
        finally:
            if is_root:
                os.seteuid(0)
            folder.chmod(0o755)
