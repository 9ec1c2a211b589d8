"""Reports on the contents of checkpoints and LoRAs, without loading them into a model."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..license import is_non_commercial
from ..model import AudioXModel
from .catalog import ModelFolders, find_files, find_text_encoder
from .encoders import find_synchformer_for, text_encoder_names
from .lora_file import read_lora
from .pretrained import find_stored_model
from .state_dict import shapes_of
from .weights import check_files, describe_differences, read_checkpoint


def inspect_checkpoint(name: str, folders: ModelFolders | None = None) -> dict[str, Any]:
    """Report on a model on disk. Reads keys and shapes, not the values of the weights.

    Args:
        name: the model's name, or the path of its folder.
        folders: folders to search, by default `ModelFolders.default()`.

    Returns:
        Values that can be written as JSON.

    Raises:
        AudioXError: the model cannot be read: `ModelNotFoundError`, `ConfigError` or `CheckpointError`.
    """
    folders = folders or ModelFolders.default()
    stored = find_stored_model(name, folders)
    folder, config = stored.folder, stored.config
    files = find_files(folder)
    check_files(config, files)
    with torch.device("meta"):
        model = AudioXModel(config)
    shapes = model.published_shapes()
    state = read_checkpoint(files, shapes)
    problems = describe_differences(model, shapes_of(state), shapes)
    sync = find_synchformer_for(model, folders, folder) if model.needs_sync else None
    text_name = next(iter(text_encoder_names(config)), None)
    text = find_text_encoder(text_name, folders, folder) if text_name else None
    missing = [f"text encoder {text_name}"] if text_name and text is None else []
    if model.needs_sync and sync is None:
        missing.append("Synchformer (synchformer_state_dict), needed for video prompts")
    return {
        "folder": str(folder),
        "weights": str(files.weights),
        "autoencoder": str(files.vae) if files.vae else None,
        "synchformer": str(sync) if sync else None,
        "text_encoder": str(text[0]) if text else None,
        "network": config.network.type,
        "objective": config.objective,
        "few_step_count": config.few_step_count,
        "fusion": config.fusion is not None,
        "conditioners": {
            name: type(c).__name__.removesuffix("Config") for name, c in config.conditioners.items()
        },
        "sample_rate": config.sample_rate,
        "seconds": round(config.sample_size / config.sample_rate, 3),
        "license": config.license,
        "needs_opt_in": is_non_commercial(config.license),
        "tensors": len(state),
        "parameters": sum(tensor.numel() for tensor in state.values()),
        "dtypes": _dtype_names(state.values()),
        "parameters_by_part": _parameters_by_part(model),
        "problems": problems.strip("\n"),
        "missing_files": missing,
        "complete": not problems and not missing,
    }


def describe(report: dict[str, Any]) -> str:
    """Format a report of `inspect_checkpoint` as readable text."""
    steps = f"{report['few_step_count']}-step student" if report["few_step_count"] else "multi-step"
    lines = [
        f"{report['folder']}",
        f"  network       {report['network']}, {report['objective']}, "
        f"{steps}{', MAF' if report['fusion'] else ''}",
        f"  conditioners  {', '.join(f'{k}: {v}' for k, v in report['conditioners'].items())}",
        f"  audio         {report['sample_rate']} Hz, {report['seconds']:g} s",
        _license_line(report),
        f"  weights       {report['weights']}: {report['tensors']} tensors, "
        f"{report['parameters'] / 1e6:.1f} M values, {', '.join(report['dtypes'])}",
        f"  autoencoder   {report['autoencoder'] or 'in the weights'}",
        f"  text encoder  {report['text_encoder'] or 'not found'}",
        f"  Synchformer   {report['synchformer'] or 'not found or not needed'}",
        "  in use        "
        + ", ".join(f"{k} {v / 1e6:.1f} M" for k, v in report["parameters_by_part"].items()),
    ]
    if report["problems"]:
        lines += ["  The keys do not fit the configuration:", report["problems"]]
    lines += [f"  missing: {item}" for item in report["missing_files"]]
    return "\n".join([*lines, "complete" if report["complete"] else "not complete"])


def inspect_lora(path: Path) -> dict[str, Any]:
    """Report on a LoRA.

    Args:
        path: the LoRA's file.

    Returns:
        Values that can be written as JSON.

    Raises:
        CheckpointError: the file cannot be read.
    """
    lora = read_lora(path)
    tensors = [tensor for layer in lora.layers.values() for tensor in layer.tensors]
    return {
        "file": str(path),
        **asdict(lora.info),
        "needs_opt_in": is_non_commercial(lora.info.license),
        "rank": lora.rank,
        "methods": sorted({layer.method for layer in lora.layers.values()}),
        "alphas": sorted({layer.scale for layer in lora.layers.values() if layer.scale is not None}),
        "layers": list(lora.layers),
        "parameters": sum(tensor.numel() for tensor in tensors),
        "dtypes": _dtype_names(tensors),
    }


def describe_lora(report: dict[str, Any]) -> str:
    """Format a report of `inspect_lora` as readable text."""
    model = f"{report['base'] or 'not named'} ({report['kind'] or 'kind not named'})"
    alphas = ", ".join(f"{alpha:g}" for alpha in report["alphas"]) or "not named"
    lines = [
        report["file"],
        f"  LoRA          {report['name']}",
        f"  for           {model}",
        _license_line(report),
        f"  method        {', '.join(report['methods'])}",
        f"  matrices      {len(report['layers'])} layers, rank {report['rank']}, alpha {alphas}, "
        f"{report['parameters'] / 1e6:.2f} M values, {', '.join(report['dtypes'])}",
    ]
    if report["trigger"]:
        lines.append(f"  trigger       {report['trigger']}")
    if report["steps"]:
        lines.append(f"  trained       {report['steps']} steps")
    if report["dataset"]:
        lines.append(f"  with          {report['dataset']}")
    return "\n".join([*lines, *(f"  caption       {caption}" for caption in report["captions"])])


def _license_line(report: dict[str, Any]) -> str:
    """Format the licence, and whether it needs the opt-in."""
    opt_in = "needs the opt-in" if report["needs_opt_in"] else "no opt-in needed"
    return f"  licence       {report['license'] or 'not named'} ({opt_in})"


def _dtype_names(tensors: Iterable[Tensor]) -> list[str]:
    """List the types of tensors."""
    return sorted({str(tensor.dtype).removeprefix("torch.") for tensor in tensors})


def _parameters_by_part(model: AudioXModel) -> dict[str, int]:
    """Count the parameters of each part of a model."""
    return {name: sum(p.numel() for p in part.parameters()) for name, part in model.parts().items()}
