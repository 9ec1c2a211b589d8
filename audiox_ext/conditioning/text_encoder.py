"""The T5 text encoder, which is not in the checkpoints: transformers' model and a `tokenizer.json`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

if TYPE_CHECKING:
    from tokenizers import Tokenizer


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
