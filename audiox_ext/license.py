"""Asks for consent before weights under a non-commercial licence are used.

The code is under the MIT licence; the published weights are under CC-BY-NC-4.0. Weights count as
non-commercial unless their config.json names a licence that is known to allow every use.
"""

from __future__ import annotations

import os
import re

from .errors import LicenseError

ACCEPT_VARIABLE = "AUDIOX_ACCEPT_CC_BY_NC"
DISABLE_VARIABLE = "AUDIOX_DISABLE"
_FREE = {
    "0bsd",
    "apache-2.0",
    "bsd",
    "bsd-2-clause",
    "bsd-3-clause",
    "cc-by-3.0",
    "cc-by-4.0",
    "cc-by-sa-3.0",
    "cc-by-sa-4.0",
    "cc0-1.0",
    "isc",
    "mit",
    "mit-license",
    "unlicense",
}
_YES = ("1", "true", "yes", "on")


def is_set(variable: str) -> bool:
    """Whether an environment variable is 1, true, yes or on."""
    return os.environ.get(variable, "").strip().lower() in _YES


def is_non_commercial(license_name: str | None) -> bool:
    """Whether weights under this licence need consent: true unless it is known to allow every use."""
    words = re.sub(r"[\s_]+", "-", (license_name or "").strip().lower())
    return words not in _FREE


def check_license(license_name: str | None, source: str, accepted: bool) -> None:
    """Check that the user may use weights.

    Args:
        license_name: The licence that the weights name, or None.
        source: Origin of the weights, for the message.
        accepted: The caller's explicit consent; the environment variable AUDIOX_ACCEPT_CC_BY_NC=1 counts
            as well.

    Raises:
        LicenseError: The weights need consent and there is none.
    """
    if not is_non_commercial(license_name) or accepted or is_set(ACCEPT_VARIABLE):
        return
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
        "Nothing was loaded or downloaded."
    )
