"""The T5 text encoder: the model of transformers with its tokenizer. Its weights are not in the checkpoints.

B prompts, N tokens, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

if TYPE_CHECKING:
    from tokenizers import Tokenizer


class TextEncoder(nn.Module):
    """Texts -> hidden states."""

    not_in_checkpoint = True

    def __init__(self, model: nn.Module, tokenizer: Tokenizer, width: int) -> None:
        """Combine a T5 encoder with its tokenizer.

        Args:
            model: A T5EncoderModel.
            tokenizer: A `tokenizers.Tokenizer`.
            width: D of the hidden states.
        """
        super().__init__()
        self.model = model
        self.width = width
        self.tokenizer = tokenizer

    def forward(self, prompts: Sequence[str], length: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """Encode texts.

        Each text is encoded on its own and without padding. Its states are then padded with zeros, which
        changes nothing, because callers multiply the states by the mask.

        Args:
            prompts: B texts.
            length: N; longer texts are truncated.
            device: Device to compute on.

        Returns:
            Last hidden states (B, N, D) and attention mask (B, N), 1 for tokens and 0 for padding.
        """
        self.tokenizer.enable_truncation(length)
        self.tokenizer.no_padding()
        states, masks = [], []
        for encoding in self.tokenizer.encode_batch(list(prompts)):
            ids = torch.tensor([encoding.ids], device=device)
            missing = length - ids.shape[1]
            hidden = self.model(input_ids=ids).last_hidden_state.float()
            states.append(F.pad(hidden, (0, 0, 0, missing)))
            masks.append(F.pad(torch.ones(ids.shape, device=device), (0, missing)))
        return torch.cat(states), torch.cat(masks)
