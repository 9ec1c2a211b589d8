"""Stamps of the files behind a node's output: what ComfyUI compares to know whether a cached one still holds.

Light, because ComfyUI asks for every loader and extractor of a prompt before it runs anything.
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
from ..comfy import host
from ..comfy.training import input_folder

Stamp = tuple[tuple[str, int, int], ...]
"""(path, bytes, time of change in ns) of each file, in the order of the paths."""

# ComfyUI asks for a fingerprint before the run that fetches the files, and again before the next. What a
# fetch has added must not look like a change then, or everything would be loaded and sampled a second time:
# the stamp after the fetch counts as the one before it.
_models_count_as: dict[Stamp, Stamp] = {}
_synchformers_count_as: dict[Stamp, Stamp] = {}

# Whether features lack sync for want of weights: they must be made again when there are some.
_done_without_synchformer = False


def model_fingerprint(name: str) -> Stamp:
    """What to tell ComfyUI about the files of the model `name`."""
    stamp = model_stamp(name)
    return _models_count_as.get(stamp, stamp)


def synchformer_fingerprint() -> Stamp:
    """What to tell ComfyUI about Synchformer's weights; empty where there are none."""
    stamp = _synchformer_stamp()
    return _synchformers_count_as.get(stamp, stamp)


def lora_fingerprint(name: str | None) -> Stamp:
    """What to tell ComfyUI about the file of a LoRA; empty where there is none, or no name yet."""
    path = host.lora_path(name) if name else None
    return _stamp_of([path]) if path else ()


def model_stamp(name: str) -> Stamp:
    """Of the files that loading the model `name` reads; empty for a model that is not on disk.

    Other files in its folder do not count, be they a download's notes or those of a file manager.
    """
    folders = host.model_folders()
    if name not in list_models(folders):
        return ()
    folder = find_model_folder(name, folders, allow_paths=False)
    return _stamp_of(_files_of_model(folder, folders)) if folder else ()


def folder_stamp(text: str) -> Stamp:
    """Of the files that lie directly in a folder that a node is given as text; empty where there is none."""
    try:
        return _stamp_of(path for path in input_folder(text, "").iterdir() if path.is_file())
    except (AudioXError, OSError):
        return ()


def note_done_without_synchformer() -> None:
    """Remember that an output lacks sync features, so that ComfyUI drops it once there are weights."""
    global _done_without_synchformer
    _done_without_synchformer = True
    _synchformers_count_as.clear()


@contextmanager
def noting_fetches(name: str) -> Iterator[None]:
    """Around the loading of the model `name`: files that it adds count as having been there before."""
    model, synchformer = model_stamp(name), _synchformer_stamp()
    yield
    _note(_models_count_as, model, model_stamp(name))
    if not _done_without_synchformer:
        _note(_synchformers_count_as, synchformer, _synchformer_stamp())


def _note(counts_as: dict[Stamp, Stamp], before: Stamp, after: Stamp) -> None:
    # A file that was replaced meanwhile is another matter: what is in memory may be the old one.
    if set(before) < set(after):
        counts_as[after] = counts_as.get(before, before)


def _synchformer_stamp() -> Stamp:
    path = find_synchformer(host.model_folders())
    return _stamp_of([path]) if path else ()


def _files_of_model(folder: Path, folders: ModelFolders) -> Iterator[Path]:
    config = folder / "config.json"
    yield config
    try:
        files = find_files(folder)
        yield files.weights
        if files.vae is not None:
            yield files.vae
        for name in _text_encoder_names(config):
            found = find_text_encoder(name, folders, folder)
            if found is not None:
                weights, tokenizer = found
                whole = weights.is_dir()
                yield from (weights / "config.json", weights / "model.safetensors") if whole else (weights,)
                yield tokenizer
    except AudioXError:
        return  # Loading says what is wrong; what was found until here tells when it changes.


def _text_encoder_names(config: Path) -> set[str]:
    # Not parsed: a fingerprint must come of any file, and the loader judges it.
    try:
        text = config.read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    return set(re.findall(r'"t5_model_name"\s*:\s*"([^"]+)"', text)) or {"t5-base"}


def _stamp_of(paths: Iterable[Path]) -> Stamp:
    stamps = []
    for path in sorted(set(paths)):
        try:
            status = path.stat()
        except OSError:
            continue
        stamps.append((str(path), status.st_size, status.st_mtime_ns))
    return tuple(stamps)
