"""Text encoder of a model that is trained from scratch: a small T5 with a tokenizer for the captions.

B prompts, N tokens, D width.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from audiox_ext.checkpoints.safetensors_writer import write_safetensors
from audiox_ext.conditioning.text_encoder import TextEncoder

from ..settings import TextEncoderSettings

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_SPECIAL = ("<pad>", "</s>", "<unk>")  # in T5's order


class BatchTextEncoder(TextEncoder):
    """Trainable text encoder that encodes a whole batch at once, with the same states."""

    def forward(self, prompts: Sequence[str], length: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """Encode prompts like `TextEncoder.forward`.

        Args:
            prompts: The texts.
            length: Number of tokens of the result.
            device: Device to encode on.

        Returns:
            States (B, N, D) and mask (B, N).
        """
        self.tokenizer.enable_truncation(length)
        self.tokenizer.no_padding()
        tokens = [encoding.ids for encoding in self.tokenizer.encode_batch(list(prompts))]
        longest = max(map(len, tokens))
        ids = torch.tensor(
            [[*ids_of_text, *[0] * (longest - len(ids_of_text))] for ids_of_text in tokens], device=device
        )
        counts = torch.tensor([len(ids_of_text) for ids_of_text in tokens], device=device)
        mask = (torch.arange(longest, device=device) < counts[:, None]).float()
        states = self.model(input_ids=ids, attention_mask=mask).last_hidden_state.float()
        missing = length - longest
        pad = torch.nn.functional.pad
        return pad(states * mask[..., None], (0, 0, 0, missing)), pad(mask, (0, missing))


def make_tokenizer(captions: Iterable[str], size: int) -> Tokenizer:
    """Train a byte-level tokenizer with byte pair encoding, which accepts any text.

    Args:
        captions: Texts to train on.
        size: Size of the vocabulary.

    Returns:
        The tokenizer.

    Source: Sennrich et al. 2016.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=list(_SPECIAL),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(captions, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", tokenizer.token_to_id("</s>"))]
    )
    return tokenizer


def read_tokenizer(path: Path) -> Tokenizer:
    """Read the tokenizer of the training.

    Args:
        path: Its file.

    Returns:
        The tokenizer.
    """
    from tokenizers import Tokenizer

    return Tokenizer.from_file(str(path))


def build_text_encoder(settings: TextEncoderSettings, width: int, tokenizer: Tokenizer) -> BatchTextEncoder:
    """Build a text encoder with random weights from torch's global generator.

    Args:
        settings: Sizes of the encoder.
        width: Width of the tokens.
        tokenizer: Its tokenizer.

    Returns:
        The encoder.
    """
    from transformers import T5Config, T5EncoderModel

    fields: dict[str, Any] = {
        "d_model": width,
        "d_ff": settings.d_ff,
        "d_kv": settings.d_kv,
        "num_heads": settings.num_heads,
        "num_layers": settings.num_layers,
        "vocab_size": tokenizer.get_vocab_size(),
        "dropout_rate": 0.0,
        "use_cache": False,
    }
    return BatchTextEncoder(T5EncoderModel(T5Config(**fields)), tokenizer, width)


def write_text_encoder(encoder: TextEncoder, folder: Path, dtype: torch.dtype) -> None:
    """Write config.json, model.safetensors and tokenizer.json, as `load_text_encoder` reads them.

    Args:
        encoder: The encoder.
        folder: Folder to write to.
        dtype: Type of the stored weights.
    """
    folder.mkdir(parents=True, exist_ok=True)
    model: Any = encoder.model
    state = model.state_dict()
    state.pop("encoder.embed_tokens.weight", None)  # the same tensor as shared.weight
    weights = {key: value.to("cpu", dtype).contiguous() for key, value in state.items()}
    write_safetensors(folder / "model.safetensors", weights, {}, {})
    model.config.save_pretrained(folder)
    encoder.tokenizer.no_truncation()
    encoder.tokenizer.save(str(folder / "tokenizer.json"))
