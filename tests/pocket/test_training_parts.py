"""What training is made of, piece by piece; needs no Lightning."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from training_miniature import RATE, miniature, miniature_values, modulated_values, strengths_values

from audiox_ext.checkpoints.state_dict import fold_weight_norm
from audiox_ext.conditioning.text_encoder import TextEncoder
from audiox_ext.conditioning.video_conditioner import VideoConditioner
from audiox_ext.config import AutoencoderConfig, OobleckDecoderConfig, OobleckEncoderConfig
from audiox_ext.errors import ConfigError
from audiox_ext.model import AudioXModel
from audiox_ext.networks.autoencoder.autoencoder import Autoencoder
from audiox_ext.networks.autoencoder.spectral import (
    NOISE_PARTS,
    LatentMap,
    compute_angle_gains,
    count_spectral_values,
    list_noise_bands,
    list_sinusoid_bands,
    measure_spectrum,
)
from audiox_ext.networks.dit import DiffusionTransformer
from audiox_ext.networks.mmdit import MultimodalDiffusionTransformer
from audiox_ext.networks.operations import torch_attention
from audiox_ext.random_numbers import RandomNumbers
from audiox_ext.sampling.denoiser import VDenoiser
from audiox_ext.training.module import WeightAverage
from audiox_ext.training.objective import noise_times, stratified_uniform
from pocket.autoencoder.augmentation import pan_randomly
from pocket.autoencoder.initial_weights import initialise_autoencoder
from pocket.autoencoder.latent_scale import DEVIATION, normalise_latents
from pocket.autoencoder.spectral_decoder import build_decoder
from pocket.diffusion.prompt_dropout import VisiblePrompts
from pocket.diffusion.text_encoder import build_text_encoder, make_tokenizer
from pocket.sync.code import sync_code
from pocket.training.attention import attention
from pocket.training.batches import CropBatches
from pocket.training.initial_weights import initialise, initialise_video
from pocket.training.losses import (
    TypicalErrors,
    kl_divergence,
    multi_resolution_stft,
    relative_error,
    stereo_views,
    weighted_errors,
)
from pocket.training.matrix_optimiser import MatrixOptimiser, Muon
from pocket.training.weight_norm import normalise_weights, plain_state, split_weight_norm
from pocket.training_file import parse_training_config, read_training_config
from pocket.world.random_scenes import draw_scene


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def spectral(made: Tensor, wanted: Tensor, *sizes: int) -> tuple[float, float]:
    convergence, logs = multi_resolution_stft(made, wanted, sizes)
    return float(convergence), float(logs)


def test_the_losses_are_nothing_for_equal_sounds_and_grow_with_the_difference() -> None:
    sound = 0.3 * noise(2, 2, 4096)
    found = []
    for amount in (0.0, 0.01, 0.1):
        made, wanted = stereo_views(sound + amount * noise(2, 2, 4096, seed=1)), stereo_views(sound)
        found.append((*spectral(made, wanted, 128, 512), float(relative_error(made, wanted))))
    for none, little, much in zip(*found, strict=True):
        assert none == pytest.approx(0, abs=1e-4)
        assert none < little < much


def test_a_soft_sound_counts_as_much_as_a_loud_one() -> None:
    """Of a loud sound lost, half is lost; of a soft one, too; and silence is the whole loss of each."""
    sounds = torch.stack([0.3 * noise(2, 4096), 0.03 * noise(2, 4096, seed=1)])
    for lost in (0, 1):
        made = sounds.clone()
        made[lost] = 0
        assert float(relative_error(made, sounds)) == pytest.approx(0.5, abs=1e-3)
        assert spectral(made, sounds, 256)[0] == pytest.approx(0.5, abs=0.01)


def test_of_velocities_too_a_soft_sound_counts_for_more_than_its_power() -> None:
    latents = DEVIATION * noise(2, 4, 50)
    latents[1] *= 0.25
    errors = weighted_errors(latents, torch.zeros(2, 4, 50), latents)
    assert float(errors[0]) == pytest.approx(DEVIATION**2, rel=0.2)
    # Its power is a sixteenth.
    assert float(errors[1]) == pytest.approx(float(errors[0]) * 16**-0.15, rel=0.2)


def test_times_that_usually_go_wrong_count_no_more_than_the_others() -> None:
    usual = TypicalErrors()
    times = torch.tensor([0.01, 0.5, 0.99])
    errors = torch.tensor([0.8, 0.1, 0.05])
    for _ in range(400):
        usual.update(errors, times)
    found = []
    for place in range(3):
        alone = torch.zeros(3)
        alone[place] = errors[place]
        found.append(float(usual.balanced(alone, times)))
    assert found == pytest.approx([found[0]] * 3, rel=0.02)
    assert float(usual.balanced(2 * errors, times)) == pytest.approx(6 * found[0], rel=0.02)
    assert torch.equal(usual.errors[1:8], torch.ones(7))  # of times that were not seen nothing is known


def layer_and_optimiser() -> tuple[nn.Linear, MatrixOptimiser]:
    torch.manual_seed(0)
    layer = nn.Linear(6, 4)
    others = torch.optim.AdamW([layer.bias], lr=0.1)
    return layer, MatrixOptimiser([layer.weight], others, learning_rate=0.1, weight_decay=0.0)


def learn(layer: nn.Linear, optimiser: MatrixOptimiser, steps: int) -> float:
    for _ in range(steps):

        def gradients() -> Tensor:
            optimiser.zero_grad()
            loss = (layer(noise(32, 6)) - noise(32, 6)[:, :4] - 1).square().mean()
            loss.backward()
            return loss

        loss = optimiser.step(gradients)
    return float(loss.detach())


@pytest.mark.parametrize("shape", [(6, 4), (4, 6), (6, 4, 3)])
def test_all_directions_of_a_matrix_are_learnt_at_one_pace(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    weight = nn.Parameter(torch.zeros(shape))
    optimiser = Muon([weight], lr=0.1, weight_decay=0.0)
    strengths = torch.logspace(0, -2, shape[1])  # of its columns, a hundred times apart
    weight.grad = torch.randn(shape) * strengths.view(1, -1, *[1] * (len(shape) - 2))
    optimiser.step()
    for step in weight.detach().unsqueeze(-1).flatten(2).unbind(-1):
        sizes = torch.linalg.svdvals(step) / (0.1 * 0.2 * math.sqrt(6))
        assert 0.5 < float(sizes.min()) <= float(sizes.max()) < 1.3
    assert float((weight.detach() * weight.grad).sum()) < 0


def test_matrices_and_the_rest_are_optimised_as_one_and_go_on_from_a_checkpoint() -> None:
    layer, optimiser = layer_and_optimiser()
    first = learn(layer, optimiser, 1)
    for group in optimiser.param_groups:
        group["lr"] = 0.05
    assert learn(layer, optimiser, 60) < 0.1 * first
    other, again = layer_and_optimiser()
    other.load_state_dict(layer.state_dict())
    again.load_state_dict(copy.deepcopy(optimiser.state_dict()))
    for group in (*optimiser.param_groups, *again.param_groups):
        group["lr"] = 0.02  # reaches the parts of one that was read, too
    learn(layer, optimiser, 3)
    learn(other, again, 3)
    assert torch.equal(layer.weight, other.weight)
    assert torch.equal(layer.bias, other.bias)
    for group in again.param_groups:
        group["lr"] = 0.0
    before = other.weight.detach().clone()
    learn(other, again, 1)
    assert torch.equal(before, other.weight)


def test_waves_are_compared_where_they_are_slow() -> None:
    """Their phase above is for the spectra alone, which do not hear it."""
    time = torch.arange(4096) / 4096 * 2 * torch.pi
    errors = []
    for periods in (100, 1500):
        sine, later = (0.3 * (periods * time + phase).sin().expand(1, 2, -1) for phase in (0, torch.pi / 2))
        errors.append(float(relative_error(later, sine)))
    assert errors[0] == pytest.approx(2**0.5, rel=0.02)
    assert errors[1] < 0.05


def test_sounds_are_moved_to_anywhere_between_left_and_right() -> None:
    sounds = 0.3 * noise(64, 1, 100).expand(-1, 2, -1)  # from the middle

    def sides(share: float) -> Tensor:
        left, right = (
            pan_randomly(sounds, share, torch.Generator().manual_seed(3)).square().sum(dim=2).unbind(1)
        )
        torch.testing.assert_close(left + right, 2 * sounds[:, 0].square().sum(dim=1))
        return (left - right) / (left + right)

    assert float(sides(0).abs().max()) < 1e-6
    assert sorted(torch.histc(sides(1), 4, -1, 1).tolist())[0] >= 4
    assert 20 < int((sides(0.5).abs() > 1e-6).sum()) < 44


def test_the_spectral_loss_hears_a_channel_out_of_phase() -> None:
    """Left and right alone have the same magnitudes; their sum and difference do not."""
    sound = 0.3 * noise(1, 1, 4096).expand(1, 2, -1)
    turned = sound * torch.tensor([1.0, -1.0])[:, None]
    assert sum(spectral(turned, sound, 256)) < 1e-5
    assert sum(spectral(stereo_views(turned), stereo_views(sound), 256)) > 1


def test_the_losses_of_silence_have_finite_gradients() -> None:
    made = torch.zeros(1, 2, 1024, requires_grad=True)
    silence = torch.zeros(1, 2, 1024)
    (
        sum(multi_resolution_stft(stereo_views(made), stereo_views(silence), (64, 256)))
        + relative_error(made, silence)
    ).backward()
    assert made.grad is not None
    assert bool(torch.isfinite(made.grad).all())


def test_the_divergence_is_that_of_torch() -> None:
    mean, deviation = noise(2, 3, 5), noise(2, 3, 5, seed=1).abs() + 0.1
    normal = torch.distributions.Normal
    wanted = torch.distributions.kl_divergence(normal(mean, deviation), normal(0.0, 1.0)).mean()
    torch.testing.assert_close(kl_divergence(mean, deviation), wanted)


def test_weight_normalisation_changes_no_weight_and_comes_off_again() -> None:
    torch.manual_seed(0)
    autoencoder = Autoencoder(miniature().model.autoencoder)
    before = {key: value.clone() for key, value in autoencoder.state_dict().items()}
    normalise_weights(autoencoder)
    assert any("original0" in key for key in autoencoder.state_dict())
    after = plain_state(autoencoder)
    assert after.keys() == before.keys()
    for key, value in after.items():
        torch.testing.assert_close(value, before[key], msg=key)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_published_pairs_fold_to_the_weight(dtype: torch.dtype) -> None:
    # As small as late in a training, where half precision has few digits left: the pair keeps them.
    weight = 1e-5 * noise(6, 4, 7)
    weight[2] = 0
    g, v = (part.to(dtype) for part in split_weight_norm(weight))
    assert g.shape == (6, 1, 1)
    [folded] = fold_weight_norm({"weight_g": g, "weight_v": v}).values()
    # Half precision rounds g, whose 2.6e-5 are subnormal there, in steps of 6e-8, and v in 2^-11.
    bound = {torch.float32: 1e-6, torch.float16: 6e-3}[dtype]
    assert float((folded - weight).abs().max() / weight.abs().max()) < bound


def test_normalised_latents_have_mean_0_and_their_deviation_and_decode_to_the_same() -> None:
    torch.manual_seed(0)
    autoencoder = Autoencoder(miniature().model.autoencoder).requires_grad_(False)
    autoencoder.model["encoder"].layers[-1].bias[:8] += 2 * noise(8, seed=9)
    sounds = [0.3 * noise(2, 2, 200 * 64, seed=seed) for seed in range(3)]
    mean, deviation = autoencoder.posterior(sounds[0])
    made = autoencoder.decode(mean)
    normalise_latents(autoencoder, sounds)
    means, deviations = zip(*(autoencoder.posterior(sound) for sound in sounds), strict=True)
    # Next to the ends what lies beyond them is another thing.
    inside = slice(60 * 64, -60 * 64)
    decoded = autoencoder.decode(means[0])
    torch.testing.assert_close(decoded[..., inside], made[..., inside], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(torch.cat(means).mean(dim=(0, 2)), torch.zeros(8), rtol=0, atol=1e-3)

    def spread(mean: Tensor, deviation: Tensor) -> Tensor:
        """Of a sample of the posterior, each channel's, without drawing one; 1 is as it should be."""
        return (mean.var(dim=(0, 2), correction=0) + deviation.square().mean(dim=(0, 2))).sqrt() / DEVIATION

    assert float((spread(mean, deviation) - 1).abs().max()) > 0.1
    # The posterior's own deviation is not a multiple of what it was: per cents.
    assert float((spread(torch.cat(means), torch.cat(deviations)) - 1).abs().max()) < 0.03


