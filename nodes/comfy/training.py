"""ComfyUI as the host of a training: where its files are, room on the card, progress and cancelling."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from pathlib import Path

import comfy.model_management as mm
import comfy.utils
import folder_paths
import torch

from ...audiox_ext.errors import InputError
from .host import check_cancelled

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class LoraPlace:
    """name: as ComfyUI lists it. path: of its file. state: the folder of all else that training writes."""

    name: str
    path: Path
    state: Path


def lora_place(name: str) -> LoraPlace:
    """Where a new LoRA goes: the first of ComfyUI's folders for them, which is made.

    name: may hold folders. Raises `InputError` for one that is empty or leads out.
    """
    root = os.path.abspath(folder_paths.get_folder_paths("loras")[0])
    stem = name.strip().removesuffix(".safetensors")
    path = Path(os.path.abspath(os.path.join(root, f"{stem}.safetensors")))
    if not Path(stem).name.strip(".") or not path.is_relative_to(root):
        raise InputError(f"name is {name!r}: give the LoRA a name inside of {root}, such as my_sound.")
    path.parent.mkdir(parents=True, exist_ok=True)
    inside = path.relative_to(root)
    state = Path(folder_paths.get_output_directory()) / "audiox_lora" / inside.with_suffix("")
    return LoraPlace(name=str(inside), path=path, state=state)


def input_folder(text: str, what: str) -> Path:
    """A folder that a node is to read: a full path, or one in ComfyUI's input folder.

    what: the input's name. Raises `InputError` for none, and for a relative one that leads out of the input
    folder.
    """
    if not text.strip():
        raise InputError(f"{what} is empty: give a folder in ComfyUI's input folder, or a full path.")
    path = Path(text.strip()).expanduser()
    if path.is_absolute():
        return path
    root = os.path.abspath(folder_paths.get_input_directory())
    found = Path(os.path.abspath(os.path.join(root, path)))
    if not found.is_relative_to(root):
        raise InputError(f"{what} is {text!r}, which leads out of {root}: give a full path for that.")
    return found


def make_room() -> None:
    """Let go of all models on the card: ComfyUI's memory management knows nothing of what training needs."""
    mm.unload_all_models()
    mm.soft_empty_cache()


def training_device() -> torch.device:
    """ComfyUI's device, if it is one that Lightning knows, else the processor."""
    device = mm.get_torch_device()
    if device.type in ("cuda", "mps", "cpu"):
        return device
    log.warning("AudioX: training is not possible on %s; it runs on the processor.", device)
    return torch.device("cpu")


class TrainingProgress:
    """Moves ComfyUI's progress bar with the steps of a training, and ends it when the user cancels."""

    def __init__(self) -> None:
        self._bar: comfy.utils.ProgressBar | None = None

    def __call__(self, done: int, steps: int) -> None:
        """After each step, and now and then between them. Raises ComfyUI's interrupt exception."""
        check_cancelled()
        if self._bar is None:
            self._bar = comfy.utils.ProgressBar(steps)
        self._bar.update_absolute(done, steps)
