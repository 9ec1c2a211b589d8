"""The published models, the search for files on disk, and downloads from the Hugging Face hub.

Nothing here reads weights.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from ..errors import InputError, ModelNotFoundError
from ..files import (
    expand_home,
    explain_os_error,
    find_home,
    is_about_disk,
    is_temporary,
    restore_replaced,
)
from ..utf8 import get_logger
from .untrusted.names import check_encoder_name

log = get_logger(__name__)

WEIGHT_SUFFIXES = (".safetensors", ".ckpt", ".pth", ".pt")
_STUDENT = "audiox_turbo/audiox_turbo"
_VAE_NAMES = ("VAE", "vae", "pretransform/vae", "pretransform/VAE")
SYNCHFORMER_NAMES = ("synchformer_state_dict", "synchformer/synchformer_state_dict")
DOWNLOAD_MARK = ".audiox-fetching"  # holds the repository's name while the download is incomplete


@dataclass(frozen=True, kw_only=True)
class PublishedModel:
    """A repository on the Hugging Face hub. Its weights are CC-BY-NC-4.0.

    Attributes:
        repository: owner/name on the hub.
        patterns: the files that inference needs.
    """

    repository: str
    patterns: tuple[str, ...]


_STANDARD_FILES = ("config.json", "model.ckpt", "model.safetensors", "VAE.ckpt", "synchformer_state_dict.*")
_TURBO_FILES = ("config.json", "audiox_turbo/*", "pretransform/*", "synchformer/*")
PUBLISHED: dict[str, PublishedModel] = {
    "AudioX": PublishedModel(repository="HKUSTAudio/AudioX", patterns=_STANDARD_FILES),
    "AudioX-MAF": PublishedModel(repository="HKUSTAudio/AudioX-MAF", patterns=_STANDARD_FILES),
    "AudioX-MAF-MMDiT": PublishedModel(repository="HKUSTAudio/AudioX-MAF-MMDiT", patterns=_STANDARD_FILES),
    "AudioX-Turbo": PublishedModel(repository="HKUSTAudio/AudioX-Turbo", patterns=_TURBO_FILES),
}
ALL_PATTERNS = tuple(dict.fromkeys(_STANDARD_FILES + _TURBO_FILES))
PUBLISHED_LICENSE = "cc-by-nc-4.0"
TEXT_ENCODERS = {"t5-base": "google-t5/t5-base"}
BUNDLED = Path(__file__).parents[1] / "models"
"""The folder of the models that come with this package, one folder per model."""
DEFAULT_MODEL = "audiox-pocket"
"""The name of a bundled model."""


@dataclass(frozen=True, kw_only=True)
class ModelFolders:
    """The folders to search for files, in order. Downloads go to the first of each kind.

    Attributes:
        audiox: folders with one subfolder per model.
        synchformer: more folders that may hold Synchformer's weights.
        text_encoders: folders that may hold T5, as a folder `t5-base` or as a single file.
        t5_tokenizer: the tokenizer.json for a T5 that comes without one.
        bundled: like `audiox`, but searched last and never written to. A user's model takes precedence over a
            bundled one of the same name.
    """

    audiox: tuple[Path, ...]
    synchformer: tuple[Path, ...] = ()
    text_encoders: tuple[Path, ...] = ()
    t5_tokenizer: Path | None = None
    bundled: tuple[Path, ...] = (BUNDLED,)

    @classmethod
    def default(cls) -> ModelFolders:
        """Return the folders outside ComfyUI: $AUDIOX_MODELS if set, otherwise ~/.cache/audiox."""
        return cls.below(Path(os.environ.get("AUDIOX_MODELS") or find_home() / ".cache" / "audiox"))

    @classmethod
    def below(cls, root: Path) -> ModelFolders:
        """Return folders that all lie in `root`: one per model, and text_encoders."""
        return cls(audiox=(root,), synchformer=(root,), text_encoders=(root / "text_encoders",))


@dataclass(frozen=True, kw_only=True)
class CheckpointFiles:
    """The files of one model.

    Attributes:
        folder: the model's folder.
        config: its config.json, None if it has none (AudioX-Turbo is published without).
        weights: the main weights file.
        vae: a file with the autoencoder alone, if there is one.
        is_student: whether the weights have the layout of AudioX-Turbo.
    """

    folder: Path
    config: Path | None
    weights: Path
    vae: Path | None
    is_student: bool


def list_models(folders: ModelFolders) -> list[str]:
    """List model names: the user's on disk, then the bundled ones, then the published ones.

    The first one works without a download, and is one of the user's if there are any.
    """
    names: list[str] = []
    for root in folders.audiox:
        names += [name for name in _model_names(root) if name not in names]
    names += [path.name for path in _bundled_models(folders) if path.name not in names]
    return names + [name for name in PUBLISHED if name not in names]


def _model_names(root: Path) -> list[str]:
    """List the model folders in `root`, none if it cannot be read."""
    restore_replaced(root)
    try:
        return sorted(path.name for path in root.iterdir() if holds_model(path) and not is_temporary(path))
    except OSError:
        return []


def _bundled_models(folders: ModelFolders) -> list[Path]:
    """List bundled models that have weights: the first model on offer must load."""
    paths = (root / name for root in folders.bundled for name in _model_names(root))
    return [path for path in paths if _first_weights(path, ("model",)) is not None]


def holds_model(folder: Path) -> bool:
    """Return whether a folder looks like a model: a config.json, or the layout of AudioX-Turbo."""
    return (folder / "config.json").is_file() or _first_weights(folder, (_STUDENT,)) is not None


def find_model_folder(name: str, folders: ModelFolders, allow_paths: bool) -> Path | None:
    """Find a model on disk.

    Args:
        name: a short name, a hub repository, or (with allow_paths) the path of a folder.
        folders: folders to search.
        allow_paths: whether `name` may be a path.

    Returns:
        The model's folder, or None if it is not on disk.

    Raises:
        InputError: `name` is not a valid name.
    """
    path = expand_home(Path(name))
    for root in (*folders.audiox, path.parent) if allow_paths else folders.audiox:
        restore_replaced(root)
    if allow_paths and path.is_dir() and (holds_model(path) or path.is_absolute() or name.startswith(".")):
        return path
    # Every folder that `list_models` offers is a valid name, whatever characters it has.
    if name == path.name and name not in ("", ".", ".."):
        for root in folders.audiox:
            if holds_model(root / name):
                return root / name
    bundled = next((path for path in _bundled_models(folders) if path.name == name), None)
    if bundled is not None:
        return bundled
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name) or ".." in name or name.startswith("."):
        path_hint = ", or the path of a folder" if allow_paths else ""
        raise InputError(
            f"{name!r} is not a model name. Give a name such as AudioX-Turbo or a hub repository such as "
            f"HKUSTAudio/AudioX{path_hint}."
        )
    stored = folder_name(name)
    return next((root / stored for root in folders.audiox if holds_model(root / stored)), None)


def require_model_folder(name: str, folders: ModelFolders) -> Path:
    """Find a model on disk by its name or path, as `find_model_folder` does.

    Raises:
        ModelNotFoundError: the model is not on disk.
    """
    folder = find_model_folder(name, folders, allow_paths=True)
    if folder is None:
        raise ModelNotFoundError(
            f"{name} is not on disk. Give the path of its folder, or the name of a model in "
            f"{folders.audiox[0]}."
        )
    return folder


def folder_name(name: str) -> str:
    """Return a model's folder name: short for published repositories, owner--name for others."""
    short = name.split("/")[-1]
    published = PUBLISHED.get(short)
    if published is not None and published.repository == name:
        return short
    return name.replace("/", "--")


