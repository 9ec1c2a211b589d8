"""State dicts: safe reading, comparison, weight-norm folding."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from golden_cases import assert_close_l2
from safetensors.torch import save_file
from torch import nn

from audiox_ext.checkpoints.state_dict import (
    compare_keys,
    fold_weight_norm,
    read_tensors,
    rename_parametrizations,
    shapes_of,
)
from audiox_ext.errors import CheckpointError
from audiox_ext.networks.keys import published_shapes

CONVOLUTIONS = {
    "conv": lambda: nn.Conv1d(3, 5, 7),
    "transposed": lambda: nn.ConvTranspose1d(3, 5, 4, stride=2),
}


class _RunsCode:
    """Its pickle writes a file when it is loaded unsafely."""

    def __init__(self, victim: Path) -> None:
        self.victim = victim

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.victim),)


@pytest.mark.parametrize("form", ["old", "new"])
@pytest.mark.parametrize("kind", sorted(CONVOLUTIONS))
@pytest.mark.filterwarnings("ignore:.*weight_norm.*")
def test_folding_agrees_with_torch_weight_norm(kind: str, form: str) -> None:
    torch.manual_seed(1)
    normalise = nn.utils.weight_norm if form == "old" else nn.utils.parametrizations.weight_norm
    conv = normalise(CONVOLUTIONS[kind]())
    with torch.no_grad():
        for parameter in conv.parameters():
            parameter.normal_()
    x = torch.randn(2, 3, 20)
    expected = conv(x)  # the hook of the old form computes the weight here
    state = {f"layers.0.{key}": value.detach() for key, value in conv.state_dict().items()}
    folded = fold_weight_norm(state)
    assert sorted(folded) == ["layers.0.bias", "layers.0.weight"]
    plain = CONVOLUTIONS[kind]()
    plain.load_state_dict({key.removeprefix("layers.0."): value for key, value in folded.items()})
    assert_close_l2(plain(x), expected, 1e-6)


def test_folding_replaces_pairs_and_keeps_other_tensors() -> None:
    bias, half = torch.ones(2), torch.ones(2, 1, 1)
    state = {
        "a.weight_v": torch.ones(2, 1, 4),
        "a.bias": bias,
        "a.weight_g": torch.ones(2, 1, 1),
        "b.weight_g": half,
    }
    folded = fold_weight_norm(state)
    assert sorted(state) == ["a.bias", "b.weight_g"]
    assert sorted(folded) == ["a.bias", "a.weight", "b.weight_g"]
    assert folded["a.bias"] is bias
    assert folded["b.weight_g"] is half
    torch.testing.assert_close(folded["a.weight"], torch.full((2, 1, 4), 0.5))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64], ids=str)
def test_folded_weights_are_at_least_float32(dtype: torch.dtype) -> None:
    torch.manual_seed(2)
    g, v = torch.rand(4, 1, 1).to(dtype), torch.randn(4, 3, 7).to(dtype)
    weight = fold_weight_norm({"weight_g": g, "weight_v": v})["weight"]
    assert weight.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    wide = v.double()
    assert_close_l2(weight, g.double() * wide / wide.flatten(1).norm(dim=1)[:, None, None], 1e-6)


def test_a_filter_of_zeros_stays_zero() -> None:
    weight = fold_weight_norm({"weight_g": torch.ones(1, 1, 1), "weight_v": torch.zeros(1, 2, 3)})["weight"]
    assert torch.equal(weight, torch.zeros(1, 2, 3))


def test_newer_names_are_renamed() -> None:
    state = rename_parametrizations(
        {
            "a.parametrizations.weight.original0": torch.ones(2, 1, 1),
            "a.parametrizations.weight.original1": torch.ones(2, 3, 7),
            "a.bias": torch.ones(2),
        }
    )
    assert shapes_of(state) == {"a.weight_g": (2, 1, 1), "a.weight_v": (2, 3, 7), "a.bias": (2,)}


def test_published_shapes_show_pairs_buffers_and_unused_keys() -> None:
    class Part(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv1d(2, 3, 5, device="meta")
            self.conv.weight_norm = True
            self.plain = nn.Linear(2, 3, bias=False, device="meta")
            self.again = self.plain
            self.register_buffer("statistics", torch.zeros(4))
            self.register_buffer("computed", torch.zeros(4), persistent=False)

        def unused_keys(self) -> dict[str, tuple[int, ...]]:
            return {"old.weight": (7, 7)}

    assert published_shapes(nn.ModuleDict({"part": Part()})) == {
        "part.conv.weight_g": (3, 1, 1),
        "part.conv.weight_v": (3, 2, 5),
        "part.conv.bias": (3,),
        "part.plain.weight": (3, 2),
        "part.again.weight": (3, 2),
        "part.statistics": (4,),
        "part.old.weight": (7, 7),
    }


def test_equal_keys_give_an_empty_report() -> None:
    assert compare_keys({"a": (1, 2)}, {"a": (1, 2)}) == ""


def test_all_differences_are_reported() -> None:
    report = compare_keys({"b": (1,), "c": (3, 1)}, {"a": (1,), "c": (1, 3)})
    assert report.splitlines() == [
        "",
        "  missing (1): a",
        "  unexpected (1): b",
        "  wrong shape (1): c: file (3, 1), model (1, 3)",
    ]


def test_long_lists_are_shortened() -> None:
    report = compare_keys({}, {f"k{i:02}": (1,) for i in range(20)})
    assert "missing (20): k00, k01, k02, k03, k04, k05, k06, k07 and 12 more" in report


def test_optional_keys_may_be_missing_but_must_fit() -> None:
    assert compare_keys({}, {"a": (1,)}, optional={"a"}) == ""
    assert compare_keys({"a": (1,)}, {}, optional={"a"}) == ""
    assert "wrong shape (1): a" in compare_keys({"a": (1,)}, {"a": (2,)}, optional={"a"})


@pytest.mark.parametrize("nested", [None, "state_dict", "model"])
@pytest.mark.parametrize("name", ["w.ckpt", "w.pth", "w.pt"])
def test_pickles_are_read_flat_or_nested(tmp_path: Path, name: str, nested: str | None) -> None:
    state = {"a.weight": torch.arange(3.0)}
    torch.save({nested: state, "step": 7} if nested else state, tmp_path / name)
    assert torch.equal(read_tensors(tmp_path / name)["a.weight"], torch.arange(3.0))
    assert list(read_tensors(tmp_path / name)) == ["a.weight"]


def test_pickles_of_old_torch_are_read(tmp_path: Path) -> None:
    torch.save({"a": torch.arange(3.0)}, tmp_path / "w.ckpt", _use_new_zipfile_serialization=False)
    assert torch.equal(read_tensors(tmp_path / "w.ckpt")["a"], torch.arange(3.0))


@pytest.mark.parametrize("zipped", [True, False])
def test_a_malicious_pickle_does_not_run(tmp_path: Path, zipped: bool) -> None:
    victim = tmp_path / "victim"
    torch.save({"a": _RunsCode(victim)}, tmp_path / "w.ckpt", _use_new_zipfile_serialization=zipped)
    with pytest.raises(CheckpointError, match="could run code"):
        read_tensors(tmp_path / "w.ckpt")
    assert not victim.exists()


@pytest.mark.parametrize("name", ["w.safetensors", "w.ckpt"])
@pytest.mark.parametrize("keep", [0, 5, 300, -200])
def test_a_truncated_file_is_named(tmp_path: Path, name: str, keep: int) -> None:
    path = tmp_path / name
    state = {"a": torch.randn(1000)}
    if path.suffix == ".ckpt":
        torch.save(state, path)
    else:
        save_file(state, path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(CheckpointError, match=r"w\.(safetensors|ckpt).*Download it again"):
        read_tensors(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"nothing\.ckpt does not exist"):
        read_tensors(tmp_path / "nothing.ckpt")


def test_a_pickle_of_something_else_is_refused(tmp_path: Path) -> None:
    torch.save([1, 2], tmp_path / "w.ckpt")
    with pytest.raises(CheckpointError, match="contains a list, not a state dict"):
        read_tensors(tmp_path / "w.ckpt")


def test_an_old_torch_reads_no_pickles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.save({"a": torch.zeros(1)}, tmp_path / "a.ckpt")
    monkeypatch.setattr(torch, "__version__", "2.5.1+cpu")
    with pytest.raises(CheckpointError, match=r"Update torch to 2\.6"):
        read_tensors(tmp_path / "a.ckpt")
