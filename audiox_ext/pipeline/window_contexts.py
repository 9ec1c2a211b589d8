"""Windows: the pieces that a run consists of, and the network's context of each.

B batch, N context tokens, D their width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ..config import TextConditionerConfig
from ..devices import Placement
from ..errors import InputError
from ..model import AudioXModel
from ..random_numbers import RandomNumbers
from ..sampling.windows import Piece, WindowPlan
from ..utf8 import get_logger
from .timeline import Timeline
from .window_prompts import Cuts, cut_to_window

log = get_logger(__name__)

_OTHER_KEYS = {"seconds_start", "seconds_total"}
"""Keys of published prompts that no conditioner here uses."""

Conditioning = Sequence[Mapping[str, Any]] | Mapping[str, Any]


def window_pieces(
    model: AudioXModel,
    plan: WindowPlan,
    conditioning: Conditioning | None,
    tensors: Mapping[str, Any] | None,
    negative: Conditioning | None = None,
) -> list[Piece]:
    """Return one piece per window; with a timeline, one for each of its spans in each window.

    Args:
        model: The model.
        plan: Positions of the windows.
        conditioning: Prompts, see `EngineInputs`.
        tensors: Tokens in place of prompts.
        negative: Negative prompts.

    Raises:
        InputError: A timeline does not fit the sound, differs between items, or is a negative prompt.
    """
    if _timeline(model, negative) is not None:
        raise InputError("A negative prompt holds for the whole sound: give plain text, not a timeline.")
    timeline = None if tensors is not None else _timeline(model, conditioning)
    if timeline is None:
        return plan.pieces()
    latent = model.config.autoencoder.downsampling_ratio / model.sample_rate
    return plan.pieces(timeline.check(plan.latent_count * latent).weights(plan.latent_count, latent))


def window_contexts(
    model: AudioXModel,
    pieces: Sequence[Piece],
    conditioning: Conditioning | None,
    tensors: Mapping[str, Any] | None,
    *,
    batch_size: int,
    placement: Placement,
    random: RandomNumbers,
    audio_prompt_masking: bool = True,
) -> list[Tensor] | None:
    """Return the context (B, N, D) of each piece, on any device, or None where neither kind is given.

    Args:
        model: The model.
        pieces: Pieces of windows, see `window_pieces`.
        conditioning: Prompts, see `EngineInputs`.
        tensors: Tokens in place of prompts; they are the same for all windows.
        batch_size: B.
        placement: Decides where conditioners run.
        random: Source of the conditioners' random numbers.
        audio_prompt_masking: See `AudioXModel.encode_windows`.

    Returns:
        One context per piece. Equal contexts are one tensor.

    Raises:
        InputError: Prompts or tensors do not fit the model or the batch.
    """
    if tensors is not None:
        return [_precomputed_context(model, tensors, batch_size, placement)] * len(pieces)
    if conditioning is None:
        return None
    items = _check_prompts(model, conditioning, batch_size)
    latent = model.config.autoencoder.downsampling_ratio / model.sample_rate
    timeline = _timeline(model, items)
    cuts: Cuts = {}
    starts = {piece.window: piece.start * latent for piece in pieces}
    windows = {window: _cut_items(model, items, start, cuts) for window, start in starts.items()}
    keys = [(piece.window, piece.span if timeline else 0) for piece in pieces]
    prompts = {(window, span): windows[window] for window, span in keys}
    if timeline is not None:
        for window, span in keys:
            prompts[window, span] = _with_text(model, windows[window], timeline.spans[span].prompt)
    groups = [window for window, _ in prompts]
    encoded = model.encode_windows(
        list(prompts.values()), placement, random, groups=groups, audio_prompt_masking=audio_prompt_masking
    )
    contexts = dict(zip(prompts, _assemble_contexts(model, encoded, placement), strict=True))
    return [contexts[key] for key in keys]


def _check_prompts(model: AudioXModel, conditioning: Any, batch_size: int) -> list[Mapping[str, Any]]:
    """Return one mapping per batch item, each empty or with at least one prompt that the model knows."""
    items = [conditioning] if isinstance(conditioning, Mapping) else conditioning
    is_sequence = isinstance(items, Sequence) and not isinstance(items, str)
    if not is_sequence or not all(isinstance(item, Mapping) for item in items):
        raise InputError(
            f"conditioning must be a dict or a list of dicts, got {type(conditioning).__name__}."
        )
    names = model.config.conditioners
    for item in items:
        unknown = sorted(str(key) for key in set(item) - set(names) - _OTHER_KEYS)
        if unknown and not set(item) & set(names):
            raise InputError(
                f"Unknown conditioning keys: {', '.join(unknown)}. This model accepts {', '.join(names)}."
            )
        if unknown:
            log.warning("conditioning: %s is not used by this model.", ", ".join(unknown))
    if len(items) == 1:
        return list(items) * batch_size
    if len(items) != batch_size:
        raise InputError(
            f"conditioning has {len(items)} items for a batch of {batch_size}: give one, or one each."
        )
    return list(items)


def _timeline(model: AudioXModel, conditioning: Conditioning | None) -> Timeline | None:
    """Return the timeline that is the text prompt of all items, None if there is none."""
    items = [conditioning] if isinstance(conditioning, Mapping) else conditioning or []
    prompts = [item.get(name) for item in items if isinstance(item, Mapping) for name in _text_names(model)]
    timeline = next((prompt for prompt in prompts if isinstance(prompt, Timeline)), None)
    if timeline is not None and any(prompt != timeline for prompt in prompts):
        raise InputError(
            "conditioning: a timeline applies to all items of a batch, but theirs differ. Give all items the "
            "same one, or make the sounds one by one."
        )
    return timeline


def _text_names(model: AudioXModel) -> list[str]:
    """Return the names of the conditioners that take text."""
    conditioners = model.config.conditioners.items()
    return [name for name, config in conditioners if isinstance(config, TextConditionerConfig)]


def _cut_items(
    model: AudioXModel, items: Sequence[Mapping[str, Any]], start: float, cuts: Cuts
) -> list[Mapping[str, Any]]:
    """Cut the items' prompts to a window. Items that are one object stay one, and are encoded once."""
    distinct = {id(item): item for item in items}
    cut = {key: cut_to_window(item, model.config, start, cuts) for key, item in distinct.items()}
    return [cut[id(item)] for item in items]


