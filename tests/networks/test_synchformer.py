"""Synchformer's visual branch against golden data, and its loader."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from golden_cases import assert_close_l2, frames, golden_path
from safetensors.torch import load_file, save_file
from torch import Tensor

from audiox_ext.checkpoints.encoders import (
    config_from_state,
    convert_synchformer_keys,
    load_synchformer,
)
from audiox_ext.errors import CheckpointError, ConfigError, InputError
from audiox_ext.networks.vision.synchformer import (
    DividedAttention,
    Synchformer,
    SynchformerConfig,
)

TESTS = Path(__file__).parents[1]
FILE = golden_path("synchformer/synchformer.safetensors")
TINY = SynchformerConfig(embed_dim=12, depth=2, num_heads=3, mlp_ratio=2, image_size=32)


def golden_frames() -> Tensor:
    """(1, 40, 3, 224, 224) in [-1, 1]."""
    return (frames(40, 2).float()[None] / 255 - 0.5) / 0.5


def tiny_model() -> Synchformer:
    torch.manual_seed(0)
    model = Synchformer(TINY).requires_grad_(False).eval()
    for parameter in model.parameters():
        parameter.normal_(std=0.3)
    return model


@pytest.fixture
def state() -> dict[str, Tensor]:
    return load_file(FILE)


def test_features_agree_with_the_golden_data() -> None:
    model = load_synchformer(FILE, num_heads=3, dtype=torch.float32)
    features = load_file(golden_path("synchformer/cases.safetensors"))["features"]
    assert_close_l2(model(golden_frames()), features, 1e-5)


@pytest.mark.parametrize("over", ["time", "space"])
def test_divided_attention_is_attention_under_a_mask(over: str) -> None:
    """Grouping by reshape, against plain attention over all pairs with a mask."""
    torch.manual_seed(1)
    steps, patches, heads, dim = 3, 5, 2, 8
    attention = DividedAttention(dim, heads, torch.nn).double()
    x = torch.randn(2, 1 + steps * patches, dim, dtype=torch.float64)
    place = (
        torch.arange(steps * patches) % patches
        if over == "time"
        else torch.arange(steps * patches) // patches
    )
    mask = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool)
    mask[1:, 1:] = place[:, None] == place
    q, k, v = attention.qkv(x).reshape(2, -1, 3, heads, dim // heads).permute(2, 0, 3, 1, 4)
    plain = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    expected = attention.proj(plain.transpose(1, 2).flatten(2))
    assert_close_l2(attention(x, over, steps), expected, 1e-12)


def test_the_published_size_has_122_million_parameters_and_30_segments() -> None:
    config = SynchformerConfig()
    model = Synchformer(config, device="meta")
    count = sum(parameter.numel() for parameter in model.parameters())
    # Per block two attentions and a feed-forward: 16 D^2; one plain encoder layer (12 D^2) at the end.
    assert count == pytest.approx((12 * 16 + 12) * 768**2, rel=0.02)
    assert config.segments(250) == 30
    patches = model.patches_of_frames(torch.empty(2, 16, 3, 224, 224, device="meta"))
    assert model.features_of_patches(patches).shape == (2, 8, 768)


def test_chunks_do_not_change_the_features_and_videos_do_not_meet() -> None:
    model = tiny_model()
    torch.manual_seed(2)
    videos = torch.randn(2, 43, 3, 32, 32)
    whole = model(videos, segments_per_chunk=100)
    assert whole.shape == (2, 32, 12)
    for size in (1, 3):
        assert_close_l2(model(videos, segments_per_chunk=size), whole, 1e-6)
    assert_close_l2(model(videos[1:]), whole[1:], 1e-6)


def test_a_still_tail_is_computed_once_and_gives_the_same() -> None:
    model = tiny_model()
    torch.manual_seed(3)
    video = torch.randn(1, 88, 3, 32, 32)
    video[:, 30:] = video[:, 29:30]
    calls = 0

    def count() -> None:
        nonlocal calls
        calls += 1

    features = model(video, segments_per_chunk=1, check_cancelled=count)
    assert calls == 5, f"{calls} segments computed: 4 that differ and the still one were expected"
    alone = [model(video[:, start : start + 16]) for start in range(0, 80, 8)]
    assert_close_l2(features, torch.cat(alone, dim=1), 1e-6)


def test_a_run_can_be_cancelled() -> None:
    def cancel() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tiny_model()(torch.zeros(1, 16, 3, 32, 32), check_cancelled=cancel)


@pytest.mark.parametrize(
    "shape", [(1, 15, 3, 32, 32), (1, 16, 3, 32, 30), (16, 3, 32, 32), (0, 16, 3, 32, 32)], ids=str
)
def test_frames_that_do_not_fit_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="Synchformer"):
        tiny_model()(torch.zeros(shape))


def test_sizes_that_do_not_divide_are_refused() -> None:
    with pytest.raises(ConfigError, match="embed_dim 50 is not divisible by num_heads 12"):
        SynchformerConfig(embed_dim=50)


def test_sizes_are_read_from_the_weights(state: dict[str, Tensor]) -> None:
    converted = convert_synchformer_keys(state)
    assert config_from_state(converted, num_heads=3) == SynchformerConfig(embed_dim=48, depth=2, num_heads=3)
    with pytest.raises(CheckpointError, match=r"48 wide.*num_heads"):
        config_from_state(converted)
    published = Synchformer(SynchformerConfig(), device="meta").state_dict()
    assert config_from_state(published) == SynchformerConfig()


def test_other_branches_and_the_unused_patches_are_left_out(state: dict[str, Tensor]) -> None:
    extra = {"afeat_extractor.norm.weight": torch.zeros(3), "transformer.tok": torch.zeros(3)}
    converted = convert_synchformer_keys(state | extra)
    assert "norm.weight" in converted
    assert not [key for key in converted if key.startswith(("patch_embed.", "afeat", "transformer"))]
    assert converted["spatial_attn_agg.self_attn.q.weight"].shape == (48, 48)
    assert converted["spatial_attn_agg.self_attn.kv.bias"].shape == (96,)


@pytest.mark.parametrize("nested", [None, "model", "state_dict"])
@pytest.mark.parametrize("suffix", [".pth", ".pt", ".ckpt"])
def test_pickles_load_like_safetensors(
    tmp_path: Path, state: dict[str, Tensor], suffix: str, nested: str | None
) -> None:
    path = tmp_path / f"synchformer{suffix}"
    torch.save({nested: state, "epoch": 3} if nested else state, path)
    expected = load_synchformer(FILE, num_heads=3, dtype=None).state_dict()
    actual = load_synchformer(path, num_heads=3, dtype=None).state_dict()
    assert actual.keys() == expected.keys()
    assert all(torch.equal(actual[key], expected[key]) for key in expected)


def test_the_dtype_is_the_files_or_the_requested_one() -> None:
    assert {p.dtype for p in load_synchformer(FILE, num_heads=3, dtype=None).parameters()} == {torch.float16}
    model = load_synchformer(FILE, num_heads=3, dtype=torch.bfloat16)
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
    assert not model.training
    assert not any(p.requires_grad for p in model.parameters())


def test_half_precision_stays_close() -> None:
    model = load_synchformer(FILE, num_heads=3, dtype=torch.bfloat16)
    features = load_file(golden_path("synchformer/cases.safetensors"))["features"]
    assert_close_l2(model(golden_frames().bfloat16()).float(), features, 2e-2)


def test_missing_and_misshapen_keys_are_named(tmp_path: Path, state: dict[str, Tensor]) -> None:
    del state["vfeat_extractor.blocks.1.norm3.bias"]
    state["vfeat_extractor.temporal"] = torch.zeros(1)
    state["vfeat_extractor.norm.weight"] = torch.zeros(7)
    save_file(state, tmp_path / "broken.safetensors")
    with pytest.raises(CheckpointError) as raised:
        load_synchformer(tmp_path / "broken.safetensors", num_heads=3)
    message = str(raised.value)
    assert "broken.safetensors does not fit" in message
    assert "missing (1): blocks.1.norm3.bias" in message
    assert "unexpected (1): temporal" in message
    assert "norm.weight: file (7,), model (48,)" in message


@pytest.mark.parametrize(
    ("keys", "heads"),
    [
        ({}, 3),
        ({"afeat_extractor.a": torch.zeros(1)}, 3),
        ({"vfeat_extractor.a": torch.zeros(1)}, 3),
        (None, 5),
    ],
    ids=["empty", "another branch", "another network", "wrong heads"],
)
def test_other_weights_are_refused(
    tmp_path: Path, state: dict[str, Tensor], keys: dict[str, Tensor] | None, heads: int
) -> None:
    torch.save(state if keys is None else keys, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match=r"other\.pth"):
        load_synchformer(tmp_path / "other.pth", num_heads=heads)


def test_a_truncated_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "cut.safetensors"
    path.write_bytes(FILE.read_bytes()[:5000])
    with pytest.raises(CheckpointError, match=r"cut\.safetensors.*Download it again"):
        load_synchformer(path)


class _RunsCode:
    def __init__(self, victim: Path) -> None:
        self.victim = victim

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.victim),)


def test_a_malicious_pickle_does_not_run(tmp_path: Path, state: dict[str, Tensor]) -> None:
    torch.save({**state, "payload": _RunsCode(tmp_path / "victim")}, tmp_path / "evil.pth")
    with pytest.raises(CheckpointError, match=r"evil\.pth"):
        load_synchformer(tmp_path / "evil.pth", num_heads=3)
    assert not (tmp_path / "victim").exists()


COMFY_SCRIPT = """
import sys
sys.argv = ["test", "--cpu"]
import comfy.options
comfy.options.enable_args_parsing()
import comfy.ops, torch
sys.path[:0] = {paths!r}
from audiox_ext.checkpoints.encoders import load_synchformer
from test_synchformer import FILE, golden_frames
from golden_cases import assert_close_l2
cast = load_synchformer(FILE, num_heads=3, operations=comfy.ops.manual_cast, dtype=None)
for module in cast.modules():
    if type(module).__module__ == "comfy.ops":
        assert module.comfy_cast_weights, type(module)
    elif dict(module.named_parameters(recurse=False)):
        assert type(module).__name__ in ("Synchformer", "SpatialAggregation"), type(module)
x = golden_frames()[:, :16]
with torch.inference_mode():
    # Stored in half precision, computed in the input's.
    assert_close_l2(cast(x), load_synchformer(FILE, num_heads=3, dtype=torch.float32)(x), 1e-6)
"""


@pytest.mark.slow
def test_comfyui_operations_are_accepted(comfyui_dir: Path) -> None:
    script = COMFY_SCRIPT.format(paths=[str(path) for path in (TESTS.parent, TESTS, TESTS / "networks")])
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=comfyui_dir, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr[-3000:]
