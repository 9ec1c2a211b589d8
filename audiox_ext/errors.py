"""Errors whose message is meant for the person in front of a graph or a shell.

Each message says what was wrong, with the value, and what to do next.
"""


class AudioXError(Exception):
    """Base of every error this package raises on purpose."""


class InputError(AudioXError, ValueError):
    """A value that the user gave cannot be used."""


class MediaError(InputError):
    """An audio or video source that cannot be read or written."""


class ConfigError(AudioXError, ValueError):
    """A config.json that is missing, malformed or of an unknown kind."""


class CheckpointError(AudioXError, RuntimeError):
    """A checkpoint that cannot be read or does not fit its configuration."""


class ModelNotFoundError(AudioXError, FileNotFoundError):
    """A model, or a file of it, that is neither on disk nor to be had from the hub."""


class LicenseError(AudioXError, PermissionError):
    """Weights whose licence has not been accepted."""


class TrainingError(AudioXError, RuntimeError):
    """A training that cannot go on."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a device ran out of memory; torch reports that in several ways."""
    import torch

    if isinstance(error, torch.OutOfMemoryError):
        return True
    phrases = ("out of memory", "can't allocate memory", "not enough memory")
    return isinstance(error, RuntimeError) and any(phrase in str(error) for phrase in phrases)
