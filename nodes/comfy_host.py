"""ComfyUI as the engine's host: folders, devices, precision, memory, progress and interrupts.

The only module of the pack that touches `comfy` and `folder_paths`. Written for ComfyUI 0.3.64 and newer; the
calls used here have the same names and arguments in both.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import comfy.model_management as mm
import comfy.model_patcher
import comfy.ops
import comfy.utils
import folder_paths
import torch

if TYPE_CHECKING:
    from ..audiox_ext.catalog import ModelFolders
    from ..audiox_ext.denoising import StepInfo
    from ..audiox_ext.feature_cache import FeatureCache

log = logging.getLogger(__name__)

Precision = Literal["auto", "fp32", "bf16", "fp16"]
PRECISIONS: tuple[str, ...] = ("auto", "fp32", "bf16", "fp16")

_MODEL_FOLDER = "audiox"
_WEIGHT_FILES = {".safetensors", ".ckpt"}
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


# Folders


def register_model_folders() -> None:
    """Make models/audiox known to ComfyUI, beside what extra_model_paths.yaml adds.

    Calling it twice does no harm.
    """
    folder_paths.add_model_folder_path(_MODEL_FOLDER, os.path.join(folder_paths.models_dir, _MODEL_FOLDER))
    # Without extensions ComfyUI would list every file of the folder under /models/audiox.
    paths, extensions = folder_paths.folder_names_and_paths[_MODEL_FOLDER]
    folder_paths.folder_names_and_paths[_MODEL_FOLDER] = (paths, set(extensions) | _WEIGHT_FILES)


def model_folders() -> ModelFolders:
    """Where models, Synchformer weights and text encoders are looked for, and where downloads go."""
    from ..audiox_ext.catalog import ModelFolders

    return ModelFolders(
        audiox=_paths(_MODEL_FOLDER),
        synchformer=_paths("selva", "mmaudio"),
        text_encoders=_paths("text_encoders"),
        t5_tokenizer=_core_t5_tokenizer(),
    )


def _core_t5_tokenizer() -> Path | None:
    """ComfyUI's own T5 tokenizer, for a t5-base that lies in models/text_encoders as a single file."""
    path = Path(comfy.ops.__file__).parent / "text_encoders" / "t5_tokenizer" / "tokenizer.json"
    return path if path.is_file() else None


def _paths(*names: str) -> tuple[Path, ...]:
    """For each name the folders registered with ComfyUI, then models/<name>; every folder once."""
    found: list[str] = []
    for name in names:
        if name in folder_paths.folder_names_and_paths:
            found += folder_paths.get_folder_paths(name)
        found.append(os.path.join(folder_paths.models_dir, name))
    return tuple(dict.fromkeys(Path(os.path.abspath(path)) for path in found))


def feature_cache() -> FeatureCache:
    """The disk cache of video features:

    <user directory>/audiox_cache/features, kept below 2 GiB by itself.
    """
    from ..audiox_ext.feature_cache import FeatureCache

    return FeatureCache(Path(folder_paths.get_user_directory()) / "audiox_cache" / "features")


# Precision and devices


@dataclass(frozen=True)
class NetworkPrecision:
    """How the network's weights are kept, what it computes in, and the layers that bridge the two."""

    weights: torch.dtype
    compute: torch.dtype
    operations: Any


