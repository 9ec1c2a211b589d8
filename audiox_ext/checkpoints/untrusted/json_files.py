"""Reads JSON files of bounded length."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from ...errors import ConfigError, quote_value
from ...files import is_special

MAX_CONFIG_BYTES = 1 << 20
"""Largest config.json; published ones have a few thousand bytes."""
MAX_TOKENIZER_BYTES = 32 << 20
"""Largest tokenizer.json; that of t5-base has 1.4 MB."""


def read_config(path: Path) -> dict[str, Any]:
    """Read the JSON object in a config.json.

    Raises:
        ConfigError: the file is missing, unreadable, too long or not JSON, or names a field twice.
    """
    check_length(path, MAX_CONFIG_BYTES)
    try:
        data = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=_read_object)
    except FileNotFoundError:
        raise ConfigError(
            f"{path} is missing: every model needs its config.json beside the weights. Put it there."
        ) from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read ({error}). Check its permissions.") from None
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path} is not valid JSON ({error}). Download it again.") from None
    if not isinstance(data, dict):
        raise ConfigError(f"{path} contains a {type(data).__name__}, not an object. Download it again.")
    return data


def _read_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Build an object. Raises `ValueError` for a field that it has twice: programs differ in which counts."""
    data = dict(pairs)
    if len(data) < len(pairs):
        ((twice, _),) = Counter(name for name, _ in pairs).most_common(1)
        raise ValueError(f"it has the field {quote_value(twice)} twice")
    return data


def check_length(path: Path, limit: int) -> None:
    """Check that a file is not too long to be read.

    Args:
        path: the file, which may be missing.
        limit: the largest length, in bytes.

    Raises:
        ConfigError: the file is longer, or is not a regular file.
    """
    if is_special(path):
        raise ConfigError(f"{path} is a pipe or a device, which is not read. Put a regular file there.")
    size = path.stat().st_size if path.is_file() else 0
    if size > limit:
        raise ConfigError(f"{path} has {size} bytes, but at most {limit} are read. Download it again.")
