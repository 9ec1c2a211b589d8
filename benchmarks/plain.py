"""The published algorithm in this engine's parts: every saving off, to measure and to test the savings by.

What is off: keys and values of the context once a generation, cross-attention left out where the context is
zero, equal tokens of the context merged (`mmdit`: modulations once a generation); text encoded no further
than it goes, the vision tower left out without a video; the decoder in tiles, its weights normalised once;
matrix products through oneDNN. All functions but `unmerged` want what `plain_model` makes.

B batch, C latent channels, L latents, N context tokens, D width.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from audiox_ext.conditioning.conditioners import TextConditioner
from audiox_ext.conditioning.prompts import parse_prompts
from audiox_ext.conditioning.video_conditioner import VideoConditioner
from audiox_ext.devices import Placement
from audiox_ext.model import AudioXModel, Network
from audiox_ext.networks.autoencoder.oobleck import OobleckDecoder, SnakeBeta
from audiox_ext.networks.dit import DiffusionTransformer, DitContext
from audiox_ext.networks.mmdit import MultimodalDiffusionTransformer
from audiox_ext.networks.operations import Linear
from audiox_ext.random_numbers import RandomNumbers


def plain_model(model: AudioXModel) -> AudioXModel:
    """The same model of torch's own layers; it shares the weights."""
    shared = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    copied = copy.deepcopy(model, dict(shared))
    for layer in copied.modules():
        if type(layer) is Linear:
            layer.__class__ = nn.Linear  # type: ignore[assignment]
    return copied


@torch.no_grad()
def plain_velocity(network: Network, x: Tensor, t: Tensor, context: Tensor, cfg_scale: float) -> Tensor:
    """One guided prediction. x: (B, C, L), t: (B,), context: (B, N, D). Returns (B, C, L), float32."""
    both, times = torch.cat([x, x]), torch.cat([t, t])
    contexts = torch.cat([context, torch.zeros_like(context)]).to(network.compute_dtype)
    if isinstance(network, DiffusionTransformer):
        predicted = _plain_dit(network, both, times, contexts)
    else:
        assert isinstance(network, MultimodalDiffusionTransformer)
        predicted = network(both, times, network.prepare_context(contexts))
    conditional, unconditional = predicted.chunk(2)
    return unconditional + cfg_scale * (conditional - unconditional)


def _plain_dit(network: DiffusionTransformer, x: Tensor, t: Tensor, context: Tensor) -> Tensor:
    context = network.to_cond_embed(context)
    _, tokens = network.enter(x, t)
    rotary = network.rotary.table(tokens.shape[1], tokens.device)
    for layer in network.transformer.blocks():
        tokens = tokens + layer.self_attn(layer.pre_norm(tokens), rotary)
        attention = layer.cross_attn
        q = rearrange(
            attention.to_q(layer.cross_attend_norm(tokens)), "b n (h d) -> b h n d", h=attention.heads
        )
        k, v = attention.keys_values(context)
        k, v = (y.repeat_interleave(attention.heads // k.shape[1], dim=1) for y in (k, v))
        attended = rearrange(F.scaled_dot_product_attention(q, k, v), "b h n d -> b n (h d)")
        tokens = tokens + attention.to_out(attended)
        tokens = tokens + layer.ff(layer.ff_norm(tokens))
    return network.leave(tokens)


@torch.no_grad()
def unmerged(network: DiffusionTransformer, context: Tensor, zero_items: int = 0) -> DitContext:
    """`DiffusionTransformer.prepare_context` with every token of the context."""
    context = network.to_cond_embed(context.to(network.compute_dtype))
    context = torch.cat([context, context.new_zeros(zero_items, *context.shape[1:])])
    return DitContext(tuple(layer.cross_attn.keys_values(context) for layer in network.transformer.blocks()))


@torch.no_grad()
def plain_conditioning(
    model: AudioXModel, items: Sequence[dict[str, Any]], placement: Placement, random: RandomNumbers
) -> Tensor:
    """The context (B, N, D) of prompts: text padded to its full length first, no video taken for black
    frames.
    """
    tokens: dict[str, Tensor] = {}
    for name, module in model.conditioner.conditioners.items():
        prompts = parse_prompts(name, model.config, items)
        if isinstance(module, TextConditioner):
            tokens[name] = _plain_text(module, prompts)
        elif isinstance(module, VideoConditioner):
            tokens[name] = _plain_video(module, prompts)
        else:
            tokens[name] = module(prompts, torch.device("cpu"), random)
    return model.assemble_context(tokens, placement)


def _plain_text(module: TextConditioner, prompts: Sequence[str]) -> Tensor:
    encoder = module.text_encoder
    assert encoder is not None
    length = module.config.max_length
    encoder.tokenizer.enable_truncation(length)
    encoder.tokenizer.enable_padding(length=length, pad_id=0, pad_token="<pad>")
    encodings = encoder.tokenizer.encode_batch(list(prompts))
    ids = torch.tensor([encoding.ids for encoding in encodings])
    mask = torch.tensor([encoding.attention_mask for encoding in encodings])
    states = encoder.model(input_ids=ids, attention_mask=mask).last_hidden_state.float()
    return module.proj_out(states) * mask[..., None]


def _plain_video(module: VideoConditioner, prompts: Sequence[dict[str, Tensor] | None]) -> Tensor:
    config, found = module.config, []
    size = config.clip.image_size
    for prompt in prompts:
        if prompt is not None:
            found.append(module([prompt], torch.device("cpu"), RandomNumbers()))
            continue
        sync = torch.zeros(1, config.sync_tokens, config.sync_dim) if config.with_sync else None
        encoded = module.encode(torch.zeros(config.frames, 3, size, size), sync, torch.device("cpu"))
        found.append(torch.where(torch.tensor(True), module.empty_visual_feat, encoded))
    return torch.cat(found)


@torch.no_grad()
def plain_decode(model: AudioXModel, latents: Tensor) -> Tensor:
    """(B, C, L) -> (B, channels, S), each stage whole, weights normalised anew at each use."""
    decoder = model.pretransform.model["decoder"]
    assert isinstance(decoder, OobleckDecoder)
    return _plain(decoder.layers, latents)


def _plain(module: nn.Module, x: Tensor) -> Tensor:
    if isinstance(module, SnakeBeta):
        alpha, beta = module.alpha.exp()[None, :, None], module.beta.exp()[None, :, None]
        return x + (1.0 / (beta + 1e-9)) * torch.pow(torch.sin(x * alpha), 2)
    if isinstance(module, (nn.Conv1d, nn.ConvTranspose1d)):
        norm = module.weight.norm(dim=(1, 2), keepdim=True)
        weight = torch._weight_norm(module.weight, norm, 0)
        return torch.func.functional_call(module, {"weight": weight}, (x,))
    layers = list(module.children())
    if not layers:
        return module(x)
    inner = layers[0] if len(layers) == 1 and isinstance(layers[0], nn.Sequential) else module
    out = x
    for layer in inner.children():
        out = _plain(layer, out)
    return out + x if type(module).__name__ == "ResidualUnit" else out
