"""ComfyUI's folders: models, LoRAs, input, output, temporary files and the feature cache."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import comfy.ops
import folder_paths
from comfy.cli_args import args

from ...audiox_ext.errors import InputError, quote_value
from ...audiox_ext.files import (
    check_file_writable,
    choose_temporary,
    expand_home,
    explain_os_error,
    rename_exclusively,
)
from ...audiox_ext.utf8 import escape_surrogates, is_valid

if TYPE_CHECKING:
    from ...audiox_ext.checkpoints.catalog import ModelFolders
    from ...audiox_ext.conditioning.feature_cache import FeatureCache

_MODEL_FOLDER = "audiox"
_WEIGHT_SUFFIXES = {".safetensors", ".ckpt"}
_FULL_PATHS = "AUDIOX_ALLOW_FULL_PATHS"


# Models


def register_model_folders() -> None:
    """Register models/audiox with ComfyUI and keep the folders that extra_model_paths.yaml added.

    A second call changes nothing.
    """
    folder_paths.add_model_folder_path(_MODEL_FOLDER, os.path.join(folder_paths.models_dir, _MODEL_FOLDER))
    # Without extensions ComfyUI would list every file of the folder under /models/audiox.
    paths, extensions = folder_paths.folder_names_and_paths[_MODEL_FOLDER]
    folder_paths.folder_names_and_paths[_MODEL_FOLDER] = (paths, set(extensions) | _WEIGHT_SUFFIXES)


def get_model_folders() -> ModelFolders:
    """Return the folders to search for models, Synchformer weights and text encoders."""
    from ...audiox_ext.checkpoints.catalog import ModelFolders

    return ModelFolders(
        audiox=_get_folders(_MODEL_FOLDER),
        synchformer=_get_folders("selva", "mmaudio"),
        text_encoders=_get_folders("text_encoders"),
        t5_tokenizer=_find_core_tokenizer(),
    )


def _find_core_tokenizer() -> Path | None:
    """Find ComfyUI's own T5 tokenizer, needed for a t5-base stored as one file in models/text_encoders."""
    path = Path(comfy.ops.__file__).parent / "text_encoders" / "t5_tokenizer" / "tokenizer.json"
    return path if path.is_file() else None


def _get_folders(*names: str) -> tuple[Path, ...]:
    """For each name, list the folders registered with ComfyUI and models/<name>, without duplicates."""
    folders: list[str] = []
    for name in names:
        if name in folder_paths.folder_names_and_paths:
            folders += folder_paths.get_folder_paths(name)
        folders.append(os.path.join(folder_paths.models_dir, name))
    return tuple(dict.fromkeys(Path(os.path.abspath(folder)) for folder in folders))


# LoRAs


def list_loras() -> list[str]:
    """List the .safetensors files in models/loras, whichever model they were trained for."""
    return [name for name in folder_paths.get_filename_list("loras") if name.lower().endswith(".safetensors")]


def find_lora(name: str) -> Path | None:
    """Return the path of a file from `list_loras`, or None if there is no such file."""
    path = folder_paths.get_full_path("loras", name) if isinstance(name, str) else None
    return None if path is None else Path(path)


@dataclass(frozen=True, kw_only=True)
class LoraOutput:
    """The files and folders that the trainer writes.

    Attributes:
        name: the LoRA's name as ComfyUI lists it.
        path: the LoRA file.
        state: folder for checkpoints, logs and test sounds.
    """

    name: str
    path: Path
    state: Path