def _with_text(
    model: AudioXModel, items: Sequence[Mapping[str, Any]], prompt: str
) -> list[Mapping[str, Any]]:
    """Return the items with another text prompt. Items that are one object stay one."""
    changed = {id(item): {**item, **dict.fromkeys(_text_names(model), prompt)} for item in items}
    return [changed[id(item)] for item in items]


def _assemble_contexts(
    model: AudioXModel, tokens: Sequence[dict[str, Tensor]], placement: Placement
) -> list[Tensor]:
    """Assemble one context per window, once for tokens that are the same or equal the first window's."""
    assembled: dict[tuple[int, ...], Tensor] = {}
    contexts, first = [], tokens[0]
    for window_tokens in tokens:
        # Random numbers are drawn for each window, and need not have changed the tokens.
        reused = {
            name: first[name] if torch.equal(value, first[name]) else value
            for name, value in window_tokens.items()
        }
        key = tuple(id(value) for value in reused.values())
        if key not in assembled:
            assembled[key] = model.assemble_context(reused, placement)
        contexts.append(assembled[key])
    return contexts


def _precomputed_context(
    model: AudioXModel, tensors: Mapping[str, Any], batch_size: int, placement: Placement
) -> Tensor:
    """Assemble the context from tokens that are already encoded."""
    tokens = {name: _check_tokens(model, name, tensors, batch_size) for name in model.config.conditioners}
    network, count = model.config.network, sum(value.shape[1] for value in tokens.values())
    if network.type == "mmdit" and count != network.context_tokens:
        raise InputError(
            f"conditioning_tensors: this model takes {network.context_tokens} tokens in all, got {count}."
        )
    return model.assemble_context(tokens, placement)


def _check_tokens(model: AudioXModel, name: str, tensors: Mapping[str, Any], batch_size: int) -> Tensor:
    """Return one conditioner's tokens (B, N, D)."""
    value = tensors.get(name)
    # The published form is (tokens, mask); no mask is used on the context.
    tokens = value[0] if isinstance(value, (tuple, list)) else value
    if not isinstance(tokens, Tensor) or tokens.dim() != 3 or tokens.shape[-1] != model.config.cond_dim:
        actual = tuple(tokens.shape) if isinstance(tokens, Tensor) else type(tokens).__name__
        raise InputError(
            f"conditioning_tensors: {name} must be (batch, tokens, {model.config.cond_dim}), got {actual}."
        )
    if tokens.shape[0] not in (1, batch_size):
        raise InputError(
            f"conditioning_tensors: {name} has {tokens.shape[0]} items for a batch of {batch_size}. "
            "Pass one item, or one per batch item."
        )
    return tokens.float().cpu().expand(batch_size, -1, -1)
