"""Checks names in a config.json that become paths."""

from __future__ import annotations

from pathlib import Path

from ...errors import InputError


def check_encoder_name(name: str) -> None:
    """Check that a text encoder's name stays in the model's folder.

    Raises:
        InputError: `name` is an absolute path, contains "..", or names no folder.
    """
    path = Path(name)
    if path.is_absolute() or ".." in path.parts or not path.parts or "\0" in name:
        raise InputError(
            f"config.json: t5_model_name is {name!r}, which is outside the model's folder. Use t5-base, or "
            "the name of a folder beside config.json."
        )
