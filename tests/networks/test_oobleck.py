"""The autoencoder against golden data and the published key lists."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from golden_cases import assert_close_l2, golden_path
from safetensors.torch import load_file
from torch import Tensor, nn

from audiox_ext.checkpoints.config_parser import parse_config
from audiox_ext.checkpoints.state_dict import (
    compare_keys,
    fold_weight_norm,
    read_tensors,
    shapes_of,
)
from audiox_ext.config import AutoencoderConfig, OobleckDecoderConfig, OobleckEncoderConfig
from audiox_ext.errors import ConfigError, InputError
from audiox_ext.networks.autoencoder.autoencoder import Autoencoder
from audiox_ext.networks.autoencoder.oobleck import (
    OobleckDecoder,
    OobleckEncoder,
    SnakeBeta,
    decoder_receptive_field,
    encoder_receptive_field,
)
from audiox_ext.networks.autoencoder.tiling import decode_in_chunks, encode_in_chunks
from audiox_ext.networks.keys import published_shapes
from audiox_ext.random_numbers import RandomNumbers

GOLDEN = ["base", "maf", "mmdit", "turbo"]
PUBLISHED = ["AudioX", "AudioX-MAF", "AudioX-MAF-MMDiT", "AudioX-Turbo"]
TESTS = Path(__file__).parents[1]


def autoencoder_config(path: Path) -> AutoencoderConfig:
    return parse_config(json.loads(path.read_text())).autoencoder


def golden_state(kind: str) -> dict[str, Tensor]:
    """The autoencoder's tensors of a golden checkpoint: encoder.*, decoder.*."""
    if kind == "turbo":
        return read_tensors(golden_path("turbo/pretransform/vae.ckpt"))
    state = read_tensors(golden_path(f"{kind}/model.safetensors"))
    prefix = "pretransform.model."
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}


def golden_part(kind: str, part: str) -> Any:
    config = autoencoder_config(golden_path(f"{kind}/config.json"))
    with torch.device("meta"):
        module = OobleckEncoder(config.encoder) if part == "encoder" else OobleckDecoder(config.decoder)
    prefix = f"{part}."
    state = {k.removeprefix(prefix): v for k, v in golden_state(kind).items() if k.startswith(prefix)}
    assert compare_keys(shapes_of(state), published_shapes(module)) == ""
    module.load_state_dict(
        {k: v.float() for k, v in fold_weight_norm(state).items()}, strict=True, assign=True
    )
    return module.eval().requires_grad_(False)


def tiny_encoder(strides: tuple[int, ...]) -> OobleckEncoder:
    torch.manual_seed(0)
    encoder = OobleckEncoder(
        OobleckEncoderConfig(
            in_channels=2, channels=3, c_mults=(1,) * len(strides), strides=strides, latent_dim=4
        )
    )
    for parameter in encoder.parameters():
        parameter.data.uniform_(-0.5, 0.5)
    return encoder.double().requires_grad_(False)


def tiny_decoder(strides: tuple[int, ...], final_tanh: bool = False) -> OobleckDecoder:
    torch.manual_seed(0)
    config = OobleckDecoderConfig(
        out_channels=2,
        channels=3,
        c_mults=(1,) * len(strides),
        strides=strides,
        latent_dim=2,
        final_tanh=final_tanh,
    )
    decoder = OobleckDecoder(config)
    for parameter in decoder.parameters():
        parameter.data.uniform_(-0.5, 0.5)
    return decoder.double().requires_grad_(False)


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
    """Latents inside it move the middle latent's samples, those just outside do not."""
    decoder = tiny_decoder(strides)
    reach = decoder_receptive_field(decoder.config)
    hop = int(torch.tensor(strides).prod())
    torch.manual_seed(2)
    latents = torch.randn(1, 2, 2 * reach + 3, dtype=torch.float64, requires_grad=True)
    for parameter in decoder.parameters():
        # Enough of every tap comes through that float64 sees the faintest.
        parameter.data.mul_(2)
    middle = reach + 1
    decoder(latents)[..., middle * hop : (middle + 1) * hop].square().sum().backward()
    assert latents.grad is not None
    felt = latents.grad.abs().sum((0, 1)) > 0
    assert not felt[0]
    assert not felt[-1]
    assert felt[1] or felt[-2], f"a reach of {reach} latents is more than needed"


