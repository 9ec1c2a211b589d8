"""Fixtures that tests of the pocket training share."""

from __future__ import annotations

from pathlib import Path

import pytest
from torch_threads import single_thread
from training_miniature import miniature
from training_runs import MISSING, quietly, with_steps

from pocket.pipeline import train_autoencoder, train_diffusion, train_sync


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the miniature's autoencoder and sync encoder have been trained, for a moment, and its
    items prepared. Do not change it. Files that use it are one group in `scheduling`.
    """
    if MISSING:
        pytest.skip(f"NO {' AND NO '.join(MISSING)}: pip install .[train] to test the training")
    folder = tmp_path_factory.mktemp("trained")
    with single_thread():
        train_autoencoder(miniature(), folder, device="cpu", report=quietly)
        train_sync(miniature(), folder, device="cpu", report=quietly)
        train_diffusion(with_steps(miniature(), "diffusion", 1), folder, device="cpu", report=quietly)
    return folder
