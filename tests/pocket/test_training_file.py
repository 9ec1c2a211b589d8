"""A training file that is wrong is refused with the reason."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from training_miniature import miniature_values

from audiox_ext.errors import ConfigError
from pocket.training_file import parse_training_config, read_training_config


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"diffusion": {"steps": 5, "batch_size": 2, "batch_sice": 3}}, "diffusion: unknown batch_sice"),
        ({"diffusion": {"steps": 5}}, r"diffusion\.batch_size is missing"),
        ({"diffusion": {"steps": True, "batch_size": 2}}, r"diffusion\.steps must be int, got true"),
        ({"diffusion": {"steps": 5, "batch_size": 0}}, r"diffusion\.batch_size must be at least 1, got 0"),
        (
            {"diffusion": {"steps": 5, "batch_size": 2, "text_dropout": 2}},
            r"diffusion\.text_dropout must lie in \[0, 1\], got 2",
        ),
        ({"autoencoder": {"steps": 5, "batch_size": 2, "precision": "16"}}, "precision is '16'"),
        ({"autoencoder": {"steps": 5, "batch_size": 2, "fft_sizes": [4]}}, "fft_sizes"),
        ({"vae": {}}, "unknown sections: vae"),
        ({"model": 3}, "model must be"),
    ],
)
def test_a_training_file_that_says_nonsense_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_training_config({**miniature_values(), **change}, Path())


def test_a_model_of_a_kind_that_is_not_trained_is_refused() -> None:
    values = miniature_values()
    values["model"]["model"]["diffusion"]["diffusion_objective"] = "rectified_flow"
    with pytest.raises(ConfigError, match="only v is trained"):
        parse_training_config(values, Path())
    values = miniature_values()
    values["model"]["sample_size"] *= 2
    with pytest.raises(ConfigError, match="longer than conditioning_seconds"):
        parse_training_config(values, Path())


def test_a_missing_training_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nothing\.json is missing"):
        read_training_config(tmp_path / "nothing.json")