def test_the_average_follows_the_weights_and_gives_them_back() -> None:
    layer = nn.Linear(3, 2)
    average = WeightAverage(layer, 0.5)
    first = layer.weight.detach().clone()
    with torch.no_grad():
        layer.weight.add_(1.0)
    average.update(1)  # decay (1 + 1) / (10 + 1)
    with average.apply():
        torch.testing.assert_close(layer.weight, first + (1 - 2 / 11))
    torch.testing.assert_close(layer.weight, first + 1.0)


def crop_batches(**dataset: Any) -> CropBatches:
    return CropBatches(miniature().dataset("training", film_fraction=0, **dataset), 3, RATE // 2, crops=2)


def test_a_batch_is_the_same_whenever_it_is_made() -> None:
    one, other = crop_batches()[11], crop_batches()[11]
    assert one.numbers == (15, 16, 17)
    assert torch.equal(one.waveforms, other.waveforms)


def test_batches_in_a_row_take_other_crops_of_the_same_sounds() -> None:
    batches = crop_batches()
    assert batches[10].numbers == batches[11].numbers != batches[12].numbers
    assert not torch.equal(batches[10].waveforms, batches[11].waveforms)


def test_batches_begin_again_past_the_end() -> None:
    assert crop_batches(length=4)[2].numbers == (3, 0, 1)


def test_an_autoencoder_starts_with_latents_that_say_something() -> None:
    """Of deviation 1, and far above the noise of the posterior; torch's own draw drowns in it."""
    config, sounds = miniature().model.autoencoder, 0.1 * noise(8, 2, 2048)
    torch.manual_seed(0)
    autoencoder = Autoencoder(config)
    shares = []
    for start in (False, True):
        if start:
            initialise_autoencoder(autoencoder, sounds)
        with torch.no_grad():
            mean, deviation = autoencoder.posterior(sounds)
        shares.append(float(mean.std() / deviation.mean()))
    torch.testing.assert_close(mean.std(dim=(0, 2)), torch.ones(8), rtol=1e-3, atol=0)
    assert shares[0] < 0.5
    assert shares[1] > 5
    with torch.no_grad():
        assert 0.02 < float(autoencoder.decode(mean).std()) < 0.5


def test_an_autoencoder_with_room_for_everything_starts_by_giving_it_back() -> None:
    sizes = {"channels": 8, "c_mults": (1, 3), "strides": (3, 4)}
    config = AutoencoderConfig(
        encoder=OobleckEncoderConfig(in_channels=2, latent_dim=2 * 24, **sizes),
        decoder=OobleckDecoderConfig(out_channels=2, latent_dim=24, final_tanh=False, **sizes),
        latent_dim=24,
        downsampling_ratio=12,
        io_channels=2,
    )
    sounds, others = (0.1 * noise(4, 2, 1200, seed=seed) for seed in (0, 1))
    torch.manual_seed(0)
    autoencoder = Autoencoder(config)
    initialise_autoencoder(autoencoder, sounds)
    with torch.no_grad():
        error = (autoencoder.decode(autoencoder.posterior(others)[0]) - others)[..., 60:-60]
    assert float(error.std() / others.std()) < 0.1  # what units and snakes add, and what ends miss


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


def test_each_prompt_is_left_out_as_often_as_is_said() -> None:
    settings = replace(
        miniature().diffusion,
        text_dropout=0.1,
        text_with_video_dropout=0.4,
        video_dropout=0.2,
        audio_dropout=0.7,
        context_dropout=0.3,
    )
    has_film = torch.arange(20_000) < 10_000
    shown = VisiblePrompts.draw(settings, has_film, torch.Generator().manual_seed(0))
    shares = {
        "text with video": (shown.text[:10_000], 0.6),
        "text alone": (shown.text[10_000:], 0.9),
        "video": (shown.video[:10_000], 0.8),
        "no video": (shown.video[10_000:], 0.0),
        "audio": (shown.audio, 0.3),
        "context": (shown.context, 0.7),
    }
    for name, (values, share) in shares.items():
        assert abs(float(values.float().mean()) - share) < 0.02, name  # four deviations of 10,000 draws


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


def test_times_are_uniform_and_spread_over_each_batch() -> None:
    places = stratified_uniform(50, torch.Generator().manual_seed(0))
    assert sorted((places * 50).floor().int().tolist()) == list(range(50))
    assert places.tolist() != sorted(places.tolist())
    assert stratified_uniform(4, None).tolist() == [0.125, 0.375, 0.625, 0.875]
    assert torch.equal(noise_times(places, 0.0, 0.7), places)


def test_times_can_be_drawn_wider_and_at_higher_noise() -> None:
    places = stratified_uniform(1000, torch.Generator().manual_seed(0))
    near, wide = noise_times(places, 0.75, 0.0), noise_times(places, 1.2, 0.5)
    assert float((near.sort().values - places.sort().values).abs().max()) < 0.04  # nearly even
    assert float((wide > 0.94).float().mean()) > 2 * float((near > 0.94).float().mean())
    assert 0 < float(wide.min()) < float(wide.max()) < 1
    assert float(noise_times(torch.tensor([0.5]), 1.2, 0.5)) == pytest.approx(
        math.atan(math.exp(0.5)) / math.pi * 2
    )
    assert float(noise_times(torch.tensor([0.0]), 1.2, 0.5)) > 0


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


def tone(pitch: float, left: float, right: float, seconds: float = 2.048, rate: int = 16000) -> Tensor:
    """(1, 2, S), of amplitudes."""
    time = torch.arange(round(seconds * rate)) / rate
    return torch.tensor([[left], [right]]) * torch.sin(2 * torch.pi * pitch * time)[None, None]


def test_strengths_tell_tones_noise_and_sides() -> None:
    bands, noises = list_sinusoid_bands(16000, 2048), list_noise_bands(16000)
    side = len(bands) + NOISE_PARTS * len(noises)
    assert count_spectral_values(16000, 2048) == 2 * side
    found = measure_spectrum(tone(440, 0.25, 0.01), 16000, 2048)
    assert found.shape == (1, 2 * side, 16)
    gains = compute_angle_gains(16000, 2048)
    left, right = (found[0] * gains[:, None]).sin().square()[:, 8].split(side)
    at = next(number for number, band in enumerate(bands) if band.low <= 440 < band.high)
    assert abs(bands[at].frequency - 440) < 4
    assert float(left[at]) == pytest.approx(0.25, rel=0.15)  # between two bins
    assert float(right[at]) == pytest.approx(0.01, rel=0.15)
    assert float(left.sum() - left[at]) < 0.02
    hiss = 0.1 * noise(1, 2, 2048 * 16)
    told = (measure_spectrum(hiss, 16000, 2048)[0] * gains[:, None]).sin().square()[:side, 2:-2]
    assert float(told[: len(bands)].mean()) < 1e-3
    power = told[len(bands) :].div(2).square().unflatten(0, (len(noises), NOISE_PARTS)).mean(dim=(1, 2))
    shares = torch.tensor([high - low for low, high in noises]) / 8000
    torch.testing.assert_close(power / 0.01, shares, rtol=0.15, atol=0.01)
    assert not measure_spectrum(torch.zeros(1, 2, 8192), 16000, 2048).any()
    assert [band.high for band in bands[:-1]] == [band.low for band in bands[1:]]


@pytest.fixture(scope="module")
def of_strengths() -> Autoencoder:
    """An autoencoder of strengths, made of one of waves that lost little, and not trained."""
    config = miniature(strengths_values())
    assert config.waves is not None
    torch.manual_seed(0)
    waves, made = (Autoencoder(sizes) for sizes in (config.waves, config.model.autoencoder))
    for module in (waves, made):
        module.requires_grad_(False)
    sounds = torch.cat([some_tones(seed) for seed in range(6)])
    initialise_autoencoder(waves, sounds)
    mapped = LatentMap.fit(measure_spectrum(sounds, 16000, 2048), config.model.autoencoder.latent_dim)
    build_decoder(made, waves, 16000, mapped)
    return made


def some_tones(seed: int) -> Tensor:
    """Eight seconds, (1, 2, S), of tones of random loudness, pitch and side, four a second, in noise."""
    random = torch.Generator().manual_seed(seed)
    pitch, level, side = torch.rand(3, 32, generator=random).repeat_interleave(4096, dim=1)
    wave = 10 ** (-0.4 - level) * torch.sin(2 * torch.pi * torch.cumsum(120 * 10**pitch, 0) / 16000)
    both = torch.stack([side * wave, (1 - side) * wave])[None]
    return both + 0.002 * torch.randn(both.shape, generator=random)


def test_latents_are_components_of_strengths_about_as_large_as_each_other() -> None:
    told = measure_spectrum(torch.cat([some_tones(seed) for seed in range(6)]), 16000, 2048)
    mapped = LatentMap.fit(told, 60)
    latents = mapped.to_latents(told)
    assert float(latents.mean(dim=(0, 2)).abs().max()) < 1e-3
    powers = latents.square().mean(dim=(0, 2))
    assert float(powers.mean()) == pytest.approx(1, rel=1e-3)
    assert float(powers[:20].max() / powers[:20].min()) < 3
    rest = mapped.to_spectrum(latents) - told
    assert float(rest.square().sum()) < 0.1 * float((told - mapped.centre[:, None]).square().sum())


def test_a_decoder_of_strengths_makes_what_they_tell(of_strengths: Autoencoder) -> None:
    """The tone, its level and its side, and nothing of silence."""
    mapped = of_strengths.read_latent_map()
    wanted = tone(440, 0.2, 0.02)
    made = of_strengths.decode(mapped.to_latents(measure_spectrum(wanted, 16000, 2048)))
    silence = of_strengths.decode(mapped.to_latents(torch.zeros(1, len(mapped.centre), 16)))
    inside = slice(3 * 2048, -3 * 2048)
    levels = made[0, :, inside].square().mean(dim=1).sqrt() * 2**0.5
    torch.testing.assert_close(levels, torch.tensor([0.2, 0.02]), rtol=0.25, atol=0.02)
    spectrum = torch.fft.rfft(made[0, 0, inside] * torch.hann_window(made[0, 0, inside].numel())).abs()
    pitch = float(spectrum.argmax()) * 16000 / made[0, 0, inside].numel()
    assert 12 * abs(math.log2(pitch / 440)) < 0.5
    assert float(silence[..., inside].abs().max()) < 0.01


def test_what_latents_are_is_read_off_the_decoder(of_strengths: Autoencoder) -> None:
    sounds = torch.cat([some_tones(seed) for seed in range(6)])
    wanted = LatentMap.fit(measure_spectrum(sounds, 16000, 2048), of_strengths.config.latent_dim)
    found = of_strengths.read_latent_map()
    torch.testing.assert_close(found.components, wanted.components, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found.centre, wanted.centre, rtol=1e-4, atol=1e-5)


def test_an_encoder_of_strengths_measures_them(of_strengths: Autoencoder) -> None:
    sounds = some_tones(7)
    mean, deviation = of_strengths.posterior(sounds)
    mapped = of_strengths.read_latent_map()
    calls: list[int] = []
    pieces, _ = of_strengths.posterior(sounds.repeat(1, 1, 2), piece=40, check=lambda: calls.append(1))
    whole, _ = of_strengths.posterior(sounds.repeat(1, 1, 2))
    torch.testing.assert_close(pieces, whole, rtol=1e-4, atol=1e-4)
    assert len(calls) == -(-whole.shape[-1] // 40)
    torch.testing.assert_close(mean, mapped.to_latents(measure_spectrum(sounds, 16000, 2048)))
    assert not deviation.any()
    assert not [key for key in of_strengths.state_dict() if "encoder" in key]
    assert torch.equal(of_strengths.encode(sounds, RandomNumbers.from_seed(0)), mean)
    with pytest.raises(ConfigError, match="without its decoder"):
        Autoencoder(of_strengths.config, decodes=False)


def autoencoder_of(values: dict[str, Any]) -> dict[str, Any]:
    return values["model"]["model"]["pretransform"]["config"]


def oobleck_encoder(latents: int) -> dict[str, Any]:
    sizes = {"channels": 8, "c_mults": [2, 16, 20, 48], "strides": [8, 8, 8, 4]}
    return {"type": "oobleck", "config": {"in_channels": 2, "latent_dim": 2 * latents, **sizes}}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda v: v.pop("waves"), "its decoder is built from waves"),
        (
            lambda v: autoencoder_of(v).update(encoder=oobleck_encoder(latents=160)),
            "encoder must have the type strengths",
        ),
        (
            lambda v: v["waves"]["config"].update(encoder=autoencoder_of(v)["encoder"]),
            "its encoder must be of the type oobleck",
        ),
        (lambda v: autoencoder_of(v)["encoder"]["config"].update(sample_rate=22050), "sample_rate is 16000"),
        (
            lambda v: autoencoder_of(v)["encoder"]["config"].update(in_channels=1),
            r"in_channels is 1\. Set it to 2",
        ),
        (
            lambda v: autoencoder_of(v)["decoder"]["config"].update(c_mults=[2, 16, 20, 20]),
            "it needs 376, two per spectral value",
        ),
        (lambda v: v["waves"]["config"].pop("encoder"), "waves.config.encoder is missing"),
        (
            lambda v: v["waves"]["config"]["decoder"]["config"].update(strides=[8, 16, 4]),
            "waves has the strides",
        ),
    ],
)
def test_strengths_that_do_not_fit_are_refused(change: Any, message: str) -> None:
    values = strengths_values()
    change(values)
    with pytest.raises(ConfigError, match=message):
        miniature(values)


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


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"diffusion": {"steps": 5, "batch_size": 2, "batch_sice": 3}}, "diffusion: unknown batch_sice"),
        ({"diffusion": {"steps": 5}}, r"diffusion\.batch_size is missing"),
        ({"diffusion": {"steps": True, "batch_size": 2}}, r"diffusion\.steps must be int, got true"),
        ({"diffusion": {"steps": 5, "batch_size": 0}}, r"diffusion\.batch_size must be at least 1, got 0"),
        (
            {"diffusion": {"steps": 5, "batch_size": 2, "text_dropout": 2}},
            r"diffusion\.text_dropout must lie in \[0, 1\], got 2",
        ),
        ({"autoencoder": {"steps": 5, "batch_size": 2, "precision": "16"}}, "precision is '16'"),
        ({"autoencoder": {"steps": 5, "batch_size": 2, "fft_sizes": [4]}}, "fft_sizes"),
        ({"vae": {}}, "unknown sections: vae"),
        ({"model": 3}, "model must be"),
    ],
)
def test_a_training_file_that_says_nonsense_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_training_config({**miniature_values(), **change}, Path())


def test_a_model_of_a_kind_that_is_not_trained_is_refused() -> None:
    values = miniature_values()
    values["model"]["model"]["diffusion"]["diffusion_objective"] = "rectified_flow"
    with pytest.raises(ConfigError, match="only v is trained"):
        parse_training_config(values, Path())
    values = miniature_values()
    values["model"]["sample_size"] *= 2
    with pytest.raises(ConfigError, match="longer than conditioning_seconds"):
        parse_training_config(values, Path())


def test_a_missing_training_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nothing\.json is missing"):
        read_training_config(tmp_path / "nothing.json")
