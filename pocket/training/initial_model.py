"""Loads a model from which the training of the diffusion starts."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from audiox_ext.checkpoints.encoders import load_synchformer
from audiox_ext.checkpoints.pretrained import get_pretrained_model
from audiox_ext.errors import InputError
from audiox_ext.files import write_atomically
from audiox_ext.license import is_non_commercial
from audiox_ext.model import AudioXModel
from audiox_ext.networks.vision.synchformer import Synchformer

from ..settings import TrainingConfig
from ..sync.training_module import synchformer_config
from .attention import TrainingOperations


@dataclass(frozen=True)
class InitialModel:
    """The contents of a model's folder."""

    model: AudioXModel
    synchformer: Synchformer | None

    @property
    def license(self) -> str | None:
        """Licence of the weights, which what is trained from them inherits."""
        return self.model.config.license


def read_initial_model(folder: Path, config: TrainingConfig, tokenizer: Path | None = None) -> InitialModel:
    """Load a model to start a training from.

    Args:
        folder: Folder of the model.
        config: Configuration of the training.
        tokenizer: File that receives the model's tokenizer, unless it exists.

    Returns:
        The model and its sync encoder.

    Raises:
        InputError: If the configurations differ, or a part is missing.
    """
    model, config_json = get_pretrained_model(folder, download=False, operations=TrainingOperations)
    if config_json["model"] != config.config_json["model"]:
        raise InputError(
            f"The configuration of {folder} differs from the training file's. Pass the training file that "
            "the model was trained with, or leave out --initial-model."
        )
    words = folder / "text_encoder" / "tokenizer.json"
    if tokenizer is not None and words.is_file() and not tokenizer.is_file():
        with write_atomically(tokenizer) as temporary:
            shutil.copyfile(words, temporary)
    path = folder / "synchformer_state_dict.safetensors"
    needs_sync = synchformer_config(config) is not None
    if needs_sync and not path.is_file():
        raise InputError(
            f"{path} is missing: training this model needs its sync encoder. Put the file there."
        )
    # A non-commercial model has been loaded with consent.
    consent = is_non_commercial(model.config.license)
    return InitialModel(model, load_synchformer(path, accept_cc_by_nc=consent) if needs_sync else None)
