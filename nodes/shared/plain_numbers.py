"""Numbers in the objects of other packs."""

from __future__ import annotations

from typing import Any


def read_number(value: Any) -> int | float | None:
    """Return a number, or the one number that a tensor, an array or a number of numpy holds; else None.

    Args:
        value: an entry of another pack's object.
    """
    if hasattr(value, "item"):
        try:
            value = value.item()
        except (RuntimeError, ValueError):  # it holds several numbers
            return None
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None
