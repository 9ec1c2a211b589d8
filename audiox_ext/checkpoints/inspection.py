"""What is in a checkpoint, and what is missing, without loading it into a model; what a LoRA is."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from ..config import ModelConfig, TextConditionerConfig
from ..license import is_non_commercial
from ..model import AudioXModel
from .catalog import ModelFolders, find_files, find_text_encoder
from .lora_file import read_lora
from .pretrained import checkpoint_state, find_synchformer_for, key_problems, stored_model
from .state_dict import shapes_of


def inspect_checkpoint(name: str, folders: ModelFolders | None = None) -> dict[str, Any]:
    """Facts about a model on disk, ready for JSON. Reads keys and shapes, not the weights' values.

    Raises `ModelNotFoundError`, `ConfigError` or `CheckpointError`.
    """
    folders = folders or ModelFolders.default()
    stored = stored_model(name, folders)
    folder, config = stored.folder, stored.config
    files = find_files(folder)
    with torch.device("meta"):
        model = AudioXModel(config)
    want = model.published_shapes()
    state = checkpoint_state(files, want)
    problems = key_problems(model, shapes_of(state), want)
    sync = find_synchformer_for(model, folders, folder) if model.needs_sync else None
    text = _text_encoder(config, folder, folders)
    missing = [] if text or not _wants_text(config) else [f"text encoder {_text_name(config)}"]
    if model.needs_sync and sync is None:
        missing.append("Synchformer (synchformer_state_dict), needed for video prompts")
    return {
        "folder": str(folder),
        "weights": str(files.weights),
        "autoencoder": str(files.vae) if files.vae else None,
        "synchformer": str(sync) if sync else None,
        "text_encoder": str(text) if text else None,
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
        "dtypes": sorted({str(tensor.dtype).removeprefix("torch.") for tensor in state.values()}),
        "parameters_by_part": _parameters_by_part(model),
        "problems": problems.strip("\n"),
        "missing_files": missing,
        "complete": not problems and not missing,
    }


def describe(report: dict[str, Any]) -> str:
    """The report as a person reads it."""
    steps = f"{report['few_step_count']}-step student" if report["few_step_count"] else "multi-step"
    opt_in = "needs the opt-in" if report["needs_opt_in"] else "no opt-in needed"
    lines = [
        f"{report['folder']}",
        f"  network       {report['network']}, {report['objective']}, "
        f"{steps}{', MAF' if report['fusion'] else ''}",
        f"  conditioners  {', '.join(f'{k}: {v}' for k, v in report['conditioners'].items())}",
        f"  audio         {report['sample_rate']} Hz, {report['seconds']:g} s",
        f"  licence       {report['license'] or 'not named'} ({opt_in})",
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
    """Facts about a LoRA, ready for JSON. Raises `CheckpointError`."""
    lora = read_lora(path)
    tensors = [tensor for layer in lora.layers.values() for tensor in (layer.down, layer.up)]
    return {
        "file": str(path),
        **asdict(lora.info),
        "needs_opt_in": is_non_commercial(lora.info.license),
        "rank": lora.rank,
        "alphas": sorted({layer.alpha for layer in lora.layers.values()}),
        "layers": list(lora.layers),
        "parameters": sum(tensor.numel() for tensor in tensors),
        "dtypes": sorted({str(tensor.dtype).removeprefix("torch.") for tensor in tensors}),
    }


def describe_lora(report: dict[str, Any]) -> str:
    """The report as a person reads it."""
    opt_in = "needs the opt-in" if report["needs_opt_in"] else "no opt-in needed"
    model = f"{report['base'] or 'not named'} ({report['kind'] or 'kind not named'})"
    alphas = ", ".join(f"{alpha:g}" for alpha in report["alphas"])
    lines = [
        report["file"],
        f"  LoRA          {report['name']}",
        f"  for           {model}",
        f"  licence       {report['license'] or 'not named'} ({opt_in})",
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


def _parameters_by_part(model: AudioXModel) -> dict[str, int]:
    return {name: sum(p.numel() for p in part.parameters()) for name, part in model.parts().items()}


def _text_name(config: ModelConfig) -> str:
    return next(
        (c.t5_model_name for c in config.conditioners.values() if isinstance(c, TextConditionerConfig)), ""
    )


def _wants_text(config: ModelConfig) -> bool:
    return bool(_text_name(config))


def _text_encoder(config: ModelConfig, folder: Path, folders: ModelFolders) -> Path | None:
    found = find_text_encoder(_text_name(config), folders, folder) if _wants_text(config) else None
    return found[0] if found else None
