"""Reads text files of captions in the encodings that editors write."""

from __future__ import annotations

import codecs
import unicodedata
from pathlib import Path

from ...errors import InputError
from ...utf8 import replace_surrogates

_LARGEST_FILE = 64 * 10**6  # bytes
_LONGEST_CAPTION = 10_000  # characters


def read_text(path: Path) -> str:
    """Return the content of a text file with its line breaks: UTF-8, or UTF-16 with a byte order mark.

    Raises:
        InputError: the file cannot be read, is larger than 64 MB, or has another encoding.
    """
    try:
        with path.open("rb") as file:
            data = file.read(_LARGEST_FILE + 1)
        if len(data) > _LARGEST_FILE:
            raise InputError(f"{path} is larger than 64 MB, too large for captions. Split it, or delete it.")
        is_utf16 = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        text = data.decode("utf-16" if is_utf16 else "utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read as UTF-8 text ({error}). Save it as UTF-8.") from None
    if "\0" in text:
        raise InputError(f"{path} contains zero bytes, so it is not a UTF-8 text. Save it as UTF-8.")
    return text


def check_caption(caption: str, place: str) -> None:
    """Check the length of a caption.

    Args:
        caption: the caption.
        place: its file, and its line if it has one.

    Raises:
        InputError: it is longer than 10,000 characters.
    """
    if len(caption) > _LONGEST_CAPTION:
        raise InputError(
            f"{place} has a caption of {len(caption)} characters. Captions may have up to "
            f"{_LONGEST_CAPTION}; models read about the first 100 words."
        )


def clean_caption(text: str) -> str:
    """Return a caption as one line of valid UTF-8: every white space, line breaks included, is one space."""
    return " ".join(unicodedata.normalize("NFC", replace_surrogates(text)).split())
