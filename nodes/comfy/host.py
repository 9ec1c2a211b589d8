"""ComfyUI as the engine's host: folders, devices, precision, memory, progress and interrupts.

The only module of the pack that touches `folder_paths`, but for comfy_training.py, and but for that,
comfy_samplers.py, comfy_layers.py and comfy_loras.py `comfy`. Written for ComfyUI 0.3.64 and newer; the calls
used here have the same names and arguments in both.
"""

from __future__ import annotations

import json
import logging
import os
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import comfy.model_management as mm
import comfy.model_patcher
import comfy.ops
import comfy.utils
import folder_paths
import torch
from comfy.cli_args import args

if TYPE_CHECKING:
    from PIL.Image import Image

    from ...audiox_ext.checkpoints.catalog import ModelFolders
    from ...audiox_ext.conditioning.feature_cache import FeatureCache
    from ...audiox_ext.sampling.denoiser import StepInfo

log = logging.getLogger(__name__)

Precision = Literal["auto", "fp32", "bf16", "fp16", "fp8"]
PRECISIONS: tuple[str, ...] = ("auto", "fp32", "bf16", "fp16", "fp8")

_MODEL_FOLDER = "audiox"
_WEIGHT_FILES = {".safetensors", ".ckpt"}
# With fp8, of all but the matrices in the blocks.
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16, "fp8": torch.bfloat16}


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
    from ...audiox_ext.checkpoints.catalog import ModelFolders

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


def lora_names() -> list[str]:
    """The files in models/loras in which a LoRA for these models may be, of whatever model they are."""
    return [name for name in folder_paths.get_filename_list("loras") if name.lower().endswith(".safetensors")]


def lora_path(name: str) -> Path | None:
    """Where the file of `lora_names` lies, or None."""
    path = folder_paths.get_full_path("loras", name)
    return None if path is None else Path(path)


def feature_cache() -> FeatureCache:
    """The disk cache of video features:

    <user directory>/audiox_cache/features, kept below 2 GiB by itself.
    """
    from ...audiox_ext.conditioning.feature_cache import FeatureCache

    return FeatureCache(Path(folder_paths.get_user_directory()) / "audiox_cache" / "features")


# Files that are written


@dataclass(frozen=True, kw_only=True)
class OutputPlace:
    """A new file in ComfyUI's output folder, and the folder's name in it as the browser wants it."""

    path: Path
    subfolder: str


def output_place(prefix: str, suffix: str, width: int = 0, height: int = 0) -> OutputPlace:
    """The next free name, numbered as ComfyUI does: <prefix>_00001_<suffix>. Its folder is made.

    prefix: may hold folders and ComfyUI's placeholders; width and height are for those.
    Raises InputError for a prefix that leads out of the output folder.
    """
    from ...audiox_ext.errors import InputError

    root = os.path.abspath(folder_paths.get_output_directory())
    prefix = prefix.strip() or "AudioX"
    # Links in the folder are followed, as users lay them: only the name itself may not lead out.
    if not Path(os.path.abspath(os.path.join(root, prefix))).is_relative_to(root):
        raise InputError(
            f"filename_prefix is {prefix!r}, which leads out of the output folder {root}: "
            "choose a name inside it."
        )
    folder, name, counter, subfolder, _ = folder_paths.get_save_image_path(prefix, root, width, height)
    return OutputPlace(path=Path(folder) / f"{name}_{counter:05}_{suffix}", subfolder=subfolder)


@contextmanager
def temporary_file(suffix: str) -> Iterator[Path]:
    """A name in ComfyUI's temporary folder; what was written there is removed at the end."""
    folder = Path(folder_paths.get_temp_directory())
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"audiox_{uuid.uuid4().hex}{suffix}"
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


def workflow_metadata(prompt: object, extra_pnginfo: Mapping[str, object] | None) -> dict[str, str]:
    """What ComfyUI writes into files so that the workflow can be had back; nothing if it is told not to."""
    if args.disable_metadata:
        return {}
    entries = {**(extra_pnginfo or {}), **({} if prompt is None else {"prompt": prompt})}
    return {key: value if isinstance(value, str) else json.dumps(value) for key, value in entries.items()}