@pytest.mark.parametrize("strides", [(2, 4), (3, 5), (2, 4, 8, 8), (9, 8)], ids=str)
def test_the_receptive_field_of_the_encoder_is_exact(strides: tuple[int, ...]) -> None:
    """Samples of latents inside it move the middle latent, those just outside do not."""
    encoder = tiny_encoder(strides)
    reach = encoder_receptive_field(encoder.config)
    hop = int(torch.tensor(strides).prod())
    torch.manual_seed(2)
    waveform = torch.randn(1, 2, (2 * reach + 3) * hop, dtype=torch.float64, requires_grad=True)
    for parameter in encoder.parameters():
        parameter.data.mul_(2)
    encoder(waveform)[..., reach + 1].square().sum().backward()
    assert waveform.grad is not None
    felt = (waveform.grad.abs().sum((0, 1)) > 0).reshape(-1, hop).any(dim=1)
    assert not felt[0]
    assert not felt[-1]
    assert felt[1] or felt[-2], f"a reach of {reach} latents is more than needed"


def test_the_receptive_fields_of_the_published_size() -> None:
    config = autoencoder_config(TESTS / "configs" / "AudioX-MAF.json")
    assert decoder_receptive_field(config.decoder) == 10
    assert encoder_receptive_field(config.encoder) == 8


@pytest.mark.parametrize("chunk", [1, 7, 16, 40, 41, 99])
def test_a_decode_in_chunks_equals_the_whole(chunk: int) -> None:
    decoder = golden_part("maf", "decoder")
    torch.manual_seed(3)
    latents = torch.randn(2, 4, 40)
    assert_close_l2(decode_in_chunks(decoder, latents, chunk), decoder(latents), 1e-6)


def test_more_overlap_than_latents_is_fine() -> None:
    decoder = golden_part("maf", "decoder")
    torch.manual_seed(4)
    latents = torch.randn(1, 4, 20)
    assert_close_l2(decode_in_chunks(decoder, latents, 8, overlap=50), decoder(latents), 1e-6)


def test_chunks_that_cannot_fit_are_refused() -> None:
    decoder, latents = tiny_decoder((2, 4)), torch.zeros(1, 2, 40, dtype=torch.float64)
    with pytest.raises(InputError, match="at least 1 latent, got 0"):
        decode_in_chunks(decoder, latents, 0)
    with pytest.raises(
        InputError, match=f"at least {decoder_receptive_field(decoder.config)} latents.*got 2"
    ):
        decode_in_chunks(decoder, latents, 8, overlap=2)


@pytest.mark.parametrize("chunk", [7, 16, 40, 99])
def test_an_encode_in_chunks_equals_the_whole(chunk: int) -> None:
    encoder = golden_part("maf", "encoder")
    torch.manual_seed(3)
    waveform = torch.rand(2, 2, 40 * 512) * 2 - 1
    assert_close_l2(encode_in_chunks(encoder, waveform, chunk), encoder(waveform), 1e-6)


@pytest.mark.parametrize("extra", [0, 1, 13])
@pytest.mark.parametrize("strides", [(3, 5), (2, 7)], ids=str)
def test_samples_that_fill_no_latent_change_nothing_about_that(strides: tuple[int, ...], extra: int) -> None:
    encoder, hop = tiny_encoder(strides), strides[0] * strides[1]
    torch.manual_seed(4)
    waveform = torch.randn(1, 2, 61 * hop + min(extra, hop - 1), dtype=torch.float64)
    for chunk in (5, 20):
        assert_close_l2(encode_in_chunks(encoder, waveform, chunk), encoder(waveform), 1e-12)


@pytest.mark.parametrize(("kind", "iterate_batch"), [("base", False), ("maf", True), ("turbo", False)])
def test_an_encode_in_pieces_samples_the_same(kind: str, iterate_batch: bool, golden_model: Any) -> None:
    whole = golden_model(kind).pretransform
    model = Autoencoder(dataclasses.replace(whole.config, iterate_batch=iterate_batch))
    model.load_state_dict(whole.state_dict())
    pieces: list[int] = []
    torch.manual_seed(5)
    waveform = torch.rand(2, 2, 120 * whole.config.downsampling_ratio + 9) * 2 - 1
    with torch.no_grad():
        expected = model.encode(waveform, RandomNumbers.from_seed(1))
        got = model.encode(waveform, RandomNumbers.from_seed(1), 60, lambda: pieces.append(1))
    assert_close_l2(got, expected, 1e-5)
    assert len(pieces) >= 3


