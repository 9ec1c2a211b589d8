"""From the conditioning of a run to the pieces of its windows, and the network's context of each.

B batch, N context tokens, D their width.
"""

from __future__ import annotations

import logging
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
from .timeline import Timeline
from .window_prompts import Cuts, span_of

log = logging.getLogger(__name__)

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
    """One piece a window, or where the text prompt is a `Timeline`, one for each of its spans there.

    Raises `InputError` for a timeline that does not fit the sound, is not the same for all items, or stands
    in the negative conditioning.
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
        tokens = {name: _precomputed(model, name, tensors, batch_size) for name in model.config.conditioners}
        network, count = model.config.network, sum(value.shape[1] for value in tokens.values())
        if network.type == "mmdit" and count != network.context_tokens:
            raise InputError(
                f"conditioning_tensors: this model takes {network.context_tokens} tokens in all, got {count}."
            )
        return [model.assemble_context(tokens, placement)] * len(pieces)
    if conditioning is None:
        return None
    items = _check_prompts(model, conditioning)
    if len(items) == 1:
        items = items * batch_size
    if len(items) != batch_size:
        raise InputError(
            f"conditioning has {len(items)} items for a batch of {batch_size}: give one, or one each."
        )
    latent = model.config.autoencoder.downsampling_ratio / model.sample_rate
    timeline = _timeline(model, items)
    starts = {piece.window: piece.start * latent for piece in pieces}
    cuts: Cuts = {}
    windows = {window: _spans(model, items, start, cuts) for window, start in starts.items()}
    keys = [(piece.window, piece.span if timeline else 0) for piece in pieces]
    prompts = {(window, span): windows[window] for window, span in keys}
    if timeline is not None:
        for window, span in keys:
            prompts[window, span] = _with_text(model, windows[window], timeline.spans[span].prompt)
    groups = [window for window, _ in prompts]
    encoded = model.encode_windows(
        list(prompts.values()), placement, random, groups=groups, audio_prompt_masking=audio_prompt_masking
    )
    by_key = dict(zip(prompts, _assembled(model, encoded, placement), strict=True))
    return [by_key[key] for key in keys]


def _check_prompts(model: AudioXModel, conditioning: Any) -> list[Mapping[str, Any]]:
    """Return a list of mappings, each empty or with at least one prompt that the model knows."""
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
    return list(items)


def _timeline(model: AudioXModel, conditioning: Conditioning | None) -> Timeline | None:
    items = [conditioning] if isinstance(conditioning, Mapping) else conditioning or []
    prompts = [item.get(name) for item in items if isinstance(item, Mapping) for name in _text_names(model)]
    timeline = next((prompt for prompt in prompts if isinstance(prompt, Timeline)), None)
    if timeline is not None and any(prompt != timeline for prompt in prompts):
        raise InputError(
            "conditioning: a timeline holds for all items of a batch, and theirs differ. Give all items the "
            "same one, or make the sounds one by one."
        )
    return timeline


def _text_names(model: AudioXModel) -> list[str]:
    kinds = model.config.conditioners.items()
    return [name for name, kind in kinds if isinstance(kind, TextConditionerConfig)]


def _spans(
    model: AudioXModel, items: Sequence[Mapping[str, Any]], start: float, cuts: Cuts
) -> list[Mapping[str, Any]]:
    """The items' own parts for a window; items that are one object stay one, and are encoded once."""
    distinct = {id(item): item for item in items}
    cut = {number: span_of(item, model.config, start, cuts) for number, item in distinct.items()}
    return [cut[id(item)] for item in items]


def _with_text(
    model: AudioXModel, items: Sequence[Mapping[str, Any]], prompt: str
) -> list[Mapping[str, Any]]:
    changed = {id(item): {**item, **dict.fromkeys(_text_names(model), prompt)} for item in items}
    return [changed[id(item)] for item in items]


def _assembled(model: AudioXModel, tokens: Sequence[dict[str, Tensor]], placement: Placement) -> list[Tensor]:
    """The contexts, made once for tokens that are the same, or equal to the first window's."""
    made: dict[tuple[int, ...], Tensor] = {}
    contexts, first = [], tokens[0]
    for found in tokens:
        # Random numbers are drawn window by window, and need not have changed anything.
        same = {
            name: first[name] if torch.equal(value, first[name]) else value for name, value in found.items()
        }
        key = tuple(id(value) for value in same.values())
        if key not in made:
            made[key] = model.assemble_context(same, placement)
        contexts.append(made[key])
    return contexts


def _precomputed(model: AudioXModel, name: str, tensors: Mapping[str, Any], batch_size: int) -> Tensor:
    value = tensors.get(name)
    # The published form is (tokens, mask); no mask is used on the context.
    tokens = value[0] if isinstance(value, (tuple, list)) else value
    if not isinstance(tokens, Tensor) or tokens.dim() != 3 or tokens.shape[-1] != model.config.cond_dim:
        got = tuple(tokens.shape) if isinstance(tokens, Tensor) else type(tokens).__name__
        raise InputError(
            f"conditioning_tensors: {name} must be (batch, tokens, {model.config.cond_dim}), got {got}."
        )
    if tokens.shape[0] not in (1, batch_size):
        raise InputError(
            f"conditioning_tensors: {name} has {tokens.shape[0]} items for a batch of {batch_size}."
        )
    return tokens.float().cpu().expand(batch_size, -1, -1)
