"""The parts of the diffusion model in training: prompts, attention, first weights, the trained target."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from training_miniature import RATE, miniature, miniature_values, modulated_values, noise

from audiox_ext.conditioning.text_encoder import TextEncoder
from audiox_ext.conditioning.video_conditioner import VideoConditioner
from audiox_ext.model import AudioXModel
from audiox_ext.networks.dit import DiffusionTransformer
from audiox_ext.networks.mmdit import MultimodalDiffusionTransformer
from audiox_ext.networks.operations import torch_attention
from audiox_ext.sampling.denoiser import VDenoiser
from pocket.diffusion.text_encoder import build_text_encoder, make_tokenizer
from pocket.sync.code import sync_code
from pocket.training.attention import attention
from pocket.training.initial_weights import initialise, initialise_video
from pocket.world.random_scenes import draw_scene


def test_texts_encoded_together_are_as_texts_encoded_alone() -> None:
    captions = ["a tone", "a high tone from the left, then a bell", "Ünknown ¿words? 鳥"]
    tokenizer = make_tokenizer(captions[:2] * 10, 280)
    assert tokenizer.decode(tokenizer.encode(captions[2]).ids).strip() == captions[2]
    torch.manual_seed(0)
    together = build_text_encoder(miniature().text_encoder, 64, tokenizer)
    alone = TextEncoder(together.model, tokenizer, 64)
    for length in (64, 7):
        states, mask = together(captions, length, torch.device("cpu"))
        wanted, wanted_mask = alone(captions, length, torch.device("cpu"))
        torch.testing.assert_close(states, wanted, rtol=1e-4, atol=1e-5)
        assert torch.equal(mask, wanted_mask)


def test_equal_tokens_of_a_context_in_training_have_each_its_gradient() -> None:
    torch.manual_seed(0)
    model = AudioXModel(miniature().model)
    network = model.network
    assert isinstance(network, DiffusionTransformer)
    torch.nn.init.normal_(network.transformer.blocks()[0].cross_attn.to_out.weight)
    context = noise(1, 1, 64).repeat(1, 5, 1).requires_grad_()
    x, t = noise(1, 8, 10), torch.tensor([0.5])
    made = network(x, t, network.prepare_context(context))
    made.square().sum().backward()
    assert context.grad is not None
    sizes = context.grad.abs().amax(dim=-1)[0]
    assert float(sizes.min()) > 0
    # And what comes out is what comes out with the tokens merged.
    with torch.no_grad():
        merged = network.prepare_context(context.detach())
        assert merged.bias is not None
        torch.testing.assert_close(network(x, t, merged), made.detach(), rtol=1e-4, atol=1e-5)


def test_what_the_network_learns_is_what_the_sampler_asks_it() -> None:
    """With a perfect prediction of the trained target, the sampler's denoiser finds the clean latents."""
    clean, disturbance, t = noise(1, 4, 6), noise(1, 4, 6, seed=1), 0.37
    alpha, sigma = math.cos(t * math.pi / 2), math.sin(t * math.pi / 2)
    seen: list[Tensor] = []

    def perfect(x: Tensor, times: Tensor) -> Tensor:
        seen.append(times)
        torch.testing.assert_close(x, alpha * clean + sigma * disturbance)
        return alpha * disturbance - sigma * clean

    level = torch.tensor(sigma / alpha)
    torch.testing.assert_close(VDenoiser(perfect)(clean + level * disturbance, level), clean)
    torch.testing.assert_close(seen[0], torch.tensor([t]))


def test_a_model_that_has_learnt_nothing_yet_lets_every_part_learn() -> None:
    torch.manual_seed(0)
    model = AudioXModel(miniature().model)
    initialise(model)
    for name in ("unified_experts", "gating_network.0.weight"):
        assert float(model.maf_block.get_parameter(name).detach().std()) > 0, name
    for key, parameter in model.conditioner.named_parameters():
        table = any(part in key for part in ("embedding", "empty"))
        if table:
            assert float(parameter.detach().std()) > 0, key
    assert float(model.network.timestep_features.weight.detach().std()) > 0.5


