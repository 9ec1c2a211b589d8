"""Fixtures that tests of checkpoints share."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from golden_cases import golden_path


@pytest.fixture
def copy_of(tmp_path: Path) -> Callable[[str], Path]:
    """A copy of a golden checkpoint that a test may change."""

    def copy(kind: str) -> Path:
        ignore = shutil.ignore_patterns("cases.*")
        return Path(shutil.copytree(golden_path(kind), tmp_path / "audiox" / kind, ignore=ignore))

    return copy