def test_an_encode_that_runs_out_of_memory_is_done_in_chunks(
    golden_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    autoencoder, lengths = golden_model("maf").pretransform, []
    plain, ratio = OobleckEncoder.forward, autoencoder.config.downsampling_ratio
    torch.manual_seed(6)
    waveform = torch.rand(2, 2, 100 * ratio) * 2 - 1

    def short_of_memory(self: OobleckEncoder, part: Tensor) -> Tensor:
        lengths.append(part.shape[-1] // ratio)
        if lengths[-1] > 70:
            raise torch.OutOfMemoryError("out of memory")
        return plain(self, part)

    with torch.no_grad():
        expected = autoencoder.posterior(waveform)
        monkeypatch.setattr(OobleckEncoder, "forward", short_of_memory)
        got = autoencoder.posterior(waveform)
    assert lengths[0] == 100
    assert max(lengths[1:]) <= 70
    for part, whole in zip(got, expected, strict=True):
        assert_close_l2(part, whole, 1e-5)


@pytest.mark.parametrize("part", [OobleckDecoder, OobleckEncoder])
@pytest.mark.parametrize(
    "message",
    [
        "MPS backend out of memory (MPS allocated: 9 GB)",
        "[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9",
        "DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes.",
        "interrupted",
    ],
)
def test_every_devices_way_to_run_out_of_memory_is_known(
    golden_model: Any, monkeypatch: pytest.MonkeyPatch, message: str, part: Any
) -> None:
    autoencoder, freed, lengths = golden_model("maf").pretransform, [], []
    plain = part.forward
    torch.manual_seed(6)
    inputs = torch.randn(1, 4, 100) if part is OobleckDecoder else torch.rand(1, 2, 100 * 512) * 2 - 1

    def short_of_memory(self: Any, piece: Tensor) -> Tensor:
        lengths.append(piece.shape[-1])
        if piece.shape[-1] == inputs.shape[-1]:
            raise RuntimeError(message)
        assert freed == [1], "memory is freed before the second try"
        return plain(self, piece)

    def work(**more: Any) -> Tensor:
        if part is OobleckDecoder:
            return autoencoder.decode(inputs, **more)
        return torch.cat(autoencoder.posterior(inputs, **more))

    with torch.no_grad():
        expected = work()
        monkeypatch.setattr(part, "forward", short_of_memory)
        if message == "interrupted":
            with pytest.raises(RuntimeError, match="interrupted"):
                work(free=lambda: freed.append(1))
            assert (len(lengths), freed) == (1, [])
        else:
            assert_close_l2(work(free=lambda: freed.append(1)), expected, 1e-5)


@pytest.mark.parametrize("chunk", [5, 100])
def test_a_decode_can_be_cancelled(chunk: int) -> None:
    def cancel() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        decode_in_chunks(
            tiny_decoder((2, 4)), torch.zeros(1, 2, 40, dtype=torch.float64), chunk, None, cancel
        )


def test_an_autoencoder_can_be_cancelled_between_pieces(golden_model: Any) -> None:
    autoencoder, calls = golden_model("maf").pretransform, []

    def second() -> None:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt

    for work in (autoencoder.decode, autoencoder.posterior):
        calls.clear()
        inputs = torch.zeros(1, 4, 150) if work == autoencoder.decode else torch.zeros(1, 2, 150 * 512)
        with pytest.raises(KeyboardInterrupt), torch.no_grad():
            work(inputs, 50, second)
        assert len(calls) == 2


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
from test_oobleck import autoencoder_config, golden_part, golden_path
from golden_cases import assert_close_l2
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
    script = COMFY_SCRIPT.format(paths=[str(path) for path in (TESTS.parent, TESTS, TESTS / "networks")])
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=comfyui_dir, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr[-3000:]


def test_a_decode_that_runs_out_of_memory_is_done_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    config = autoencoder_config(Path(__file__).parents[1] / "configs" / "AudioX-MAF.json")
    small = dataclasses.replace(
        config,
        encoder=dataclasses.replace(config.encoder, channels=2),
        decoder=dataclasses.replace(config.decoder, channels=2),
    )
    torch.manual_seed(0)
    autoencoder = Autoencoder(small)
    latents = torch.randn(2, 64, 80)
    with torch.no_grad():
        whole = autoencoder.decode(latents)
        plain, lengths = OobleckDecoder.forward, []

        def short_of_memory(self: OobleckDecoder, part: torch.Tensor) -> torch.Tensor:
            lengths.append(part.shape[-1])
            if part.shape[-1] > 60:
                raise torch.OutOfMemoryError("out of memory")
            return plain(self, part)

        monkeypatch.setattr(OobleckDecoder, "forward", short_of_memory)
        assert_close_l2(autoencoder.decode(latents), whole, 1e-4)
    assert lengths[0] == 80
    assert max(lengths[1:]) <= 60
