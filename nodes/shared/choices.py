"""Checks of widgets that ComfyUI leaves to the nodes: combo boxes in 0.3.64, and the type of texts."""

from __future__ import annotations

from collections.abc import Sequence

from ...audiox_ext.errors import InputError, quote_value


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
        raise InputError(f"{name} is {quote_value(value)}. Choose one of: {', '.join(choices)}.")


def check_text(name: str, value: str) -> None:
    """Refuse what is not a text, which ComfyUI lets through where a widget became an input.

    Args:
        name: the widget's name, for the message.
        value: the value that arrived.

    Raises:
        InputError: the value is not a text.
    """
    if not isinstance(value, str):
        raise InputError(f"{name} is {quote_value(value)}, which is not a text. Enter a text.")
