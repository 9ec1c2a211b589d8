"""Asks for consent before weights under a non-commercial licence are used.

The code is under the MIT licence; the published weights are under CC-BY-NC-4.0. Weights count as
non-commercial unless they name a licence that is known to allow every use. Whatever is made from weights
inherits the strictest licence of all that went in.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable

from .errors import LicenseError

ACCEPT_VARIABLE = "AUDIOX_ACCEPT_CC_BY_NC"
DISABLE_VARIABLE = "AUDIOX_DISABLE"
# Licences that allow every use, by what they demand: 0 nothing, 1 attribution, 2 the same licence as well.
_FREE = {
    "0bsd": 0,
    "cc0-1.0": 0,
    "unlicense": 0,
    "apache-2.0": 1,
    "bsd": 1,
    "bsd-2-clause": 1,
    "bsd-3-clause": 1,
    "cc-by-3.0": 1,
    "cc-by-4.0": 1,
    "isc": 1,
    "mit": 1,
    "mit-license": 1,
    "cc-by-sa-3.0": 2,
    "cc-by-sa-4.0": 2,
}
_AND = " AND "  # as in SPDX licence expressions
_YES = ("1", "true", "yes", "on")


def is_set(variable: str) -> bool:
    """Whether an environment variable is 1, true, yes or on."""
    return os.environ.get(variable, "").strip().lower() in _YES


def is_non_commercial(license_name: str | None) -> bool:
    """Whether weights under this licence need consent: true unless it is known to allow every use."""
    return _normalise(license_name) not in _FREE


def names_license(license_name: str | None) -> bool:
    """Whether a text names a licence at all; `convert` writes "unknown" where it knows none."""
    return _normalise(license_name) not in ("", "unknown")


def find_strictest(licenses: Iterable[str | None]) -> str | None:
    """Return the licence of what is made from parts under several licences.

    Args:
        licenses: The licence of each part. None counts as non-commercial, as everywhere.

    Returns:
        Among licences that need consent, all that are named, joined by AND; None if none of them is named.
        Otherwise the free licence that demands most. None without parts.
    """
    names = [name if names_license(name) else None for name in licenses]
    strict = [name for name in names if is_non_commercial(name)]
    if not strict:
        return max(names, key=lambda name: _FREE[_normalise(name)], default=None)
    parts = (part.strip() for name in strict if name for part in name.split(_AND))
    distinct = {_normalise(part): part for part in parts}
    return _AND.join(distinct.values()) or None


def is_consent(value: object) -> bool:
    """Whether a value is consent: only True is. In a condition, the text "false" would count as true."""
    return value is True


def _normalise(license_name: str | None) -> str:
    """Return a licence's name in lower case, with hyphens."""
    return re.sub(r"[\s_]+", "-", (license_name or "").strip().lower())


def check_license(license_name: str | None, source: str, accepted: object) -> None:
    """Check that the user may use weights.

    Args:
        license_name: The licence that the weights name, or None.
        source: Origin of the weights, for the message.
        accepted: The caller's explicit consent, True and no other value; the environment variable
            AUDIOX_ACCEPT_CC_BY_NC=1 counts as well.

    Raises:
        LicenseError: The weights need consent and there is none.
    """
    if not is_non_commercial(license_name) or is_consent(accepted) or is_set(ACCEPT_VARIABLE):
        return
    no_consent = ""
    if accepted is not None and not isinstance(accepted, bool):
        no_consent = f" accept_cc_by_nc is {repr(accepted)[:40]}, which is not consent: only True is."
    origin = (
        f"their licence is {license_name}"
        if license_name
        else "no licence is named, so CC-BY-NC-4.0 is assumed"
    )
    raise LicenseError(
        f"The weights of {source} are not known to be free for every use: {origin}. CC-BY-NC-4.0 forbids "
        "commercial use of the weights and asks for attribution. If your use is non-commercial, accept it: "
        "tick accept_cc_by_nc on the AudioX Model Loader, pass --accept-cc-by-nc or accept_cc_by_nc=True, "
        f"or set {ACCEPT_VARIABLE}=1. For commercial work use SelVA, whose video-to-sound weights are MIT. "
        f"Nothing was loaded or downloaded.{no_consent}"
    )
