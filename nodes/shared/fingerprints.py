"""Fingerprints of the files behind a node's output: ComfyUI compares them to see if its cache is valid.

They must be cheap: ComfyUI computes them for every loader and extractor of a prompt before it runs anything.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ...audiox_ext.checkpoints.catalog import (
    ModelFolders,
    find_files,
    find_model_folder,
    find_synchformer,
    find_text_encoder,
    list_models,
)
from ...audiox_ext.errors import AudioXError
from ..comfy.paths import find_lora, get_model_folders, resolve_input_folder

Fingerprint = tuple[tuple[str, int, int], ...]
"""(path, size in bytes, modification time in ns) of each file, sorted by path."""


class DownloadAwareFingerprints:
    """Fingerprints that a download does not change.

    ComfyUI computes a fingerprint before the run that downloads a model, and again before the next run. The
    new files must not look like a change, or ComfyUI would load and sample everything a second time. So the
    fingerprint from before the download continues to stand for the files after it.
    """

    def __init__(self) -> None:
        """Start without downloads."""
        self._original_models: dict[Fingerprint, Fingerprint] = {}
        self._original_synchformers: dict[Fingerprint, Fingerprint] = {}
        self._has_features_without_sync = False

    def fingerprint_model(self, name: str) -> Fingerprint:
        """Fingerprint the files of a model.

        Args:
            name: the model's name in the loader.
        """
        fingerprint = fingerprint_model_files(name)
        return self._original_models.get(fingerprint, fingerprint)

    def fingerprint_synchformer(self) -> Fingerprint:
        """Fingerprint the Synchformer weights; empty if there are none."""
        fingerprint = _fingerprint_synchformer_file()
        return self._original_synchformers.get(fingerprint, fingerprint)

    def note_features_without_sync(self) -> None:
        """Remember that an output lacks sync features: weights that a download adds make it invalid."""
        self._has_features_without_sync = True
        self._original_synchformers.clear()

    @contextmanager
    def allow_download(self, name: str) -> Iterator[None]:
        """Let the files that appear inside the `with` block leave the fingerprints unchanged.

        Args:
            name: the model that is loaded in the block.
        """
        model, synchformer = fingerprint_model_files(name), _fingerprint_synchformer_file()
        yield
        _equate(self._original_models, model, fingerprint_model_files(name))
        if not self._has_features_without_sync:
            _equate(self._original_synchformers, synchformer, _fingerprint_synchformer_file())


def _equate(originals: dict[Fingerprint, Fingerprint], before: Fingerprint, after: Fingerprint) -> None:
    """Record that a fingerprint stands for an earlier one to which files were added."""
    # A file that was replaced in the meantime is a real change: the old one may be in memory.
    if set(before) < set(after):
        originals[after] = originals.get(before, before)


def fingerprint_model_files(name: str) -> Fingerprint:
    """Fingerprint the files that loading a model reads; empty if the model is not on disk.

    Other files in its folder, such as download logs, do not count.

    Args:
        name: the model's name in the loader.
    """
    folders = get_model_folders()
    if name not in list_models(folders):
        return ()
    folder = find_model_folder(name, folders, allow_paths=False)
    return _fingerprint_files(_list_model_files(folder, folders)) if folder else ()


def fingerprint_lora(name: str | None) -> Fingerprint:
    """Fingerprint a LoRA file; empty if there is no such file.

    Args:
        name: the LoRA's name, or None while the input is linked.
    """
    path = find_lora(name) if name else None
    return _fingerprint_files([path]) if path else ()


def fingerprint_folder(text: str) -> Fingerprint:
    """Fingerprint the files directly inside a folder; empty if there is no such folder.

    Args:
        text: the folder as the user typed it.
    """
    try:
        return _fingerprint_files(path for path in resolve_input_folder(text, "").iterdir() if path.is_file())
    except (AudioXError, OSError):
        return ()


def _fingerprint_synchformer_file() -> Fingerprint:
    """Fingerprint the Synchformer weights on disk; empty if there are none."""
    path = find_synchformer(get_model_folders())
    return _fingerprint_files([path]) if path else ()


def _list_model_files(folder: Path, folders: ModelFolders) -> Iterator[Path]:
    """List the files that loading a model reads, as far as they exist."""
    config = folder / "config.json"
    yield config
    try:
        files = find_files(folder)
        yield files.weights
        if files.vae is not None:
            yield files.vae
        for name in _read_text_encoder_names(config):
            encoder = find_text_encoder(name, folders, folder)
            if encoder is not None:
                weights, tokenizer = encoder
                if weights.is_dir():
                    yield from (weights / "config.json", weights / "model.safetensors")
                else:
                    yield weights
                yield tokenizer
    except AudioXError:
        return  # The loader reports the error; the files listed so far show when it is fixed.


def _read_text_encoder_names(config: Path) -> set[str]:
    """Search config.json for text encoder names without parsing it: a fingerprint must never fail."""
    try:
        text = config.read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    return set(re.findall(r'"t5_model_name"\s*:\s*"([^"]+)"', text)) or {"t5-base"}


def _fingerprint_files(paths: Iterable[Path]) -> Fingerprint:
    """Fingerprint those of the files that exist."""
    entries = []
    for path in sorted(set(paths)):
        try:
            status = path.stat()
        except OSError:
            continue
        entries.append((str(path), status.st_size, status.st_mtime_ns))
    return tuple(entries)
