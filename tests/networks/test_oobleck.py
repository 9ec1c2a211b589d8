"""The autoencoder's networks against golden data and the published key lists."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from golden_cases import assert_close_l2, golden_path
from oobleck_networks import autoencoder_config, golden_part, tiny_decoder, tiny_encoder
from safetensors.torch import load_file
from torch import nn

from audiox_ext.checkpoints.state_dict import compare_keys
from audiox_ext.config import OobleckEncoderConfig
from audiox_ext.errors import ConfigError
from audiox_ext.networks.autoencoder.oobleck import (
    OobleckDecoder,
    OobleckEncoder,
    SnakeBeta,
    decoder_receptive_field,
    encoder_receptive_field,
)
from audiox_ext.networks.keys import published_shapes

GOLDEN = ["base", "maf", "mmdit", "turbo"]
PUBLISHED = ["AudioX", "AudioX-MAF", "AudioX-MAF-MMDiT", "AudioX-Turbo"]
TESTS = Path(__file__).parents[1]


@pytest.mark.parametrize("kind", GOLDEN)
def test_the_encoder_agrees_with_the_golden_data(kind: str) -> None:
    case = load_file(golden_path(f"{kind}/cases.safetensors"))
    assert_close_l2(golden_part(kind, "encoder")(case["vae.wave"]), case["vae.encoder_out"], 1e-5)


@pytest.mark.parametrize("kind", GOLDEN)
def test_the_decoder_agrees_with_the_golden_data(kind: str) -> None:
    case = load_file(golden_path(f"{kind}/cases.safetensors"))
    assert_close_l2(golden_part(kind, "decoder")(case["vae.latents"]), case["vae.decoded"], 1e-5)


@pytest.mark.parametrize("name", PUBLISHED)
def test_full_size_keys_and_shapes_are_the_published_ones(name: str) -> None:
    config = autoencoder_config(TESTS / "configs" / f"{name}.json")
    manifest = json.loads((TESTS / "manifests" / f"{name}.json").read_text())
    prefix = "pretransform.model."
    published = {k.removeprefix(prefix): tuple(v) for k, v in manifest.items() if k.startswith(prefix)}
    ours = nn.ModuleDict(
        {
            "encoder": OobleckEncoder(config.encoder, device="meta"),
            "decoder": OobleckDecoder(config.decoder, device="meta"),
        }
    )
    assert compare_keys(published, published_shapes(ours)) == ""


def test_snake_beta_is_its_formula() -> None:
    torch.manual_seed(1)
    snake = SnakeBeta(3)
    snake.alpha.data.normal_()
    snake.beta.data.normal_()
    x = torch.randn(2, 3, 50)
    before = x.clone()
    a, b = snake.alpha.double().exp()[:, None], snake.beta.double().exp()[:, None]
    assert_close_l2(snake(x), x.double() + torch.sin(x.double() * a).square() / (b + 1e-9), 1e-6)
    assert torch.equal(x, before), "the input was changed"


def test_a_decode_can_be_differentiated() -> None:
    decoder = tiny_decoder((2, 2))
    latents = torch.randn(1, 2, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(decoder, (latents,))


@pytest.mark.parametrize("strides", [(2, 4), (3,), (3, 5), (2, 3, 7)], ids=str)
def test_lengths_are_exact_for_any_stride(strides: tuple[int, ...]) -> None:
    hop = torch.tensor(strides).prod().item()
    decoder = tiny_decoder(strides)
    encoder = tiny_encoder(strides)
    assert decoder(torch.zeros(1, 2, 5, dtype=torch.float64)).shape == (1, 2, 5 * hop)
    assert encoder(torch.zeros(1, 2, int(5 * hop), dtype=torch.float64)).shape == (1, 4, 5)


def test_final_tanh_bounds_the_waveform() -> None:
    latents = 50 * torch.randn(1, 2, 4, dtype=torch.float64)
    plain, bounded = tiny_decoder((2, 2))(latents), tiny_decoder((2, 2), final_tanh=True)(latents)
    assert torch.equal(bounded, plain.tanh())


@pytest.mark.parametrize("strides", [(2, 4), (3, 5), (2, 4, 8, 8), (9, 8)], ids=str)
def test_the_receptive_field_is_exact(strides: tuple[int, ...]) -> None:
    """Latents inside it change the middle latent's samples, those just outside do not."""
    decoder = tiny_decoder(strides)
    reach = decoder_receptive_field(decoder.config)
    hop = int(torch.tensor(strides).prod())
    torch.manual_seed(2)
    latents = torch.randn(1, 2, 2 * reach + 3, dtype=torch.float64, requires_grad=True)
    for parameter in decoder.parameters():
        # Every tap is large enough to show in float64.
        parameter.data.mul_(2)
    middle = reach + 1
    decoder(latents)[..., middle * hop : (middle + 1) * hop].square().sum().backward()
    assert latents.grad is not None
    has_gradient = latents.grad.abs().sum((0, 1)) > 0
    assert not has_gradient[0]
    assert not has_gradient[-1]
    assert has_gradient[1] or has_gradient[-2], f"a reach of {reach} latents is more than needed"


