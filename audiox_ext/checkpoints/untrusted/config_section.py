"""Typed access to one object of a config.json, with errors that name the field."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from typing import Any

from ...errors import ConfigError, is_whole
from ...utf8 import get_logger
from .sizes import MAX_WIDTH

log = get_logger(__name__)

# Known keys without influence on inference; they are not logged.
_SILENT = {
    "clip_model_name",
    "condition_mask_type",
    "enable_bn",
    "fusion_depth",
    "license",
    "mask_ratio",
    "mask_type",
    "mel_spec_type",
    "model_type",
    "requires_grad",
    "scale",
    "sync_type",
    "transformer_type",
    "use_snake",
}
_REQUIRED: Any = ...
_MAX_TEXT = 200  # characters of a text, which may be the name of a folder
_MAX_ITEMS = 32  # of a list
_MAX_NUMBER = 1e15
_SHOWN = reprlib.Repr()  # errors show long values in part
_SHOWN.maxstring = _SHOWN.maxother = 60


class ConfigSection:
    """One JSON object that is read into a dataclass.

    Every method raises `ConfigError`, naming the field, when a value is missing or wrong. A default makes a
    key optional; then null counts as missing, too, unless the type allows it.
    """

    def __init__(self, data: Any, path: str) -> None:
        """Wrap a value from a config.json.

        Args:
            data: the value; it must be an object.
            path: its name in errors, such as model.diffusion.
        """
        if not isinstance(data, Mapping):
            raise ConfigError(f"config.json: {path} must be an object, got {type(data).__name__}.")
        self._data, self._path, self._read_keys = data, path, set[str]()

    def __contains__(self, key: str) -> bool:
        """Return whether the section has this key."""
        return key in self._data

    def get(self, key: str, kind: type | tuple[type, ...], default: Any = _REQUIRED) -> Any:
        """Return a value of one of the types in `kind`."""
        self._read_keys.add(key)
        value = self._data.get(key, default)
        kinds = kind if isinstance(kind, tuple) else (kind,)
        if value is None and default is not _REQUIRED and type(None) not in kinds:
            return default
        if value is _REQUIRED:
            raise self._error(key, "is missing")
        if key in self._data:
            # Python counts a bool as an int; a configuration does not.
            if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
                names = " or ".join(k.__name__ for k in kinds)
                raise self._error(key, f"must be {names}, got {_SHOWN.repr(value)}")
            self._check_length(key, value)
        return value

    def _check_length(self, key: str, value: Any) -> None:
        """Raise `ConfigError` for a text or a list that is too long, or a text of several lines."""
        limit = _MAX_TEXT if isinstance(value, str) else _MAX_ITEMS
        if isinstance(value, (str, list)) and len(value) > limit:
            unit = "characters" if isinstance(value, str) else "items"
            raise self._error(key, f"has {len(value)} {unit}, but at most {limit} are allowed")
        if isinstance(value, str) and any(ord(character) < ord(" ") for character in value):
            raise self._error(key, f"is {_SHOWN.repr(value)}, which contains control characters")

    def number(self, key: str, default: Any = _REQUIRED) -> Any:
        """Return an int or a float of at most 1e15, never NaN."""
        return self.between(key, -_MAX_NUMBER, _MAX_NUMBER, default)

    def whole(self, key: str, low: int, high: int, default: Any = _REQUIRED) -> int:
        """Return an int in [low, high]."""
        value = self.get(key, int, default)
        if not low <= value <= high:
            raise self._error(key, f"must be from {low} to {high}, got {_SHOWN.repr(value)}")
        return value

    def positive(self, key: str, default: Any = _REQUIRED, high: int = MAX_WIDTH) -> int:
        """Return an int in [1, high]; by default, `high` is the largest width."""
        return self.whole(key, 1, high, default)

    def between(self, key: str, low: float, high: float, default: Any = _REQUIRED) -> float:
        """Return a number in [low, high]."""
        value = self.get(key, (int, float), default)
        if not low <= value <= high:
            raise self._error(key, f"must lie in [{low}, {high}], got {_SHOWN.repr(value)}")
        return value

    def names(self, key: str) -> tuple[str, ...]:
        """Return a list of strings."""
        values = self.get(key, list)
        if not all(isinstance(v, str) for v in values):
            raise self._error(key, f"must be a list of names, got {_SHOWN.repr(values)}")
        for value in values:
            self._check_length(key, value)
        return tuple(values)

    def integers(self, key: str) -> tuple[int, ...]:
        """Return a list of ints from 1 to the largest width, at least one."""
        values = self.get(key, list)
        numbers = [v for v in values if is_whole(v) and 0 < v <= MAX_WIDTH]
        if not values or len(numbers) < len(values):
            problem = f"must be a list of whole numbers from 1 to {MAX_WIDTH}"
            raise self._error(key, f"{problem}, got {_SHOWN.repr(values)}")
        return tuple(values)

    def section(self, key: str, default: Any = _REQUIRED) -> ConfigSection:
        """Return an object inside this one."""
        return ConfigSection(self.get(key, object, default), f"{self._path}.{key}".removeprefix("top."))

    def choice(self, key: str, allowed: tuple[str, ...], default: Any = _REQUIRED) -> Any:
        """Return one of the allowed strings."""
        value = self.get(key, str, default)
        if value not in allowed:
            raise self._error(key, f"is {_SHOWN.repr(value)}. This version supports: {', '.join(allowed)}")
        return value

    def _error(self, key: str, problem: str) -> ConfigError:
        """Return the error for a field."""
        name = f"{self._path}.{key}".removeprefix("top.")
        return ConfigError(f"config.json: {name} {problem}. Use the config.json that belongs to the weights.")

    def log_unknown_keys(self) -> None:
        """Log the keys that were not read, except for known ones without influence."""
        unknown = sorted(set(self._data) - self._read_keys - _SILENT)
        if unknown:
            names = ", ".join(key[:_MAX_TEXT] for key in unknown[:_MAX_ITEMS])
            log.info("config.json: ignored unknown keys of %s: %s", self._path, names)
