"""Fixtures that tests of trainings on a user's sounds share."""

from __future__ import annotations

from pathlib import Path

import pytest
from user_sounds import write_sounds


@pytest.fixture(scope="session")
def sounds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five captioned sounds. Do not change them."""
    return write_sounds(tmp_path_factory.mktemp("sounds"))
