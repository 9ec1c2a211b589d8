"""The check of combo boxes, which ComfyUI 0.3.64 leaves to the nodes."""

from __future__ import annotations

from collections.abc import Sequence

from ...audiox_ext.errors import InputError


def check_choice(name: str, value: str, choices: Sequence[str]) -> None:
    """Refuse a combo box's value that is not one of its choices.

    Args:
        name: the widget's name, for the message.
        value: the value that arrived.
        choices: the values that the widget offers.

    Raises:
        InputError: the value is not one of the choices.
    """
    if value not in choices:
        raise InputError(f"{name} is {value!r}. Choose one of: {', '.join(choices)}.")