def prepare_lora_output(name: str) -> LoraOutput:
    """Choose the files of a new LoRA in ComfyUI's first LoRA folder, and create the folder.

    Args:
        name: the LoRA's name; may contain subfolders.

    Raises:
        InputError: the name is empty or points outside the LoRA folder.
    """
    _check_file_name(name, "name")
    root = os.path.abspath(folder_paths.get_folder_paths("loras")[0])
    stem = name.strip().removesuffix(".safetensors")
    path = Path(os.path.abspath(os.path.join(root, f"{stem}.safetensors")))
    if not Path(stem).name.strip(".") or not path.is_relative_to(root):
        raise InputError(
            f"name is {quote_value(name)}, which is not a file name inside {root}. Enter a name such as "
            "my_sound."
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    relative = path.relative_to(root)
    state = Path(folder_paths.get_output_directory()) / "audiox_lora" / relative.with_suffix("")
    return LoraOutput(name=str(relative), path=path, state=state)


# Input, output, temporary and cached files


def _check_file_name(text: str, input_name: str) -> None:
    """Refuse what no file name can be or hold: a number, a null, half of an emoji that a client cut."""
    if not isinstance(text, str):
        raise InputError(f"{input_name} is {quote_value(text)}, which is not a text. Type a name.")
    try:
        os.fsencode(text)
    except UnicodeEncodeError as error:
        half = text[error.start]
    else:
        half = ""
    if half or "\0" in text:
        raise InputError(
            f"{input_name} is {quote_value(text)}, but no file name can hold the character "
            f"{half or chr(0)!r}. Type the name again without it."
        )


def resolve_input_folder(text: str, input_name: str) -> Path:
    """Resolve a folder typed into a node: a path relative to ComfyUI's input folder, or an absolute one.

    Args:
        text: the widget's value.
        input_name: the widget's name, for error messages.

    Raises:
        InputError: the text is empty or not a text, or the folder is outside those that nodes may read. The
            message does not depend on whether the folder exists.
    """
    _check_file_name(text, input_name)
    if not text.strip():
        raise InputError(f"{input_name} is empty. Enter a folder inside ComfyUI's input folder.")
    path = Path(text.strip())
    if _allows_full_paths():
        path = expand_home(path)  # otherwise a reply would show which users exist
    folder = Path(os.path.abspath(os.path.join(folder_paths.get_input_directory(), path)))
    check_readable(folder, f"{input_name} is {quote_value(text)}, which")
    return folder


def check_readable(path: Path, description: str = "") -> None:
    """Check that nodes may read a file or folder: everyone who reaches the server can name one.

    Args:
        path: an absolute path. Links are followed.
        description: beginning of the error message, by default the name.

    Raises:
        InputError: the path leads outside ComfyUI's input, models and datasets folders, and the environment
            variable AUDIOX_ALLOW_FULL_PATHS is not 1.
    """
    if _allows_full_paths():
        return
    roots = _list_readable_roots()
    # The text is compared first, so that other places, network drives among them, are not even looked at.
    if not (_is_below(path, roots) and _is_below(Path(os.path.realpath(path)), roots)):
        raise InputError(
            f"{description or path.name} lies or leads outside ComfyUI's input, models and datasets folders. "
            "Move it into one of them, or add a folder called datasets to extra_model_paths.yaml. If nobody "
            f"else can reach this server, start ComfyUI with {_FULL_PATHS}=1 to allow every folder."
        )


def _allows_full_paths() -> bool:
    return os.environ.get(_FULL_PATHS) == "1"


def _list_readable_roots() -> tuple[Path, ...]:
    """List the folders that nodes may read, as they are named and with their links followed."""
    folders = [folder_paths.get_input_directory(), folder_paths.models_dir]
    if "datasets" in folder_paths.folder_names_and_paths:
        folders += folder_paths.get_folder_paths("datasets")
    return tuple(Path(path(folder)) for folder in folders for path in (os.path.abspath, os.path.realpath))


def _is_below(path: Path, roots: tuple[Path, ...]) -> bool:
    return any(path.is_relative_to(root) for root in roots)


@dataclass(frozen=True, kw_only=True)
class OutputFile:
    """A new file in ComfyUI's output folder.

    Attributes:
        path: path of the file.
        subfolder: its folder relative to the output folder, as the browser needs it.
    """

    path: Path
    subfolder: str


def save_output_file(
    prefix: str, suffix: str, write: Callable[[Path], None], width: int = 0, height: int = 0
) -> OutputFile:
    """Write a file to the output folder under the next free name, <prefix>_00001_<suffix>.

    Nothing is ever replaced, also if several servers write to one folder at the same time.

    Args:
        prefix: may contain subfolders, which are created, and ComfyUI's placeholders.
        suffix: the file type, such as ".mp4".
        write: writes the file to the path that it is called with, or leaves nothing there if it fails.
        width: value of the placeholder %width%, in pixels.
        height: value of the placeholder %height%, in pixels.

    Raises:
        InputError: the prefix points outside the output folder, or nothing can be written there.
    """
    _check_file_name(prefix, "filename_prefix")
    if not is_valid(prefix):
        raise InputError(
            f"filename_prefix is {quote_value(prefix)}, which is not valid UTF-8, so no browser could show "
            "the file. Type the name again."
        )
    root = os.path.abspath(folder_paths.get_output_directory())
    prefix = prefix.strip() or "AudioX"
    # Symbolic links that users placed in the folder are followed: only the name itself must stay inside.
    if not Path(os.path.abspath(os.path.join(root, prefix))).is_relative_to(root):
        raise InputError(
            f"filename_prefix is {quote_value(prefix)}, which is outside the output folder {root}. "
            "Choose a name inside it."
        )
    try:
        folder, name, counter, subfolder, _ = folder_paths.get_save_image_path(prefix, root, width, height)
    except OSError as problem:  # the folder cannot be created
        raise InputError(explain_os_error(Path(root) / prefix, problem)) from None
    path = Path(folder) / f"{name}_{counter:05}_{suffix}"
    check_file_writable(path)
    temporary = choose_temporary(path)
    write(temporary)
    try:
        # ComfyUI counts the files in the folder, so a second server may have the same number by now.
        while not rename_exclusively(temporary, path):
            counter += 1
            path = path.with_name(f"{name}_{counter:05}_{suffix}")
    except OSError as problem:
        raise InputError(explain_os_error(path, problem)) from None
    finally:
        temporary.unlink(missing_ok=True)
    return OutputFile(path=path, subfolder=subfolder)


@contextmanager
def temporary_file(suffix: str) -> Iterator[Path]:
    """Provide an unused path in ComfyUI's temporary folder, and delete the file afterwards."""
    folder = Path(folder_paths.get_temp_directory())
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"audiox_{uuid.uuid4().hex}{suffix}"
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


def build_workflow_metadata(
    prompt: dict[str, Any] | None, extra_pnginfo: Mapping[str, Any] | None
) -> dict[str, str]:
    """Build the metadata from which ComfyUI restores a workflow; empty with --disable-metadata.

    Args:
        prompt: the prompt in API form.
        extra_pnginfo: further entries, among them the workflow in the editor's form.
    """
    if args.disable_metadata:
        return {}
    entries = {**(extra_pnginfo or {}), **({} if prompt is None else {"prompt": prompt})}
    # json.dumps escapes; a text of another pack may hold half an emoji, which no file can.
    return {
        key: escape_surrogates(value) if isinstance(value, str) else json.dumps(value)
        for key, value in entries.items()
    }


def open_feature_cache() -> FeatureCache:
    """Open the disk cache of video features, <user directory>/audiox_cache/features."""
    from ...audiox_ext.conditioning.feature_cache import FeatureCache

    return FeatureCache(Path(folder_paths.get_user_directory()) / "audiox_cache" / "features")
