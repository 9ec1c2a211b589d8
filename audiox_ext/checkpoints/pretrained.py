"""get_pretrained_model: find or fetch a model, check its licence, read its weights strictly."""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from ..conditioning.conditioners import TextConditioner
from ..devices import DevicePlacement
from ..errors import CheckpointError, InputError, ModelNotFoundError
from ..license import check_license
from ..mmap import converted
from ..model import AudioXModel, compile_network, set_block_dtype
from ..model_info import ModelFacts, StoredModel
from ..networks.keys import module_key, published_key
from ..networks.layers import Operations
from ..networks.operations import PlainOperations
from .catalog import (
    ALL_PATTERNS,
    PUBLISHED,
    PUBLISHED_LICENSE,
    TEXT_ENCODERS,
    CheckpointFiles,
    ModelFolders,
    clear_download_mark,
    download_repository,
    find_files,
    find_model_folder,
    find_synchformer,
    find_text_encoder,
    folder_name,
    list_models,
    unfinished_repository,
)
from .config_parser import parse_config, read_config
from .encoders import load_text_encoder, synchformer_width
from .state_dict import (
    can_defer_folding,
    compare_keys,
    ensure_within_range,
    fold_at_first_use,
    fold_weight_norm,
    pop_weight_norm_pairs,
    read_tensors,
    rename_parametrizations,
    shapes_of,
    unfolded_shapes,
)

__all__ = [
    "ModelFolders",
    "find_synchformer",
    "find_synchformer_for",
    "get_pretrained_model",
    "list_models",
    "stored_model",
    "synchformer_fingerprint",
]

log = logging.getLogger(__name__)

Precision = Literal["auto", "fp32", "bf16", "fp16"]
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
_NESTED = ("state_dict", "model", "student", "student_state_dict")
_STUDENT_PREFIXES = ("", "module.", "model.", "student.", "student.model.")


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
    """Load a model.

    name: a short name ("AudioX-Turbo"), a hub repository, or (allow_paths) a local folder. accept_cc_by_nc:
    the opt-in that non-commercial weights need. precision: of the network's weights; auto follows `device`:
    bf16 on a GPU that has it or a processor with AMX, fp16 on other CUDA devices, else fp32. folders: where
    to look, default `ModelFolders.default()`. download: whether files that are not on disk may be fetched.
    operations: layer classes, default torch's. dtype, compute_dtype: of the network's weights and, where
    `operations` can cast, of its arithmetic, in place of precision. block_dtype: of the matrices in its
    transformer blocks, also one that nothing computes in, such as torch.float8_e4m3fn. offload: each part of
    the model is on `device` only while it is used. compile: the network with torch.compile, see
    `compile_network`.

    Returns the model, on `device` or with offload waiting on the CPU, and config.json as a dict. Raises
    `LicenseError`, `ModelNotFoundError`, `ConfigError`, `CheckpointError` or `InputError`, each with a
    sentence for the user.
    """
    folders = folders or ModelFolders.default()
    folder = _model_folder(str(name), folders, accept_cc_by_nc, download, allow_paths)
    files = find_files(folder)
    data = config_of(files)
    config = parse_config(data)
    check_license(config.license, folder.name, accept_cc_by_nc)
    dtype = dtype or _choose_dtype(precision, torch.device(device))
    if operations is None and compute_dtype not in (None, dtype):
        raise InputError(
            f"With layers of torch.nn the network computes in the type of its weights, {dtype}, not "
            f"{compute_dtype}."
        )
    if operations is None and block_dtype is not None:
        raise InputError(
            f"Layers of torch.nn cannot keep their weights in {block_dtype}: that is for ComfyUI's."
        )
    with torch.device("meta"):
        layers = operations or PlainOperations
        model = AudioXModel(config, layers, dtype, compute_dtype, rest_operations=rest_operations)
        if block_dtype is not None:
            set_block_dtype(model, block_dtype)
    # Other layers and devices want the weights as they are, when they are moved.
    on_cpu = operations is None and torch.device(device).type == "cpu" and not offload
    _load_weights(model, files, late=on_cpu and can_defer_folding())
    _attach_text_encoder(model, folder, folders, download)
    clear_download_mark(folder)
    model.folder = folder
    model.eval().requires_grad_(False)
    log.info("Loaded %s (%s) from %s", folder.name, str(dtype).removeprefix("torch."), files.weights)
    if compile:
        compile_network(model, device)
    if offload:
        model.placement = DevicePlacement(device, offload=True)
        return model, data
    return model.to(device), data