def test_a_latent_is_told_what_is_seen_at_its_time() -> None:
    """By an untrained network of kind mmdit: what changes in a video reaches the latents of that time."""
    torch.manual_seed(0)
    model = AudioXModel(miniature(modulated_values()).model)
    initialise(model)
    video, network = model.conditioner.conditioners["video_prompt"], model.network
    assert isinstance(video, VideoConditioner)
    assert isinstance(network, MultimodalDiffusionTransformer)
    layer, latents = network.transformer.proj_mm_seq_len, model.config.latent_count
    states = torch.zeros(1, video.config.frames, video.config.clip.tokens, video.config.temporal_dim)

    def told(sync: Tensor) -> Tensor:
        tokens = torch.zeros(1, network.config.context_tokens, video.config.temporal_dim)
        first = model.config.context_tokens()["text_prompt"]
        tokens[:, first : first + video.config.out_features] = video.fuse(states, sync)
        return layer(tokens.transpose(1, 2))[0, :, 1:]  # without the time token

    nothing = torch.zeros(1, video.config.sync_tokens, video.config.sync_dim)
    for segment, step in ((0, 4), (3, 1), (6, 6)):
        seen = nothing.clone()
        seen[:, 8 * segment + step] = 1
        with torch.no_grad():
            change = (told(seen) - told(nothing)).norm(dim=0)
        time = (8 * segment + 2 * step + 1) / 25
        times = (torch.arange(latents) + 0.5) * model.config.autoencoder.downsampling_ratio / RATE
        assert abs(float(times[change.argmax()]) - time) < 0.12
        assert float(change[(times - time).abs() > 0.4].max()) < 0.1 * float(change.max())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_attention_of_the_training_is_that_of_torch(dtype: torch.dtype) -> None:
    given = [noise(2, 3, 20, 16, seed=seed).to(dtype).requires_grad_() for seed in range(3)]
    bias = noise(2, 1, 1, 20, seed=3)
    found = []
    for attend in (torch_attention, attention):
        made = attend(*given, bias.to(dtype))
        found.append([made, *torch.autograd.grad(made.float().square().sum(), given)])
    for wanted, got in zip(*found, strict=True):
        torch.testing.assert_close(got, wanted, rtol=0.05, atol=0.05)
    assert found[1][0].dtype == dtype


def test_what_happens_in_a_film_is_said_at_its_time_step() -> None:
    scene = draw_scene(3, seconds=10, kinds=("ball",), film=True)
    onsets = scene.parts[0].onsets
    code = sync_code(scene, 0.0, 125, 0.08)
    assert code.shape == (125, 16)
    near = [step for step in range(125) if any(0 <= onset - 0.08 * step < 0.08 for onset in onsets)]
    assert near == [step for step in range(125) if step in near and code[step, :4].max() > 0.7]
    far = [step for step in range(125) if all(abs(onset - 0.08 * step - 0.04) > 0.25 for onset in onsets)]
    assert far
    assert float(code[far, :4].max()) < 0.01
    assert code[:, 4:8].tolist() == [[1, 0, 0, 0]] * 125


def test_the_rows_of_a_video_are_read_at_the_same_places() -> None:
    """An untrained conditioner passes on the code of its features, wherever its rows begin."""
    config = miniature().model
    module = AudioXModel(config).conditioner.conditioners["video_prompt"]
    assert isinstance(module, VideoConditioner)
    initialise_video(module)
    tokens, width = module.config.sync_tokens, module.config.sync_dim
    code = noise(16)
    sync = code.repeat(width // 16).expand(1, tokens, width)
    rows = module.proj_sync(sync.reshape(-1, tokens))
    half = module.config.out_features // 2
    for start in range(half, module.config.out_features - 15, 16):
        for row in rows:
            assert float(torch.corrcoef(torch.stack([row[start : start + 16], code]))[0, 1]) > 0.99


def test_tokens_know_from_the_start_where_they_are() -> None:
    """Whatever the latents: a line through the tokens of one sound tells the places of another."""
    values = miniature_values()
    values["model"]["model"]["diffusion"]["config"] |= {"embed_dim": 384, "num_heads": 6, "depth": 2}
    torch.manual_seed(0)
    model = AudioXModel(miniature(values).model)
    errors, seen = [], []
    for drawn in (False, True):
        if drawn:
            initialise(model)
        seen.clear()
        network = model.network
        assert isinstance(network, DiffusionTransformer)
        handle = network.transformer.blocks()[1].register_forward_hook(lambda *of: seen.append(of[2]))
        with torch.no_grad():
            context = network.prepare_context(torch.zeros(1, 4, network.config.cond_token_dim))
            for seed in range(9):
                network(noise(1, 8, 375, seed=seed), torch.tensor([0.9]), context)
        handle.remove()
        tokens = torch.cat(seen)[:, 1:]
        angles = torch.arange(1, 376)[:, None] * 10000 ** (-torch.tensor([9, 7, 5]) / 16)
        wanted = angles.cos().expand(9, -1, -1)  # the turns that are nearest to 0.4, 1.25 and 4
        solved = torch.linalg.lstsq(tokens[:8].flatten(0, 1), wanted[:8].flatten(0, 1)).solution
        errors.append((tokens[8] @ solved - wanted[8]).square().mean(dim=0) / wanted[8].var(dim=0))
    assert float(errors[0].min()) > 0.7
    assert float(errors[1].max()) < 0.5  # measured: 0.14 to 0.35
