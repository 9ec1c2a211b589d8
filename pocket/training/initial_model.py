"""A model that the training of the diffusion begins with, in place of nothing."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from audiox_ext.checkpoints.encoders import load_synchformer
from audiox_ext.checkpoints.pretrained import get_pretrained_model
from audiox_ext.errors import InputError
from audiox_ext.files import write_atomically
from audiox_ext.model import AudioXModel
from audiox_ext.networks.vision.synchformer import Synchformer

from ..settings import TrainingConfig
from ..sync.training_module import synchformer_config
from .attention import TrainingOperations


@dataclass(frozen=True)
class InitialModel:
    """What a model's folder holds."""

    model: AudioXModel
    synchformer: Synchformer | None


def read_initial_model(folder: Path, config: TrainingConfig, tokenizer: Path | None = None) -> InitialModel:
    """The model in a folder; its tokenizer is copied to where the training looks for it, if that is told.

    Raises `InputError` for one of another configuration or without a part that is trained with it, and what
    `get_pretrained_model` raises.
    """
    model, found = get_pretrained_model(folder, download=False, operations=TrainingOperations)
    if found["model"] != config.config_json["model"]:
        raise InputError(
            f"{folder} is a model of another configuration than the one that is to be trained. Give the "
            "training file that it was made with, or train from nothing."
        )
    words = folder / "text_encoder" / "tokenizer.json"
    if tokenizer is not None and words.is_file() and not tokenizer.is_file():
        with write_atomically(tokenizer) as temporary:
            shutil.copyfile(words, temporary)
    path = folder / "synchformer_state_dict.safetensors"
    wanted = synchformer_config(config) is not None
    if wanted and not path.is_file():
        raise InputError(f"{path} is missing: this model is trained with its sync encoder.")
    return InitialModel(model, load_synchformer(path) if wanted else None)