def stored_model(name: str, folders: ModelFolders) -> StoredModel:
    """A model on disk, by its name or the path of its folder, without its weights.

    Raises `ModelNotFoundError` or `ConfigError`.
    """
    folder = find_model_folder(name, folders, allow_paths=True)
    if folder is None:
        raise ModelNotFoundError(f"{name} is not on disk. Give a folder, or a model in {folders.audiox[0]}.")
    return StoredModel(parse_config(config_of(find_files(folder))), folder)


def find_synchformer_for(facts: ModelFacts, folders: ModelFolders, near: Path | None = None) -> Path | None:
    """Synchformer's weights for a model whose folder is `near`: its own, else others that fit it, else None.

    Weights of another width are passed over, wherever they lie: what they see would be refused.
    """

    def fits(path: Path) -> bool:
        try:
            return synchformer_width(path) == facts.sync_width
        except CheckpointError:
            return True  # Loading says what is wrong with the file.

    return find_synchformer(folders, near, fits)


def synchformer_fingerprint(path: Path) -> str:
    """Tells one weights file from another without reading it whole: size, start and end."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(1 << 20)
        file.seek(max(0, size - (1 << 20)))
        return hashlib.sha256(str(size).encode() + head + file.read()).hexdigest()[:16]


def _model_folder(
    name: str, folders: ModelFolders, accepted: bool, download: bool, allow_paths: bool
) -> Path:
    folder = find_model_folder(name, folders, allow_paths)
    repository, target = None, None
    if folder is not None:
        # A download that was cut off goes on where it ended.
        repository, target = unfinished_repository(folder), folder
        if repository is None or not download:
            return folder
    else:
        repository = _repository_of(name, folders)
        target = folders.audiox[0] / folder_name(name)
    published = next((entry for entry in PUBLISHED.values() if entry.repository == repository), None)
    # Whatever the hub holds under a foreign name is of unknown licence until its config.json is here.
    check_license(PUBLISHED_LICENSE if published else None, repository, accepted)
    if not download:
        raise ModelNotFoundError(
            f"{name} is not on disk and downloads are off. Fetch it from https://huggingface.co/{repository} "
            f"and put its files into {target}."
        )
    try:
        return download_repository(repository, published.patterns if published else ALL_PATTERNS, target)
    except ModelNotFoundError as error:
        if folder is None:
            raise
        # Perhaps the rest was put there by hand; strict loading says what is still missing.
        find_files(folder)
        log.warning("%s Going on with the files that are there.", error)
        return folder


def _repository_of(name: str, folders: ModelFolders) -> str:
    """Where a model that is not on disk can be fetched. Raises `ModelNotFoundError` where nowhere."""
    if "/" in name:
        return name
    if name not in PUBLISHED:
        raise ModelNotFoundError(
            f"There is no model {name!r} in {folders.audiox[0]}. Put its folder there (config.json and the "
            f"weights), or choose one of: {', '.join(list_models(folders))}."
        )
    return PUBLISHED[name].repository


def config_of(files: CheckpointFiles) -> dict[str, Any]:
    """The config.json that belongs to a checkpoint. Raises `ConfigError`."""
    if files.config is None and files.is_student:
        # AudioX-Turbo is published without a configuration, so the package carries it.
        return read_config(Path(__file__).parents[1] / "configs" / "AudioX-Turbo.json")
    return read_config(files.folder / "config.json")


def _choose_dtype(precision: str, device: torch.device) -> torch.dtype:
    if precision == "auto":
        if device.type == "cpu":
            return torch.bfloat16 if multiplies_bf16() else torch.float32
        if device.type != "cuda":
            return torch.float32
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    if precision == "fp8":
        raise InputError(
            "precision fp8 is for ComfyUI, whose layers cast their weights when they are used. Choose auto, "
            "fp32, bf16 or fp16."
        )
    if precision not in DTYPES:
        raise InputError(f"precision is {precision!r}; choose auto, fp32, bf16 or fp16.")
    return DTYPES[precision]


def multiplies_bf16() -> bool:
    """Whether the processor has units for bf16 matrices (AMX), several times as fast as float32."""
    # Not part of the public API: where it is missing, float32 is right, too.
    return bool(getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)())


def checkpoint_state(files: CheckpointFiles, want: Mapping[str, Any]) -> dict[str, Tensor]:
    """A checkpoint's tensors under the published keys `want`, memory-mapped. Raises `CheckpointError`."""
    state = _best_prefix(rename_parametrizations(read_tensors(files.weights, _NESTED)), want)
    if files.vae is not None:
        _add_autoencoder(state, read_tensors(files.vae, _NESTED), want)
    return state


def key_problems(model: AudioXModel, have: Mapping[str, Any], want: Mapping[str, Any]) -> str:
    """An empty string, or how a checkpoint's keys and shapes differ from the model's.

    Weights that are weight-normalised in published files may be folded, as `convert` writes them.
    """
    built = built_keys(model)
    return compare_keys(unfolded_shapes(have, want), want, optional=want.keys() - built)


