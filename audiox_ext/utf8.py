"""Makes every text that leaves this package valid UTF-8.

Python's strings may contain lone surrogates, which no encoder accepts: file names on Linux that are not UTF-8
have them, and prompts that a client cut in the middle of an emoji.
"""

from __future__ import annotations

import logging


def is_valid(text: str) -> bool:
    """Whether a text has no lone surrogates."""
    return escape_surrogates(text) == text


def escape_surrogates(text: str) -> str:
    r"""Return a text for people: lone surrogates become visible escapes, such as \udce9.

    Names that differ stay different. Errors and log messages of this package are escaped already.
    """
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def replace_surrogates(text: str) -> str:
    """Return a text for a model: both halves of a character are joined, and a lone half becomes U+FFFD."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def get_logger(name: str) -> logging.Logger:
    """Return the logger of a module. Its messages are valid UTF-8.

    Args:
        name: `__name__` of the module.
    """
    logger = logging.getLogger(name)
    if _escape_record not in logger.filters:
        logger.addFilter(_escape_record)
    return logger


def _escape_record(record: logging.LogRecord) -> bool:
    """Format a record, so that its handlers receive the escaped text. Keep every record."""
    record.msg, record.args = escape_surrogates(record.getMessage()), None
    return True
