"""What is published, and where files are looked for on disk. Nothing here reads weights or the network."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from ..errors import InputError, ModelNotFoundError

_WEIGHT_SUFFIXES = (".safetensors", ".ckpt", ".pth", ".pt")
_STUDENT = "audiox_turbo/audiox_turbo"
_VAE_NAMES = ("VAE", "vae", "pretransform/vae", "pretransform/VAE")
_SYNCHFORMER_NAMES = ("synchformer_state_dict", "synchformer/synchformer_state_dict")


@dataclass(frozen=True, kw_only=True)
class PublishedModel:
    """A repository on the Hugging Face hub and what inference needs of it. Its weights are CC-BY-NC-4.0."""

    repository: str
    patterns: tuple[str, ...]


_PLAIN = ("config.json", "model.ckpt", "model.safetensors", "VAE.ckpt", "synchformer_state_dict.*")
_TURBO = ("config.json", "audiox_turbo/*", "pretransform/*", "synchformer/*")
PUBLISHED: dict[str, PublishedModel] = {
    "AudioX": PublishedModel(repository="HKUSTAudio/AudioX", patterns=_PLAIN),
    "AudioX-MAF": PublishedModel(repository="HKUSTAudio/AudioX-MAF", patterns=_PLAIN),
    "AudioX-MAF-MMDiT": PublishedModel(repository="HKUSTAudio/AudioX-MAF-MMDiT", patterns=_PLAIN),
    "AudioX-Turbo": PublishedModel(repository="HKUSTAudio/AudioX-Turbo", patterns=_TURBO),
}
ALL_PATTERNS = tuple(dict.fromkeys(_PLAIN + _TURBO))
PUBLISHED_LICENSE = "cc-by-nc-4.0"
TEXT_ENCODERS = {"t5-base": "google-t5/t5-base"}
BUNDLED = Path(__file__).parents[1] / "models"
"""Holds a folder for each model that is part of the package."""
DEFAULT_MODEL = "audiox-pocket"
"""One of these."""


@dataclass(frozen=True, kw_only=True)
class ModelFolders:
    """Where to look for files, in order. Downloads go to the first of each.

    audiox: folders that hold a folder a model. synchformer: further folders that may hold Synchformer's
    weights. text_encoders: folders that may hold T5, as a folder `t5-base` or a single file. t5_tokenizer: a
    tokenizer.json for a T5 that comes without one. bundled: like audiox, but looked at last and never written
    to; a model of the user's own of the same name takes the place of one in there.
    """

    audiox: tuple[Path, ...]
    synchformer: tuple[Path, ...] = ()
    text_encoders: tuple[Path, ...] = ()
    t5_tokenizer: Path | None = None
    bundled: tuple[Path, ...] = (BUNDLED,)

    @classmethod
    def default(cls) -> ModelFolders:
        """Without ComfyUI: $AUDIOX_MODELS, else ~/.cache/audiox."""
        root = Path(os.environ.get("AUDIOX_MODELS") or Path.home() / ".cache" / "audiox")
        return cls(audiox=(root,), synchformer=(root,), text_encoders=(root / "text_encoders",))


@dataclass(frozen=True, kw_only=True)
class CheckpointFiles:
    """The files of one model. config: None where none is published. vae: the autoencoder alone."""

    folder: Path
    config: Path | None
    weights: Path
    vae: Path | None
    is_student: bool


def list_models(folders: ModelFolders) -> list[str]:
    """Names of the user's models on disk, of those that are part of the package, then of the published ones.

    So the first is one that works at once, and where the user has models, one of these.
    """
    found: list[str] = []
    for root in folders.audiox:
        found += [name for name in _model_folders(root) if name not in found]
    found += [path.name for path in _bundled_models(folders) if path.name not in found]
    return found + [name for name in PUBLISHED if name not in found]


def _model_folders(root: Path) -> list[str]:
    try:
        return sorted(path.name for path in root.iterdir() if path.is_dir() and holds_model(path))
    except OSError:  # not there, or not ours to read
        return []


def _bundled_models(folders: ModelFolders) -> list[Path]:
    """Those with weights: what cannot be loaded must not be the first that is offered."""
    paths = (root / name for root in folders.bundled for name in _model_folders(root))
    return [path for path in paths if _first(path, ("model",)) is not None]


def holds_model(folder: Path) -> bool:
    """Whether a folder looks like a model: a config.json, or the layout of AudioX-Turbo."""
    return (folder / "config.json").is_file() or _first(folder, (_STUDENT,)) is not None


def find_local(name: str, folders: ModelFolders, allow_paths: bool) -> Path | None:
    """The folder of a model on disk, or None.

    name: a short name, a hub repository, or (allow_paths) the path of a folder.
    Raises `InputError` for a name that is none of these.
    """
    path = Path(name).expanduser()
    if allow_paths and path.is_dir() and (holds_model(path) or path.is_absolute() or name.startswith(".")):
        return path
    # Any folder that `list_models` offers is a name, whatever is in it beside letters.
    if name == path.name and name not in ("", ".", ".."):
        for root in folders.audiox:
            if holds_model(root / name):
                return root / name
    bundled = next((path for path in _bundled_models(folders) if path.name == name), None)
    if bundled is not None:
        return bundled
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name) or ".." in name or name.startswith("."):
        where = "the path of a folder, " if allow_paths else ""
        raise InputError(
            f"{name!r} is no model name. Give {where}a name such as AudioX-Turbo, or owner/repository."
        )
    stored = folder_name(name)
    return next((root / stored for root in folders.audiox if holds_model(root / stored)), None)


def folder_name(name: str) -> str:
    """What a model's folder is called: the short names are kept for the published models."""
    short = name.split("/")[-1]
    published = PUBLISHED.get(short)
    if published is not None and published.repository == name:
        return short
    return name.replace("/", "--")