def fitting_state(model: AudioXModel, files: CheckpointFiles) -> dict[str, Tensor]:
    """`checkpoint_state` for a model. Raises `CheckpointError` with the whole difference where it does not
    fit.
    """
    want = model.published_shapes()
    state = checkpoint_state(files, want)
    problems = key_problems(model, shapes_of(state), want)
    if problems:
        raise CheckpointError(f"{files.weights} does not fit its configuration.{problems}")
    return state


def _load_weights(model: AudioXModel, files: CheckpointFiles, late: bool) -> None:
    """late: the autoencoder's weights are folded when it is first used."""
    state = fitting_state(model, files)
    built = built_keys(model)
    state = {key: value for key, value in state.items() if key in built}
    pairs = pop_weight_norm_pairs(state, "pretransform.") if late else {}
    state = fold_weight_norm(state) | {key: v for key, (_, v) in pairs.items()}
    targets = dict(model.named_parameters()) | dict(model.named_buffers())
    loaded = {}
    # In the order of the file, so that it is read from its beginning to its end.
    for key in sorted(state, key=lambda key: state[key].data_ptr()):
        own = module_key(key)
        loaded[own] = ensure_within_range(key, converted(state.pop(key), targets[own].dtype))
    model.load_state_dict(loaded, strict=True, assign=True)
    for name, half in model.pretransform.model.items():
        prefix = f"pretransform.model.{name}."
        gains = {key.removeprefix(prefix): g for key, (g, _) in pairs.items() if key.startswith(prefix)}
        fold_at_first_use(half, gains)


def built_keys(model: AudioXModel) -> set[str]:
    """The keys of a checkpoint for which something is built: all but those without influence.

    Also those of weight-normalised pairs, and of the same folded.
    """
    built: set[str] = set()
    for key in model.state_dict():
        name = published_key(key)
        built |= {name, f"{name}_g", f"{name}_v"}
    return built


def _best_prefix(state: Mapping[str, Tensor], want: Mapping[str, Any]) -> dict[str, Tensor]:
    """The part of a checkpoint under the prefix where most of the expected keys are found, without the
    prefix.

    A plain checkpoint is taken whole, so that what is unexpected in it is seen.
    """
    counts = {prefix: sum(prefix + key in state for key in want) for prefix in _STUDENT_PREFIXES}
    best = max(counts, key=lambda prefix: counts[prefix])
    return {key.removeprefix(best): value for key, value in state.items() if key.startswith(best)}


def _add_autoencoder(state: dict[str, Tensor], vae: Mapping[str, Tensor], want: Mapping[str, Any]) -> None:
    """Fill in what the checkpoint lacks of its autoencoders from a file that holds the autoencoder alone."""
    vae = rename_parametrizations(vae)
    for key in want:
        folded = re.sub(r"weight_[gv]$", "weight", key)
        if key in state or folded in state or "pretransform.model." not in key:
            continue
        inner = key.split("pretransform.model.", 1)[1]
        found = next(
            (
                vae[p + inner]
                for p in ("", "model.", "pretransform.model.", "autoencoder.")
                if p + inner in vae
            ),
            None,
        )
        if found is not None:
            state[key] = found


def _attach_text_encoder(model: AudioXModel, folder: Path, folders: ModelFolders, download: bool) -> None:
    for conditioner in model.conditioner.conditioners.values():
        if not isinstance(conditioner, TextConditioner):
            continue
        name = conditioner.config.t5_model_name
        found = find_text_encoder(name, folders, folder)
        if found is None and name.split("/")[-1] in TEXT_ENCODERS and download and folders.text_encoders:
            found = _fetch_text_encoder(name, folders)
        if found is None:
            place = folders.text_encoders[0] if folders.text_encoders else folder
            raise ModelNotFoundError(
                f"The text encoder {name} is missing. Put config.json, model.safetensors and tokenizer.json "
                f"into {place / name.split('/')[-1]} (t5-base: https://huggingface.co/google-t5/t5-base)."
            )
        encoder = load_text_encoder(*found)
        width = encoder.width
        if width != conditioner.config.dim:
            raise CheckpointError(
                f"{found[0]} is a text encoder {width} wide; {folder.name} wants {name}, "
                f"{conditioner.config.dim} wide."
            )
        conditioner.text_encoder = encoder


def _fetch_text_encoder(name: str, folders: ModelFolders) -> tuple[Path, Path] | None:
    short = name.split("/")[-1]
    target = folders.text_encoders[0] / short
    download_repository(TEXT_ENCODERS[short], ("config.json", "model.safetensors", "tokenizer.json"), target)
    return find_text_encoder(name, folders, None)
