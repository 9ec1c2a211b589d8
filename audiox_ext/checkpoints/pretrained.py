"""`get_pretrained_model`: find or download a model, check its licence, and load its weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import torch

from ..config import ModelConfig
from ..devices import DevicePlacement
from ..errors import InputError, ModelNotFoundError
from ..license import check_license
from ..model import AudioXModel, compile_network, set_block_dtype
from ..model_info import StoredModel
from ..networks.layers import Operations
from ..networks.operations import PlainOperations
from ..utf8 import get_logger
from .catalog import (
    ALL_PATTERNS,
    PUBLISHED,
    PUBLISHED_LICENSE,
    ModelFolders,
    clear_download_mark,
    download_repository,
    find_files,
    find_model_folder,
    folder_name,
    list_models,
    require_model_folder,
    unfinished_repository,
)
from .config_parser import parse_config, read_model_config
from .encoders import attach_text_encoder
from .state_dict import can_defer_folding
from .weights import check_files, load_weights

log = get_logger(__name__)

Precision = Literal["auto", "fp32", "bf16", "fp16"]
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def get_pretrained_model(
    name: str | Path,
    *,
    accept_cc_by_nc: bool = False,
    precision: Precision = "fp32",
    device: str | torch.device = "cpu",
    folders: ModelFolders | None = None,
    download: bool = True,
    allow_paths: bool = True,
    operations: Operations = None,
    rest_operations: Operations = None,
    dtype: torch.dtype | None = None,
    compute_dtype: torch.dtype | None = None,
    block_dtype: torch.dtype | None = None,
    offload: bool = False,
    compile: bool = False,
) -> tuple[AudioXModel, dict[str, Any]]:
    """Load a model, and download it first if it is not on disk.

    Args:
        name: a short name ("AudioX-Turbo"), a hub repository, or (with allow_paths) a local folder.
        accept_cc_by_nc: your consent to the licence of non-commercial weights: True, and no other value.
        precision: precision of the network's weights; auto is the fastest of fp32, bf16 and fp16 on `device`.
        device: device that the model runs on.
        folders: folders to search, by default `ModelFolders.default()`.
        download: whether missing files may be downloaded.
        allow_paths: whether `name` may be a path.
        operations: the network's layer classes, by default the engine's own.
        rest_operations: the layer classes of everything else, by default `operations`.
        dtype: type of the network's weights, instead of `precision`.
        compute_dtype: type of the network's arithmetic, for `operations` that cast weights.
        block_dtype: type of the matrices in transformer blocks, for `operations` that cast weights; may be a
            type that cannot compute, such as torch.float8_e4m3fn.
        offload: whether each part of the model is on `device` only while it runs.
        compile: whether the network is compiled, see `compile_network`.

    Returns:
        The model, on `device` (with offload: on the CPU until it runs), and its config.json.

    Raises:
        AudioXError: the model cannot be used. The subclass says why: `LicenseError`, `ModelNotFoundError`,
            `ConfigError`, `CheckpointError` or `InputError`.
    """
    folders, device = folders or ModelFolders.default(), torch.device(device)
    folder = _find_or_download(str(name), folders, accept_cc_by_nc, download, allow_paths)
    files = find_files(folder)
    data = read_model_config(files)
    config = parse_config(data)
    check_license(config.license, folder.name, accept_cc_by_nc)
    check_files(config, files)
    dtype = dtype or _choose_dtype(precision, device)
    model = _build(config, dtype, compute_dtype, block_dtype, operations, rest_operations)
    # Other layers and devices need the whole weights when they are moved.
    stays_on_cpu = operations is None and device.type == "cpu" and not offload
    load_weights(model, files, defer_folding=stays_on_cpu and can_defer_folding())
    attach_text_encoder(model, folder, folders, download=download, accept_cc_by_nc=accept_cc_by_nc)
    clear_download_mark(folder)
    model.folder = folder
    log.info("Loaded %s (%s) from %s", folder.name, str(dtype).removeprefix("torch."), files.weights)
    return _place(model, device, offload=offload, compile=compile), data


def find_stored_model(name: str, folders: ModelFolders) -> StoredModel:
    """Read the configuration of a model on disk, without its weights.

    Args:
        name: the model's name, or the path of its folder.
        folders: folders to search.

    Raises:
        ModelNotFoundError: the model is not on disk.
        ConfigError: its config.json cannot be read.
    """
    folder = require_model_folder(name, folders)
    return StoredModel(parse_config(read_model_config(find_files(folder))), folder)


def multiplies_bf16() -> bool:
    """Return whether the processor has units for bf16 matrices (AMX), several times as fast as float32."""
    # Not a public function of torch. Without it, float32 is always correct.
    return bool(getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)())


def _find_or_download(
    name: str, folders: ModelFolders, accepted: bool, download: bool, allow_paths: bool
) -> Path:
    """Return the folder of a model; resume its download if one was interrupted."""
    folder = find_model_folder(name, folders, allow_paths)
    if folder is not None:
        repository, target = unfinished_repository(folder), folder
        if repository is None or not download:
            return folder
    else:
        repository = _repository_of(name, folders)
        target = folders.audiox[0] / folder_name(name)
    published = next((entry for entry in PUBLISHED.values() if entry.repository == repository), None)
    # The licence of any other repository is unknown until its config.json is here.
    check_license(PUBLISHED_LICENSE if published else None, repository, accepted)
    if not download:
        raise ModelNotFoundError(
            f"{name} is not on disk and downloads are off. Download it from "
            f"https://huggingface.co/{repository} and put its files into {target}."
        )
    try:
        return download_repository(repository, published.patterns if published else ALL_PATTERNS, target)
    except ModelNotFoundError as error:
        if folder is None:
            raise
        # The user may have added the missing files by hand; loading reports those that are still missing.
        find_files(folder)
        log.warning("%s Continuing with the files that are there.", error)
        return folder


def _repository_of(name: str, folders: ModelFolders) -> str:
    """Return the hub repository of a model that is not on disk, or raise `ModelNotFoundError`."""
    if "/" in name:
        return name
    if name not in PUBLISHED:
        raise ModelNotFoundError(
            f"There is no model {name!r} in {folders.audiox[0]}. Put its folder there (config.json and the "
            f"weights), or choose one of: {', '.join(list_models(folders))}."
        )
    return PUBLISHED[name].repository


def _choose_dtype(precision: str, device: torch.device) -> torch.dtype:
    """Return the type of the network's weights for a precision."""
    if precision == "auto":
        if device.type == "cpu":
            return torch.bfloat16 if multiplies_bf16() else torch.float32
        if device.type != "cuda":
            return torch.float32
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    if precision == "fp8":
        raise InputError(
            "precision fp8 works only in ComfyUI, whose layers cast their weights when they run. Choose "
            "auto, fp32, bf16 or fp16."
        )
    if precision not in DTYPES:
        raise InputError(f"precision is {precision!r}. Choose auto, fp32, bf16 or fp16.")
    return DTYPES[precision]