def find_files(folder: Path) -> CheckpointFiles:
    """Where the parts of a model lie in its folder. Raises `ModelNotFoundError` when there are no weights."""
    config = folder / "config.json"
    student = _first(folder, (_STUDENT,))
    weights = _first(folder, ("model",)) or student or _only_weights(folder)
    if weights is None:
        partial = sorted(p.name for p in folder.rglob("*.incomplete")) + sorted(
            p.name for p in folder.glob("*.part")
        )
        hint = f" A download was left unfinished ({partial[0]})." if partial else ""
        raise ModelNotFoundError(
            f"{folder} holds no weights (model.safetensors, model.ckpt or "
            f"audiox_turbo/audiox_turbo.ckpt).{hint} "
            "Put them there, or choose the published model so that it is fetched."
        )
    return CheckpointFiles(
        folder=folder,
        config=config if config.is_file() else None,
        weights=weights,
        vae=_first(folder, _VAE_NAMES),
        is_student=weights == student,
    )


def find_synchformer(
    folders: ModelFolders, near: Path | None = None, fits: Callable[[Path], bool] = lambda path: True
) -> Path | None:
    """Synchformer's weights: beside the model `near`, else where they are looked for, else None.

    fits: whether weights will do; those that do not are passed over.
    """
    places: list[Path] = [near] if near is not None else []
    places += folders.synchformer
    for root in folders.audiox:
        places += [root, *sorted(p for p in root.glob("*") if p.is_dir())]
    places += _bundled_models(folders)
    found = (_first(place, _SYNCHFORMER_NAMES) for place in places)
    return next((path for path in found if path is not None and fits(path)), None)


def check_encoder_name(name: str) -> None:
    """Raises `InputError` for a text encoder's name that leaves the model's folder."""
    if Path(name).is_absolute() or ".." in Path(name).parts:
        raise InputError(
            f"config.json: t5_model_name is {name!r}; it must name a folder beside it or a model."
        )


def find_text_encoder(name: str, folders: ModelFolders, near: Path | None) -> tuple[Path, Path] | None:
    """(weights, tokenizer.json) of the T5 called `name`: a folder in the model's own, or one of the shared
    places.

    Raises `InputError` for a name that leaves the model's folder.
    """
    check_encoder_name(name)
    short = name.split("/")[-1]
    places = [near / name, near / short] if near is not None else []
    places += [root / folder for root in folders.text_encoders for folder in (name, short)]
    for place in places:
        tokenizer = place / "tokenizer.json"
        if (
            (place / "model.safetensors").is_file()
            and (place / "config.json").is_file()
            and tokenizer.is_file()
        ):
            return place, tokenizer
    if short != "t5-base" or folders.t5_tokenizer is None:
        return None
    singles = (
        root / f"{stem}.safetensors" for root in folders.text_encoders for stem in ("t5-base", "t5_base")
    )
    return next(((path, folders.t5_tokenizer) for path in singles if path.is_file()), None)


def _first(folder: Path, stems: Iterable[str]) -> Path | None:
    paths = (folder / f"{stem}{suffix}" for stem in stems for suffix in _WEIGHT_SUFFIXES)
    return next((path for path in paths if path.is_file()), None)


def _only_weights(folder: Path) -> Path | None:
    """The one weights file of a folder whose name we do not know."""
    beside = ("synchformer", "vae")
    files = [
        path
        for path in sorted(folder.glob("*"))
        if path.suffix in _WEIGHT_SUFFIXES and not path.stem.lower().startswith(beside)
    ]
    return files[0] if len(files) == 1 else None
