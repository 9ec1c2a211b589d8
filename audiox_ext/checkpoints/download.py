"""Fetching published files from the Hugging Face hub, with its progress bars and resume."""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path

from ..errors import ModelNotFoundError

log = logging.getLogger(__name__)

_UNFINISHED = ".audiox-fetching"  # holds the repository's name while files of it may be missing


def unfinished_repository(folder: Path) -> str | None:
    """The repository whose download into this folder was begun and did not end, or None."""
    try:
        repository = (folder / _UNFINISHED).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return None
    return repository if re.fullmatch(r"[\w.-]+/[\w.-]+", repository) else None


def forget_unfinished(folder: Path) -> None:
    """Called when a model has loaded whole, wherever its files came from."""
    with contextlib.suppress(OSError):
        (folder / _UNFINISHED).unlink(missing_ok=True)


def fetch_repository(repository: str, patterns: Sequence[str], folder: Path) -> Path:
    """Download the files of a repository that match the patterns into a folder, going on where an earlier try
    ended.

    Raises `ModelNotFoundError` with the page and the place for the files when the hub cannot be reached, the
    repository does not exist or wants a login, or the disk is full.
    """
    from huggingface_hub import model_info, snapshot_download
    from huggingface_hub.utils import GatedRepoError, RepositoryNotFoundError

    log.info("Fetching %s to %s", repository, folder)
    page = f"https://huggingface.co/{repository}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / _UNFINISHED).write_text(repository, encoding="utf-8")
        # Asked first: without a network, snapshot_download takes whatever is in the folder for the whole.
        held = [file.rfilename for file in model_info(repository).siblings or []]
        wanted = _choose(held, patterns)
        snapshot_download(repo_id=repository, allow_patterns=wanted, local_dir=str(folder))
    except GatedRepoError:
        raise ModelNotFoundError(
            f"{page} wants a login. Accept its terms there, run `hf auth login`, and try again."
        ) from None
    except RepositoryNotFoundError:
        raise ModelNotFoundError(f"There is no repository {repository} on the hub. Check the name.") from None
    except Exception as error:  # the hub's client raises errors of several HTTP libraries
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ModelNotFoundError(
            f"{repository} could not be fetched ({reason}). Check the network and the free disk space and "
            f"try again; what has arrived is kept. Or fetch the files from {page} by hand and put them into "
            f"{folder}."
        ) from None
    if not wanted:
        raise ModelNotFoundError(
            f"{page} holds no model of this kind (config.json and weights). Check the name."
        )
    missing = [name for name in wanted if not (folder / name).is_file()]
    if missing:
        raise ModelNotFoundError(
            f"{missing[0]} of {repository} did not arrive. Try again; what has arrived is kept."
        )
    forget_unfinished(folder)
    return folder


def _choose(held: Sequence[str], patterns: Sequence[str]) -> list[str]:
    """The files to fetch: where weights come as safetensors, not their pickles as well."""
    wanted = [name for name in held if any(fnmatch(name, pattern) for pattern in patterns)]
    safe = {Path(name).with_suffix("") for name in wanted if name.endswith(".safetensors")}
    return [
        name
        for name in wanted
        if name.endswith(".safetensors") or name.endswith(".json") or Path(name).with_suffix("") not in safe
    ]
