"""Initial weights for training from scratch, beyond what torch's layers initialise."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from audiox_ext.conditioning.video_conditioner import VideoConditioner
from audiox_ext.config import ClipConditionerConfig, TextConditionerConfig
from audiox_ext.model import AudioXModel
from audiox_ext.networks.dit import DiffusionTransformer, rotary_width
from audiox_ext.networks.layers import FourierFeatures
from audiox_ext.networks.maf import MultimodalAdaptiveFusion
from audiox_ext.networks.mmdit import MultimodalDiffusionTransformer
from audiox_ext.networks.vision.clip import ClipVisionTower
from audiox_ext.networks.vision.synchformer import Synchformer, SynchformerConfig

from ..sync.code import CODE

_STILL = 0.05  # gain of still content, which is that much stronger than changes
_SMALL = 0.02  # standard deviation of embeddings, as usual
_WORDS = 24  # tokens of a text that are used at first
_WORDS_GAIN = 2.0
_REACH = 0.1  # seconds around the middle of a latent in which a video or a sound is used
_MARK, _CONSTANT = 16.0, 8.0  # of the time token, and of all tokens after the first block
_LOGITS = 3.0  # range of the logits of the time token over all positions
_TOLD = 10.0  # size of what a head then adds
# Position heads: turns of a pair of channels over all latents, and whether the phase is a quarter turn later.
_PLACES = ((0.4, False), (1.25, False), (1.25, True), (4.0, False), (4.0, True))


def initialise(model: AudioXModel) -> None:
    """Initialise a new model, from torch's global generator.

    The network starts as the identity: each branch of a block ends in zeros.

    Args:
        model: The new model.
    """
    for module in model.modules():
        if isinstance(module, FourierFeatures):
            nn.init.normal_(module.weight)
        elif isinstance(module, VideoConditioner):
            initialise_video(module)
        elif isinstance(module, ClipVisionTower):
            embeddings = module.vision_model.embeddings
            _embed(embeddings.class_embedding, embeddings.position_embedding.weight)
        elif isinstance(module, MultimodalAdaptiveFusion):
            # The scale of the layer norm that follows.
            nn.init.normal_(module.unified_experts)
    _quiet_branches(model)
    if isinstance(model.network, DiffusionTransformer):
        _tell_places(model.network, model.config.latent_count)
    else:
        _listen_in_time(model)


def initialise_video(module: VideoConditioner) -> None:
    """Initialise a video conditioner so that its tokens encode their time and the events.

    The conditioner reads its buffers in rows that start at arbitrary channels (spec, "Conditioners"). A code
    that repeats every few channels lies at the same position in every row. So the time of a frame is written
    in such a code, like events in `sync_code`. Half of the outputs read the pictures, the other half the sync
    features.

    Args:
        module: The new conditioner.
    """
    config = module.config
    frames, dim = config.frames, config.temporal_dim
    pairs = CODE // 2
    turns = 0.5 * (frames / 2.5) ** (torch.arange(pairs) / (pairs - 1))  # half a turn to one in five frames
    angles = 2 * torch.pi * turns * ((torch.arange(frames) + 0.5) / frames)[:, None]
    code = torch.cat([angles.sin(), angles.cos()], dim=-1)
    copies = code.repeat(1, -(-dim // CODE))[:, :dim]
    with torch.no_grad():
        module.Temp_pos_embedding.copy_(1.5 * copies)
        outputs = config.out_features
        half = outputs // 2 if config.with_sync else outputs
        _read_rows(module.proj, range(half))
        if config.with_sync:
            nn.init.ones_(module.sync_weight)
            _read_rows(module.proj_sync, range(half, outputs))
        blank = torch.zeros(1, frames, config.clip.tokens, dim)
        still = torch.zeros(1, config.sync_tokens, config.sync_dim) if config.with_sync else None
        module.empty_visual_feat.copy_(module.fuse(blank, still))  # times are encoded without a video, too


def _read_rows(layer: nn.Linear, outputs: range) -> None:
    """Let each group of `CODE` outputs average the code over one part of the row; others start at zero."""
    length, parts = layer.in_features, max(1, len(outputs) // CODE)
    place = torch.arange(length)
    nn.init.normal_(layer.weight, std=_SMALL / length**0.5)
    nn.init.zeros_(layer.bias)
    for number, output in enumerate(outputs):
        part, channel = divmod(number, CODE)
        here = (place % CODE == channel) & (place * parts // length == min(part, parts - 1))
        layer.weight[output] += here / here.sum().clamp(min=1)


def initialise_synchformer(synchformer: Synchformer) -> None:
    """Initialise a sync encoder.

    Its patch filters start as coarse differences between frames and coarse means, because random filters
    respond to fine texture, which does not show when something happens.

    Args:
        synchformer: The new sync encoder.
    """
    _look_at_changes(synchformer.patch_embed_3d.proj)
    _embed(
        synchformer.cls_token,
        synchformer.pos_embed,
        synchformer.temp_embed,
        synchformer.spatial_attn_agg.cls_token,
    )


@torch.no_grad()
def _look_at_changes(layer: nn.Conv3d) -> None:
    """Set half of the filters (D, 3, frames, size, size) to differences of frames, half to their means."""
    filters, _, frames, size, _ = layer.weight.shape
    half = filters // 2
    grey = torch.full((1, 3), 3**-0.5)
    for first, count, colours, time, gain in (
        (0, half, grey, torch.linspace(-1, 1, frames), 1.0),
        (half, filters - half, torch.eye(3), torch.ones(frames), _STILL),
    ):
        waves = _coarse_waves(size, -(-count // len(colours)))
        patterns = torch.einsum("wyx,kc,t->wkctyx", waves, colours, time / time.norm()).flatten(0, 1)
        layer.weight[first : first + count] = gain * patterns[:count]
    assert layer.bias is not None
    layer.bias.zero_()


def _coarse_waves(size: int, count: int) -> Tensor:
    """The slowest products of cosines, each of norm 1: (count, size, size)."""
    place = (torch.arange(size) + 0.5) / size
    waves = torch.cos(torch.pi * torch.arange(size)[:, None] * place)
    waves = waves / waves.norm(dim=1, keepdim=True)
    order = sorted(((a, b) for a in range(size) for b in range(size)), key=lambda ab: (sum(ab), ab))
    return torch.stack([waves[a][:, None] * waves[b] for a, b in order[:count]])


def _quiet_branches(model: AudioXModel) -> None:
    """Set the last layer of every branch to zero."""
    network = model.network
    ends: list[nn.Module] = [network.preprocess_conv, network.postprocess_conv]
    if isinstance(network, DiffusionTransformer):
        for block in network.transformer.blocks():
            ends += [block.self_attn.to_out, block.cross_attn.to_out, block.ff.ff[2]]
    else:
        for modulated in network.transformer.blocks():
            ends += [modulated.linear1, modulated.ffn.w2]
    for layer in ends:
        for parameter in layer.parameters():
            nn.init.zeros_(parameter)


@torch.no_grad()
def _listen_in_time(model: AudioXModel) -> None:
    """Initialise networks with one conditioning token per latent.

    The token averages the first words of the text, and the video and audio prompt near the time of the
    latent.
    """
    network, config = model.network, model.config
    assert isinstance(network, MultimodalDiffusionTransformer)
    layer = network.transformer.proj_mm_seq_len
    nn.init.normal_(layer.weight, std=_SMALL / layer.in_features**0.5)
    nn.init.normal_(layer.bias)  # distinguishes the positions without prompts
    rate, ratio = config.sample_rate, config.autoencoder.downsampling_ratio
    # The time token, the first, belongs to the whole sound; it uses the beginning of the prompts.
    times = (torch.arange(layer.out_features) - 0.5).clamp(min=0) * ratio / rate
    first = 0
    for name, count in config.context_tokens().items():
        columns, kind = layer.weight[:, first : first + count], config.conditioners[name]
        if isinstance(kind, TextConditionerConfig):
            columns[:, :_WORDS] += _WORDS_GAIN / _WORDS
        elif isinstance(kind, ClipConditionerConfig) and kind.with_sync:
            columns += _near(times, _sync_times(kind))
        else:
            columns += _near(times, (torch.arange(count) + 0.5) / count * config.conditioning_seconds)
        first += count
    for block in network.transformer.blocks():
        bias = block.adaLN_modulation[1].get_parameter("bias")
        shift1, scale1, gate1, shift2, scale2, gate2 = bias.chunk(6)
        for part in (shift1, scale1, shift2, scale2):
            nn.init.zeros_(part)
        for part in (gate1, gate2):
            nn.init.ones_(part)


@torch.no_grad()
def _tell_places(network: DiffusionTransformer, latents: int) -> None:
    """Initialise attention so that tokens know their absolute position, which the times of a video refer to.

    Rotary embeddings encode only the distance between two tokens. The time token is the first, so the
    distance to it is the position: the time token gets a mark, and all tokens get a constant in the first
    block. In the second block, some heads query the mark with the constant. Each has one pair of slowly
    rotating channels, and adds the attention to the mark in its own direction. It needs two blocks, channels
    that do not rotate, and one head per position besides at least one random head.
    """
    blocks, config = network.transformer.blocks(), network.config
    places = _PLACES[: config.num_heads - 1]
    width, head = config.embed_dim, config.head_dim
    pairs = rotary_width(head) // 2
    if len(blocks) < 2 or not places or head <= 2 * pairs:
        return
    directions = torch.randn(width, 2 + len(places))
    directions = torch.linalg.qr(directions - directions.mean(dim=0)).Q
    mark, constant, place_directions = directions[:, 0], directions[:, 1], directions[:, 2:]
    project = network.transformer.project_in.weight
    project -= torch.outer(mark, mark @ project)
    network.to_timestep_embed[2].bias += _MARK * mark
    blocks[0].ff.ff[2].bias += _CONSTANT * constant
    # What layer norm makes of them, where what is drawn adds a third to each number.
    mark_size = _MARK / math.sqrt((_MARK**2 + _CONSTANT**2) / width)
    constant_size = _CONSTANT / math.sqrt((width / 3 + _CONSTANT**2) / width)
    attention = blocks[1].self_attn
    weights = attention.to_qkv.weight.view(3, config.num_heads, head, width)
    scale = math.sqrt(head) / (mark_size * constant_size)
    slope, base = math.sqrt(_LOGITS * scale), math.sqrt(math.log(latents) * scale)
    for number, (turns, later) in enumerate(places):
        queries, keys, values = weights[:, number]
        weights[:, number] *= 0.3
        pair = round(-math.log(2 * math.pi * turns / latents, 10000) * pairs)
        queries[pair] += slope * constant
        keys[pair + pairs * later] += slope * mark
        queries[2 * pairs] += base * constant
        keys[2 * pairs] += base * mark
        values[0] = mark / mark_size
        attention.to_out.weight[:, number * head] += _TOLD * place_directions[:, number]


def _sync_times(config: ClipConditionerConfig) -> Tensor:
    """Times in seconds of the sync features that each video token reads, (out_features,).

    Segments last 0.64 s and start every 0.32 s; their buffer is read in rows (see `initialise_video`).
    """
    sizes = SynchformerConfig()  # segments are the same at any size
    tokens = torch.arange(config.sync_tokens)
    segments, steps = tokens // sizes.time_steps, tokens % sizes.time_steps
    middles = segments * sizes.segment_stride + (steps + 0.5) * sizes.patch_frames
    rows = middles.repeat_interleave(config.sync_dim).view(-1, config.sync_tokens)
    seconds = rows.mean(dim=1) / config.sync_fps
    # As many rows as sync features are wide become as many tokens as the model has.
    return seconds.repeat_interleave(config.out_features).view(config.out_features, -1).mean(dim=1)


def _near(times: Tensor, others: Tensor) -> Tensor:
    """Weights (T, N) that average the tokens at times (N,) near each time (T,), or take the nearest token."""
    distances = (times[:, None] - others).abs()
    reach = torch.maximum(distances.amin(dim=1, keepdim=True) * 1.01, torch.tensor(_REACH))
    weights = (1.001 - distances / reach).clamp(min=0)
    return weights / weights.sum(dim=1, keepdim=True)


def _embed(*tables: nn.Parameter | Tensor) -> None:
    for table in tables:
        nn.init.normal_(table, std=_SMALL)