def _check_casting(
    operations: Operations,
    dtype: torch.dtype,
    compute_dtype: torch.dtype | None,
    block_dtype: torch.dtype | None,
) -> None:
    """Raise `InputError` if the types need layers that cast their weights."""
    if operations is not None:
        return
    if compute_dtype not in (None, dtype):
        raise InputError(
            f"compute_dtype is {compute_dtype}, but these layers compute in the type of their weights, "
            f"{dtype}. Leave compute_dtype out, or pass operations that cast, such as ComfyUI's."
        )
    if block_dtype is not None:
        raise InputError(
            f"block_dtype is {block_dtype}, but these layers cannot cast their weights. Leave block_dtype "
            "out, or pass operations that cast, such as ComfyUI's."
        )


def _build(
    config: ModelConfig,
    dtype: torch.dtype,
    compute_dtype: torch.dtype | None,
    block_dtype: torch.dtype | None,
    operations: Operations,
    rest_operations: Operations,
) -> AudioXModel:
    """Build a model without weights, on the meta device."""
    _check_casting(operations, dtype, compute_dtype, block_dtype)
    layers = operations or PlainOperations
    with torch.device("meta"):
        model = AudioXModel(config, layers, dtype, compute_dtype, rest_operations=rest_operations)
        if block_dtype is not None:
            set_block_dtype(model, block_dtype)
    return model


def _place(model: AudioXModel, device: torch.device, *, offload: bool, compile: bool) -> AudioXModel:
    """Make a loaded model ready to run on a device."""
    model.eval().requires_grad_(False)
    if compile:
        compile_network(model, device)
    if offload:
        model.placement = DevicePlacement(device, offload=True)
        return model
    return model.to(device)