def find_files(folder: Path) -> CheckpointFiles:
    """Locate the parts of a model in its folder.

    Raises:
        ModelNotFoundError: there are no weights.
    """
    config = folder / "config.json"
    student = _first_weights(folder, (_STUDENT,))
    weights = _first_weights(folder, ("model",)) or student or _only_weights(folder)
    if weights is None:
        partial = sorted(p.name for p in folder.rglob("*.incomplete")) + sorted(
            p.name for p in folder.glob("*.part")
        )
        hint = f" A download was left unfinished ({partial[0]})." if partial else ""
        raise ModelNotFoundError(
            f"{folder} has no weights (model.safetensors, model.ckpt or "
            f"audiox_turbo/audiox_turbo.ckpt).{hint} Put the file there, or choose a published model, which "
            "is downloaded for you."
        )
    return CheckpointFiles(
        folder=folder,
        config=config if config.is_file() else None,
        weights=weights,
        vae=_first_weights(folder, _VAE_NAMES),
        is_student=weights == student,
    )


def find_synchformer(
    folders: ModelFolders, near: Path | None = None, fits: Callable[[Path], bool] = lambda path: True
) -> Path | None:
    """Find Synchformer's weights.

    Args:
        folders: folders to search.
        near: a model's folder, searched first.
        fits: whether a file can be used; others are skipped.

    Returns:
        The file, or None.
    """
    places: list[Path] = [near] if near is not None else []
    places += folders.synchformer
    for root in folders.audiox:
        places += [root, *sorted(p for p in root.glob("*") if p.is_dir() and not is_temporary(p))]
    places += _bundled_models(folders)
    candidates = (_first_weights(place, SYNCHFORMER_NAMES) for place in places)
    return next((path for path in candidates if path is not None and fits(path)), None)


