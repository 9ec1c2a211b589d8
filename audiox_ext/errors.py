"""Errors with messages for users. Each says what is wrong, with the value, and what to do next."""

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
