"""The T5 text encoder, which is not in the checkpoints: transformers' model and a `tokenizer.json`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import CheckpointError, ModelNotFoundError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

# Sizes of t5-base, for weights that come as a single file without a configuration (Raffel et al. 2020).
_T5_BASE: dict[str, Any] = {
    "d_ff": 3072,
    "d_kv": 64,
    "d_model": 768,
    "num_heads": 12,
    "num_layers": 12,
    "vocab_size": 32128,
    "relative_attention_num_buckets": 32,
    "relative_attention_max_distance": 128,
    "feed_forward_proj": "relu",
}


class TextEncoder(nn.Module):
    """Prompts -> hidden states. B prompts, N tokens, D width."""

    not_in_checkpoint = True

    def __init__(self, model: nn.Module, tokenizer: Tokenizer, width: int) -> None:
        super().__init__()
        self.model = model
        self.width = width  # of a hidden state
        self.tokenizer = tokenizer

    def forward(self, prompts: Sequence[str], length: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """Last hidden states (B, length, D) and attention mask (B, length); longer prompts are cut off.

        Each is encoded by itself and no further than it goes. The states of the padding behind it, to which
        nothing attends, are zeros: who uses the states multiplies them by the mask anyway.
        """
        self.tokenizer.enable_truncation(length)
        self.tokenizer.no_padding()
        states, masks = [], []
        for encoding in self.tokenizer.encode_batch(list(prompts)):
            ids = torch.tensor([encoding.ids], device=device)
            missing = length - ids.shape[1]
            found = self.model(input_ids=ids).last_hidden_state.float()
            states.append(F.pad(found, (0, 0, 0, missing)))
            masks.append(F.pad(torch.ones(ids.shape, device=device), (0, missing)))
        return torch.cat(states), torch.cat(masks)


def load_text_encoder(weights: Path, tokenizer: Path) -> TextEncoder:
    """Read a T5 encoder.

    weights: a folder with config.json and model.safetensors, or a single .safetensors of t5-base.
    tokenizer: a tokenizer.json. Raises `CheckpointError` for files that cannot be read.
    """
    from tokenizers import Tokenizer

    try:
        words = Tokenizer.from_file(str(tokenizer))
    except Exception as error:  # tokenizers raises plain Exception
        raise CheckpointError(f"{tokenizer} cannot be read ({error}). Fetch it again.") from None
    config, file = (_T5_BASE, weights)
    if weights.is_dir():
        file = weights / "model.safetensors"
        config = _read_json(weights / "config.json")
    return TextEncoder(_build_t5(config, file), words, int(config.get("d_model", 512)))


def _build_t5(config: dict[str, Any], file: Path) -> nn.Module:
    from transformers import T5Config, T5EncoderModel

    from ..checkpoints.state_dict import compare_keys, read_tensors, shapes_of
    from ..mmap import converted
    from ..networks.operations import make_quick

    if not file.is_file():
        raise ModelNotFoundError(
            f"{file} is missing. Fetch the text encoder again (config.json, model.safetensors)."
        )
    try:
        with torch.device("meta"):
            model = T5EncoderModel(T5Config(**{**config, "use_cache": False, "dropout_rate": 0.0}))
    except Exception as error:  # transformers has errors of its own for every kind of wrong field
        raise CheckpointError(
            f"{file.parent / 'config.json'} describes no T5 encoder ({error}). Fetch the text encoder again."
        ) from None
    state = {
        key: value
        for key, value in read_tensors(file).items()
        if not key.startswith(("decoder.", "lm_head."))
    }
    tied = {"shared.weight", "encoder.embed_tokens.weight"}
    shared = next((state[key] for key in tied if key in state), None)
    if shared is not None:
        state.update(dict.fromkeys(tied, shared))
    want = model.state_dict()
    problems = compare_keys(shapes_of(state), shapes_of(want), optional=tied)
    if problems:
        raise CheckpointError(f"{file} is not the T5 encoder that its configuration describes.{problems}")
    # A tensor that goes by two names stays one.
    distinct = {id(tensor): tensor for tensor in state.values()}
    floats = {number: converted(tensor, torch.float32) for number, tensor in distinct.items()}
    model.load_state_dict({key: floats[id(state[key])] for key in want}, strict=True, assign=True)
    return make_quick(model.eval().requires_grad_(False))


def _read_json(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(data, dict):
            raise ValueError(f"it holds {type(data).__name__}")
        return data
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read ({error}). Fetch the text encoder again.") from None
