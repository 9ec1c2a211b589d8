"""Errors with messages for users. Each says what is wrong, with the value, and what to do next."""

from __future__ import annotations

import math
import typing

from .utf8 import escape_surrogates


class AudioXError(Exception):
    """Base of all errors that this package raises on purpose."""

    def __init__(self, message: str) -> None:
        """Store a message as valid UTF-8, whatever file names or prompts it quotes.

        Args:
            message: sentences for the user.
        """
        super().__init__(escape_surrogates(message))


class InputError(AudioXError, ValueError):
    """A value from the user cannot be used."""


class MediaError(InputError):
    """An audio or video file cannot be read or written."""


class ConfigError(AudioXError, ValueError):
    """A config.json is missing, malformed or of an unknown kind."""


class CheckpointError(AudioXError, RuntimeError):
    """A checkpoint cannot be read, or does not fit its configuration."""


class ModelNotFoundError(AudioXError, FileNotFoundError):
    """A model, or one of its files, is neither on disk nor available from the hub."""


class LicenseError(AudioXError, PermissionError):
    """The licence of the weights has not been accepted."""


class TrainingError(AudioXError, RuntimeError):
    """A training run cannot continue."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a device ran out of memory; torch reports that in several ways."""
    import torch

    if isinstance(error, torch.OutOfMemoryError):
        return True
    phrases = ("out of memory", "can't allocate memory", "not enough memory")
    return isinstance(error, RuntimeError) and any(phrase in str(error) for phrase in phrases)


_LONGEST_QUOTE = 200  # characters


def quote_value(value: typing.Any) -> str:
    """Return a value for a message, short and whatever it is."""
    try:
        text = repr(value)
    except ValueError:  # Python refuses to write out an integer of more than 4300 digits
        text = f"an integer of {value.bit_length()} bits"
    return text if len(text) <= _LONGEST_QUOTE else text[:_LONGEST_QUOTE] + "..."


def is_whole(value: typing.Any) -> bool:
    """Whether a value is a whole number."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_number(value: typing.Any) -> bool:
    """Whether a value is a finite number that a float can hold."""
    try:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:
        return False


def check_range(name: str, value: typing.Any, low: float, high: float, unit: str = "") -> None:
    """Refuse what is not a finite number in a range. Raises `InputError`.

    Args:
        name: Name of the setting, as the user knows it.
        value: The value that arrived.
        low: Lowest number.
        high: Highest number.
        unit: Unit with a space before it.
    """
    if not (is_number(value) and low <= value <= high):
        raise InputError(f"{name} is {quote_value(value)}. Give a number from {low:g} to {high:g}{unit}.")