def find_text_encoder(name: str, folders: ModelFolders, near: Path | None) -> tuple[Path, Path] | None:
    """Find the T5 called `name` in the model's folder `near` or in the shared folders.

    Returns:
        The weights (a folder or a file) and the tokenizer.json, or None.

    Raises:
        InputError: `name` leads outside the model's folder.
    """
    check_encoder_name(name)
    short = name.split("/")[-1]
    places = [near / name, near / short] if near is not None else []
    places += [root / folder for root in folders.text_encoders for folder in (name, short)]
    for place in places:
        if all((place / file).is_file() for file in ("model.safetensors", "config.json", "tokenizer.json")):
            return place, place / "tokenizer.json"
    if short != "t5-base" or folders.t5_tokenizer is None:
        return None
    single_files = (
        root / f"{stem}.safetensors" for root in folders.text_encoders for stem in ("t5-base", "t5_base")
    )
    return next(((path, folders.t5_tokenizer) for path in single_files if path.is_file()), None)


def _first_weights(folder: Path, stems: Iterable[str]) -> Path | None:
    """Return the first weights file with one of these names without suffix."""
    paths = (folder / f"{stem}{suffix}" for stem in stems for suffix in WEIGHT_SUFFIXES)
    return next((path for path in paths if path.is_file()), None)


def _only_weights(folder: Path) -> Path | None:
    """Return the weights file with an unknown name, if there is exactly one."""
    other_parts = ("synchformer", "vae")
    files = [
        path
        for path in sorted(folder.glob("*"))
        if path.suffix in WEIGHT_SUFFIXES
        and not path.stem.lower().startswith(other_parts)
        and not is_temporary(path)
    ]
    return files[0] if len(files) == 1 else None


def unfinished_repository(folder: Path) -> str | None:
    """Return the repository of an incomplete download into this folder, or None."""
    try:
        repository = (folder / DOWNLOAD_MARK).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return None
    return repository if re.fullmatch(r"[\w.-]+/[\w.-]+", repository) else None


def clear_download_mark(folder: Path) -> None:
    """Mark a folder as complete, wherever its files came from."""
    with contextlib.suppress(OSError):
        (folder / DOWNLOAD_MARK).unlink(missing_ok=True)


def download_repository(repository: str, patterns: Sequence[str], folder: Path) -> Path:
    """Download files from the hub, with progress bars; an interrupted download resumes.

    Args:
        repository: owner/name.
        patterns: the files to download, as in `fnmatch`.
        folder: the destination.

    Returns:
        `folder`.

    Raises:
        ModelNotFoundError: the hub cannot be reached, the repository does not exist or needs a login, or the
            folder cannot be written. The message names the page and the folder for a download by hand.
    """
    from huggingface_hub import model_info, snapshot_download

    log.info("Downloading %s to %s", repository, folder)
    page = f"https://huggingface.co/{repository}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / DOWNLOAD_MARK).write_text(repository, encoding="utf-8")
        # List the files first: without a network, snapshot_download returns an incomplete folder as complete.
        listing = [file.rfilename for file in model_info(repository).siblings or []]
        names = _select(listing, patterns)
        snapshot_download(repo_id=repository, allow_patterns=names, local_dir=str(folder))
    except Exception as error:  # the hub's client raises errors of several HTTP libraries
        raise ModelNotFoundError(_explain_failure(error, repository, folder)) from None
    if not names:
        raise ModelNotFoundError(
            f"{page} has no files of an AudioX model (config.json and weights). Check the name."
        )
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise ModelNotFoundError(
            f"{missing[0]} of {repository} was not downloaded. Try again: the download resumes."
        )
    clear_download_mark(folder)
    return folder


def _explain_failure(error: Exception, repository: str, folder: Path) -> str:
    """Return sentences that say why a download failed, and what to do."""
    from huggingface_hub.utils import GatedRepoError, RepositoryNotFoundError

    page = f"https://huggingface.co/{repository}"
    status = getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(error, GatedRepoError):
        return f"{page} needs a login. Accept its terms there, run `hf auth login`, and try again."
    if status in (401, 403):  # the hub also answers 401 for repositories that do not exist
        return (
            f"The hub refuses access to {repository} (HTTP {status}): it does not exist, it is private or "
            "gated, or your token is wrong. Check the name. If it is right, accept the terms on "
            f"{page}, run `hf auth login` with a token that may read it, and try again."
        )
    if isinstance(error, RepositoryNotFoundError):
        return f"There is no repository {repository} on the Hugging Face hub. Check the name."
    if isinstance(error, OSError) and is_about_disk(error):
        return explain_os_error(folder, error)
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    return (
        f"{repository} could not be downloaded ({reason}). Check the network connection and the free "
        f"disk space, then try again: the download resumes. Or download the files from {page} yourself "
        f"and put them into {folder}."
    )


def _select(listing: Sequence[str], patterns: Sequence[str]) -> list[str]:
    """Select the files to download, without pickles that are also there as safetensors."""
    names = [name for name in listing if any(fnmatch(name, pattern) for pattern in patterns)]
    safe = {Path(name).with_suffix("") for name in names if name.endswith(".safetensors")}
    return [
        name
        for name in names
        if name.endswith(".safetensors") or name.endswith(".json") or Path(name).with_suffix("") not in safe
    ]