# Precision and devices


@dataclass(frozen=True)
class NetworkPrecision:
    """How the network's weights are kept, what it computes in, and the layers that bridge the two."""

    weights: torch.dtype
    compute: torch.dtype
    operations: Any
    blocks: torch.dtype | None = None  # of the matrices in the blocks, where it is not that of the weights


def network_precision(precision: str) -> NetworkPrecision:
    """What the precision widget means on this machine; "auto" follows ComfyUI's flags and the card.

    Raises `InputError` for fp8 on a device that cannot cast from it.
    """
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
    from .layers import network_layers

    blocks = _eight_bits(device) if precision == "fp8" else None
    # ComfyUI's products in fp8 (--fast) would round what goes through the network, too, and without a scale.
    operations = comfy.ops.pick_operations(
        blocks or weights, compute, load_device=device, disable_fast_fp8=blocks is not None
    )
    return NetworkPrecision(weights, compute, network_layers(operations), blocks)


def _eight_bits(device: torch.device) -> torch.dtype:
    from ...audiox_ext.errors import InputError

    if not mm.supports_cast(device, torch.float8_e4m3fn):
        raise InputError(f"precision is fp8, which {device} cannot cast from. Choose auto, bf16 or fp16.")
    return torch.float8_e4m3fn


def network_device() -> torch.device:
    """Where the denoising network runs."""
    return mm.get_torch_device()


def float32_operations() -> Any:
    """Layers for float32 weights that ComfyUI may still leave on the CPU one by one (--novram)."""
    from ...audiox_ext.networks.operations import quick

    return quick(comfy.ops.pick_operations(torch.float32, torch.float32, load_device=mm.get_torch_device()))


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

    def check_cancelled(self) -> None:
        """Raises ComfyUI's interrupt exception if the user has cancelled. Never catch it."""
        mm.throw_exception_if_processing_interrupted()

    def free_memory(self, *, models: bool = False) -> None:
        """models: what ComfyUI itself does when a node runs out of memory."""
        if models:
            mm.unload_all_models()
        mm.soft_empty_cache()

    def patchers(self) -> list[comfy.model_patcher.ModelPatcher]:
        """One ModelPatcher a part."""
        return list(self._patchers.values())

    def with_patches(self, part: str, patches: Mapping[str, Any], strength: float) -> ComfyPlacement:
        """Another placement of the same parts, through which the weights of one are patched as well.

        ComfyUI patches them when they are loaded through it, and gives them back when they are unloaded or
        loaded through another. patches: by key of the weight, as ComfyUI makes them of a LoRA.
        """
        patcher = self._patchers[part].clone()
        applied = patcher.add_patches(patches, strength)
        assert len(applied) == len(patches), f"not applied: {sorted(patches.keys() - set(applied))}"
        placement = copy(self)
        placement._patchers = {**self._patchers, part: patcher}
        return placement

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
    """A sampling callback that moves ComfyUI's progress bar and ends the run when the user cancels.

    With `live_preview` the latents of the first sound are shown as they become clear.
    """

    def __init__(self, live_preview: bool = True) -> None:
        self._bar: comfy.utils.ProgressBar | None = None
        self._live_preview = live_preview

    def __call__(self, info: StepInfo) -> None:
        """info: the step that was just finished."""
        check_cancelled()
        if self._bar is None:
            # Made here rather than before the run, because only the engine knows how many steps the model
            # wants.
            self._bar = comfy.utils.ProgressBar(info.steps)
        picture = _picture(info) if self._live_preview else None
        self._bar.update_absolute(info.step, info.steps, picture)


def _picture(info: StepInfo) -> tuple[str, Image, int] | None:
    """What ComfyUI's progress bar takes as a picture.

    Not bound to --preview-method, whose default is none for the sake of pictures that take long to make.
    """
    from ...audiox_ext.plotting.sound_image import draw_latents

    try:
        return "JPEG", draw_latents(info.denoised[0]), args.preview_size
    except Exception as error:  # a preview is never worth a run
        log.warning("AudioX: no preview of this step: %s", error)
        return None