@pytest.mark.parametrize("strides", [(2, 4), (3, 5), (2, 4, 8, 8), (9, 8)], ids=str)
def test_the_receptive_field_of_the_encoder_is_exact(strides: tuple[int, ...]) -> None:
    """Samples of latents inside it change the middle latent, those just outside do not."""
    encoder = tiny_encoder(strides)
    reach = encoder_receptive_field(encoder.config)
    hop = int(torch.tensor(strides).prod())
    torch.manual_seed(2)
    waveform = torch.randn(1, 2, (2 * reach + 3) * hop, dtype=torch.float64, requires_grad=True)
    for parameter in encoder.parameters():
        parameter.data.mul_(2)
    encoder(waveform)[..., reach + 1].square().sum().backward()
    assert waveform.grad is not None
    has_gradient = (waveform.grad.abs().sum((0, 1)) > 0).reshape(-1, hop).any(dim=1)
    assert not has_gradient[0]
    assert not has_gradient[-1]
    assert has_gradient[1] or has_gradient[-2], f"a reach of {reach} latents is more than needed"


def test_the_receptive_fields_of_the_published_size() -> None:
    config = autoencoder_config(TESTS / "configs" / "AudioX-MAF.json")
    assert decoder_receptive_field(config.decoder) == 10
    assert encoder_receptive_field(config.encoder) == 8


def test_sizes_that_make_no_network_are_refused() -> None:
    with pytest.raises(ConfigError, match="2 c_mults but 1 strides"):
        OobleckEncoder(
            OobleckEncoderConfig(in_channels=2, channels=3, c_mults=(1, 2), strides=(2,), latent_dim=4),
            device="meta",
        )
    with pytest.raises(ConfigError, match="at least 2"):
        tiny_decoder((2, 1))


COMFY_SCRIPT = """
import sys
sys.argv = ["test", "--cpu"]
import comfy.options
comfy.options.enable_args_parsing()
import comfy.ops, torch
sys.path[:0] = {paths!r}
from audiox_ext.networks.autoencoder.oobleck import OobleckDecoder
from golden_cases import assert_close_l2, golden_path
from oobleck_networks import autoencoder_config, golden_part
config = autoencoder_config(golden_path("maf/config.json")).decoder
plain = golden_part("maf", "decoder")
cast = OobleckDecoder(config, comfy.ops.manual_cast, dtype=torch.float16)
cast.load_state_dict(plain.state_dict())
for module in cast.modules():
    if any(True for _ in module.parameters(recurse=False)) and type(module).__name__ != "SnakeBeta":
        assert module.comfy_cast_weights, type(module)
torch.manual_seed(5)
latents = torch.randn(1, 4, 12)
with torch.inference_mode():
    out = cast(latents)
    assert out.dtype == torch.float32
    assert_close_l2(out, plain(latents), 5e-3)  # the weights are rounded to half precision
"""


@pytest.mark.slow
def test_comfyui_operations_are_accepted(comfyui_dir: Path) -> None:
    script = COMFY_SCRIPT.format(paths=[str(path) for path in (TESTS.parent, TESTS)])
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=comfyui_dir, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr[-3000:]