def network_precision(precision: str) -> NetworkPrecision:
    """What the precision widget means on this machine; "auto" follows ComfyUI's flags and the card."""
    device = mm.get_torch_device()
    if precision == "auto":
        # Half floats overflow where bfloat16 only rounds, so they are used when asked for and not otherwise.
        allowed = [torch.bfloat16, torch.float32]
        # -1 is ComfyUI's "size unknown, take it as large": small weights even where it computes in float32.
        flagged = mm.unet_dtype(device, -1, allowed)
        # --fp8_*-unet, --fp16-unet and --fp64-unet are obeyed whatever is allowed, and 8 bits ruin the norms.
        nearest = torch.bfloat16 if flagged.itemsize < 4 else torch.float32
        weights = flagged if flagged in allowed else nearest
        if weights != flagged:
            log.info("AudioX: ComfyUI is set to %s, which precision auto replaces by %s.", flagged, weights)
    else:
        weights = _DTYPES[precision]
        allowed = [weights, torch.float32]
    compute = mm.unet_manual_cast(weights, device, allowed) or weights
    return NetworkPrecision(weights, compute, comfy.ops.pick_operations(weights, compute, load_device=device))


def float32_operations() -> Any:
    """Layers for float32 weights that ComfyUI may still leave on the CPU one by one (--novram)."""
    return comfy.ops.pick_operations(torch.float32, torch.float32, load_device=mm.get_torch_device())


def _devices(part: str) -> tuple[torch.device, torch.device]:
    """(where the part runs, where it waits), so that --cpu-vae, --lowvram and their like are honoured."""
    if part == "autoencoder":
        return mm.vae_device(), mm.vae_offload_device()
    if part == "conditioner.text_prompt":
        return mm.text_encoder_device(), mm.text_encoder_offload_device()
    return mm.get_torch_device(), mm.unet_offload_device()


# Memory


class ComfyPlacement:
    """The engine's `Placement` inside ComfyUI: every part of the model under its own ModelPatcher.

    ComfyUI then decides what is on the card. Only the network, by far the largest part, may be loaded in
    part: the others need all their weights at once (the T5 encoder has plain layers, which cannot be cast one
    by one).
    """

    def __init__(self, parts: Mapping[str, torch.nn.Module]) -> None:
        self._patchers = {name: self._wrap(name, module) for name, module in parts.items()}

    def use(self, part: str, module: torch.nn.Module, activation_bytes: int) -> torch.device:
        """Load `part` for a run that needs `activation_bytes` beside its weights.

        Returns the device for its inputs. Raises ComfyUI's interrupt exception if the user has cancelled.
        """
        mm.throw_exception_if_processing_interrupted()
        if part not in self._patchers:
            self._patchers[part] = self._wrap(part, module)
        patcher = self._patchers[part]
        mm.load_models_gpu([patcher], memory_required=activation_bytes, force_full_load=part != "network")
        return patcher.load_device

    def patchers(self) -> list[comfy.model_patcher.ModelPatcher]:
        """One ModelPatcher a part."""
        return list(self._patchers.values())

    @staticmethod
    def _wrap(part: str, module: torch.nn.Module) -> comfy.model_patcher.ModelPatcher:
        load_device, offload_device = _devices(part)
        # Plain, although newer ComfyUI has CoreModelPatcher, which pages weights in one by one: the plain one
        # is there in every version, and the other must first be seen to work with these modules on a GPU.
        return comfy.model_patcher.ModelPatcher(
            module, load_device=load_device, offload_device=offload_device
        )


@contextmanager
def outside_inference_mode() -> Iterator[None]:
    """ComfyUI runs nodes in inference mode; weights read there could never be changed in place again."""
    with torch.inference_mode(False):
        yield


# Progress and interrupts


def check_cancelled() -> None:
    """Raises ComfyUI's interrupt exception if the user has cancelled. Never catch it."""
    mm.throw_exception_if_processing_interrupted()


class StepProgress:
    """A sampling callback that moves ComfyUI's progress bar and ends the run when the user cancels."""

    def __init__(self) -> None:
        self._bar: comfy.utils.ProgressBar | None = None

    def __call__(self, info: StepInfo) -> None:
        """info: the step that was just finished."""
        check_cancelled()
        if self._bar is None:
            # Made here rather than before the run, because only the engine knows how many steps the model
            # wants.
            self._bar = comfy.utils.ProgressBar(info.steps)
        self._bar.update_absolute(info.step, info.steps)
