"""Reads text files of captions in the encodings that editors write."""

from __future__ import annotations

import codecs
import unicodedata
from pathlib import Path

from ...errors import InputError
from ...utf8 import replace_surrogates


def read_text(path: Path) -> str:
    """Return the content of a text file with its line breaks: UTF-8, or UTF-16 with a byte order mark.

    Raises:
        InputError: the file cannot be read, or has another encoding.
    """
    try:
        data = path.read_bytes()
        is_utf16 = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        text = data.decode("utf-16" if is_utf16 else "utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read as UTF-8 text ({error}). Save it as UTF-8.") from None
    if "\0" in text:
        raise InputError(f"{path} contains zero bytes, so it is not a UTF-8 text. Save it as UTF-8.")
    return text


def clean_caption(text: str) -> str:
    """Return a caption as one line of valid UTF-8: every white space, line breaks included, is one space."""
    return " ".join(unicodedata.normalize("NFC", replace_surrogates(text)).split())
