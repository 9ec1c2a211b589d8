"""The published algorithm in this engine's modules, without their optimisations: a reference to compare with.

These optimisations are off:

- in the network: keys and values of the context computed once per generation; cross-attention skipped on the
  zero context; equal context tokens merged; in `mmdit`, modulations computed once per generation
- in the conditioning: text encoded only over its own tokens; the vision tower skipped without a video
- in the decoder: tiles; weights normalised once
- matrix products through oneDNN

All functions except `unmerged` expect a model made by `plain_model`.

B batch, C latent channels, L latents, N context tokens, D width, S samples.
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
    """Copy a model with torch's own linear layers.

    Args:
        model: Model to copy.

    Returns:
        A copy that shares the weights of the model.
    """
    shared = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    copied = copy.deepcopy(model, dict(shared))
    for parent in list(copied.modules()):
        for name, layer in list(parent.named_children()):
            if type(layer) is Linear:
                setattr(parent, name, _torch_linear(layer))
    return copied


def _torch_linear(layer: Linear) -> nn.Linear:
    """A `torch.nn.Linear` with the weights of a layer."""
    plain = nn.Linear(layer.in_features, layer.out_features, bias=layer.bias is not None, device="meta")
    plain.weight, plain.bias = layer.weight, layer.bias
    return plain.train(layer.training)


@torch.no_grad()
def plain_velocity(network: Network, x: Tensor, t: Tensor, context: Tensor, cfg_scale: float) -> Tensor:
    """Predict one guided velocity.

    Args:
        network: Network of a plain model.
        x: Latents (B, C, L).
        t: Times (B,).
        context: Context (B, N, D) of the prompts.
        cfg_scale: Guidance scale.

    Returns:
        The velocity (B, C, L), float32.
    """
    pair, times = torch.cat([x, x]), torch.cat([t, t])
    contexts = torch.cat([context, torch.zeros_like(context)]).to(network.compute_dtype)
    if isinstance(network, DiffusionTransformer):
        prediction = _plain_dit(network, pair, times, contexts)
    else:
        assert isinstance(network, MultimodalDiffusionTransformer)
        prediction = network(pair, times, network.prepare_context(contexts))
    conditional, unconditional = prediction.chunk(2)
    return unconditional + cfg_scale * (conditional - unconditional)


def _plain_dit(network: DiffusionTransformer, x: Tensor, t: Tensor, context: Tensor) -> Tensor:
    """The prediction of a DiT, with cross-attention to every token."""
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
    """Prepare the context of a DiT without merging tokens.

    Args:
        network: Network of any model.
        context: Context (B, N, D) of the prompts.
        zero_items: Number of unconditional items to append.

    Returns:
        Keys and values of all tokens, layer by layer.
    """
    context = network.to_cond_embed(context.to(network.compute_dtype))
    context = torch.cat([context, context.new_zeros(zero_items, *context.shape[1:])])
    return DitContext(tuple(layer.cross_attn.keys_values(context) for layer in network.transformer.blocks()))


@torch.no_grad()
def plain_conditioning(
    model: AudioXModel, items: Sequence[dict[str, Any]], placement: Placement, random: RandomNumbers
) -> Tensor:
    """Encode prompts: text at its full padded length, black frames where an item has no video.

    Args:
        model: Plain model.
        items: One conditioning dictionary per sound.
        placement: Placement of the encoders.
        random: Random numbers of the audio encoder.

    Returns:
        The context (B, N, D).
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
    """Text tokens, encoded with their padding."""
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
    """Video tokens; black frames are encoded before they are replaced by the learned empty features."""
    config = module.config
    size = config.clip.image_size
    tokens = []
    for prompt in prompts:
        if prompt is not None:
            tokens.append(module([prompt], torch.device("cpu"), RandomNumbers()))
            continue
        sync = torch.zeros(1, config.sync_tokens, config.sync_dim) if config.with_sync else None
        encoded = module.encode(torch.zeros(config.frames, 3, size, size), sync, torch.device("cpu"))
        tokens.append(torch.where(torch.tensor(True), module.empty_visual_feat, encoded))
    return torch.cat(tokens)


@torch.no_grad()
def plain_decode(model: AudioXModel, latents: Tensor) -> Tensor:
    """Decode latents without tiles, normalising the weights at every use.

    Args:
        model: Plain model.
        latents: Latents (B, C, L).

    Returns:
        The waveform (B, channels, S).
    """
    decoder = model.pretransform.model["decoder"]
    assert isinstance(decoder, OobleckDecoder)
    return _decode_stage(decoder.layers, latents)


def _decode_stage(module: nn.Module, x: Tensor) -> Tensor:
    """Output of a module of the decoder and of all modules in it."""
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
        out = _decode_stage(layer, out)
    return out + x if type(module).__name__ == "ResidualUnit" else out
