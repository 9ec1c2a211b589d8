"""Memory-mapped weights: converting and releasing them, and the memory peak of loading."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from forked_runs import measure_in_copies
from safetensors.torch import save_file
from torch import Tensor, nn

from audiox_ext import devices as placement
from audiox_ext import mmap as mapped
from audiox_ext.checkpoints.pretrained import get_pretrained_model
from audiox_ext.checkpoints.state_dict import read_tensors
from audiox_ext.devices import DevicePlacement
from audiox_ext.errors import InputError
from audiox_ext.mmap import convert_tensor, release_pages
from tools.random_checkpoint import write_random_checkpoint

ROOT = Path(__file__).parent.parent
needs_pagemap = pytest.mark.skipif(mapped._system() is None, reason="pages can be asked about on Linux alone")


def file_pages() -> int:
    """Bytes of files that are resident in this process."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("RssFile"))


@pytest.fixture(params=["safetensors", "ckpt"])
def weights(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, Tensor]:
    """A file with 40 MB under the key `a`, and its content."""
    path = tmp_path / f"model.{request.param}"
    content = torch.randn(10 * 2**20, generator=torch.Generator().manual_seed(1))
    state = {"before": torch.ones(7), "a": content, "after": torch.ones(5)}
    if request.param == "ckpt":
        torch.save(state, path)
    else:
        save_file(state, path)
    return path, content


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float8_e4m3fn])
@pytest.mark.parametrize("shape", [(), (0,), (33,), (5, 7, 3)], ids=str)
def test_converting_in_slices_is_converting(
    shape: tuple[int, ...], dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mapped, "_SLICE", 8)
    tensor = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    for source in (tensor, tensor.bfloat16(), tensor.double()):
        result = convert_tensor(source, dtype)
        assert (result is source) == (source.dtype == dtype)
        assert result.shape == shape
        assert torch.equal(result.double(), source.to(dtype).double())
    turned = torch.randn(6, 9).T
    assert torch.equal(convert_tensor(turned, dtype).double(), turned.to(dtype).double())


def test_what_is_let_go_of_comes_back_and_what_was_written_stays(weights: tuple[Path, Tensor]) -> None:
    path, content = weights
    before = hashlib.sha256(path.read_bytes()).hexdigest()
    tensor = read_tensors(path)["a"]
    tensor[2**20 : 2**21] += 1
    tensor.data[5 * 2**20] = 7.0  # also past what torch counts
    expected = content.clone()
    expected[2**20 : 2**21] += 1
    expected[5 * 2**20] = 7.0
    for _ in range(2):
        release_pages(tensor)
        assert torch.equal(tensor, expected)
    assert hashlib.sha256(path.read_bytes()).hexdigest() == before


@needs_pagemap
def test_pages_leave_the_process(weights: tuple[Path, Tensor]) -> None:
    tensor = read_tensors(weights[0])["a"]
    tensor.sum()
    full = file_pages()
    release_pages(tensor)
    assert full - file_pages() > 0.9 * tensor.nbytes


@needs_pagemap
def test_converting_leaves_no_pages_behind(weights: tuple[Path, Tensor]) -> None:
    tensor = read_tensors(weights[0])["a"]
    before = file_pages()
    convert_tensor(tensor, torch.bfloat16)
    assert file_pages() - before < 0.2 * tensor.nbytes


def test_memory_that_is_in_no_file_is_left_alone() -> None:
    tensor = torch.randn(2**20, generator=torch.Generator().manual_seed(1))
    before = tensor.clone()
    release_pages(tensor)
    assert torch.equal(tensor, before)


@needs_pagemap
def test_on_the_cpu_a_part_is_let_go_of_when_another_comes(weights: tuple[Path, Tensor]) -> None:
    parts = [nn.Linear(1, 1), nn.Linear(1, 1)]
    parts[0].weight = nn.Parameter(read_tensors(weights[0])["a"])
    where = DevicePlacement("cpu")
    assert where.use("conditioner.text_prompt", parts[0], 0) == torch.device("cpu")
    parts[0].weight.sum()
    full = file_pages()
    where.use("conditioner.text_prompt", parts[0], 0)
    assert full - file_pages() < 2**20
    where.use("network", parts[1], 0)
    assert full - file_pages() > 0.9 * parts[0].weight.nbytes
    assert torch.equal(parts[0].weight, weights[1])


def test_offloaded_parts_go_back_to_what_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    # In place of a device's memory, copies on the CPU.
    monkeypatch.setattr(placement, "_copy_to", lambda tensor, device: tensor.clone())
    parts = [nn.BatchNorm1d(4), nn.Linear(4, 4)]
    places = [[t.data_ptr() for t in (*part.parameters(), *part.buffers())] for part in parts]
    where = DevicePlacement("meta", offload=True)

    def at_home(index: int) -> list[bool]:
        tensors = (*parts[index].parameters(), *parts[index].buffers())
        return [t.data_ptr() == place for t, place in zip(tensors, places[index], strict=True)]

    where.use("a", parts[0], 0)
    where.use("a", parts[0], 0)
    assert not any(at_home(0))
    parts[0].running_mean.add_(3)  # what is changed on the device is brought back
    where.use("b", parts[1], 0)
    assert at_home(0) == [True, True, False, True, True]
    assert torch.equal(parts[0].running_mean, torch.full((4,), 3.0))
    assert not any(at_home(1))
    where.free_memory(models=True)
    assert all(at_home(1))


def test_what_was_brought_before_memory_ran_out_goes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    copied: list[Tensor] = []

    def copy(tensor: Tensor, device: torch.device) -> Tensor:
        if len(copied) == 1:
            raise torch.OutOfMemoryError("out of memory")
        copied.append(tensor.clone())
        return copied[-1]

    monkeypatch.setattr(placement, "_copy_to", copy)
    part = nn.Linear(4, 4)
    places = [parameter.data_ptr() for parameter in part.parameters()]
    where = DevicePlacement("meta", offload=True)
    with pytest.raises(torch.OutOfMemoryError):
        where.use("network", part, 0)
    assert part.weight.data_ptr() == copied[0].data_ptr()
    where.free_memory(models=True)
    assert [parameter.data_ptr() for parameter in part.parameters()] == places


def test_a_network_that_does_not_fit_is_told_and_goes_back(
    golden_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from audiox_ext.pipeline.generate import generate_diffusion_cond

    model = golden_model("base")
    large = model.network.transformer.blocks()[-1].ff.ff[2].weight
    places = [weight.data_ptr() for weight in model.parameters()]

    def copy(tensor: Tensor, device: torch.device) -> Tensor:
        if tensor.data_ptr() == large.data_ptr():
            raise torch.OutOfMemoryError("CUDA out of memory")
        return tensor.clone()

    monkeypatch.setattr(placement, "_copy_to", copy)
    where = DevicePlacement("meta", offload=True)
    # Parts "on the device" are copies on the CPU, and so are their inputs.
    use = where.use
    monkeypatch.setattr(where, "use", lambda *arguments: use(*arguments) and torch.device("cpu"))
    monkeypatch.setattr(model, "placement", where)
    with pytest.raises(InputError, match=r"Memory ran out while the network was loaded\. .*lower precision"):
        generate_diffusion_cond(model, steps=2, conditioning={"text_prompt": "rain"}, seed=1)
    assert [weight.data_ptr() for weight in model.parameters()] == places


@pytest.mark.skipif(not torch.cuda.is_available(), reason="NO CUDA: offloading to a GPU was not tried")
def test_an_offloaded_run_sounds_the_same(golden_model: Any, tiny_folder: Any) -> None:
    from audiox_ext.pipeline.generate import generate_diffusion_cond

    settings: dict[str, Any] = {"steps": 2, "conditioning": {"text_prompt": "rain"}, "seed": 1}
    waves = []
    for offload in (False, True):
        model, _ = get_pretrained_model(tiny_folder("maf"), device="cuda", offload=offload)
        waves.append(generate_diffusion_cond(model, device="cuda", **settings))
    assert torch.equal(*waves)
    assert next(model.network.parameters()).device.type == "cpu"


def test_changing_loaded_weights_leaves_the_file(tiny_folder: Any) -> None:
    folder: Path = tiny_folder("maf")
    file = folder / "model.safetensors"
    before = hashlib.sha256(file.read_bytes()).hexdigest()
    model, _ = get_pretrained_model(folder)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1)
    assert hashlib.sha256(file.read_bytes()).hexdigest() == before


LOAD = """
import torch, transformers.models.t5, tokenizers, safetensors.torch  # noqa: what a load imports
from audiox_ext.checkpoints.pretrained import get_pretrained_model

def measure(folder, precision):
    before = resident("VmRSS")
    reset_peak()
    model, _ = get_pretrained_model(folder, precision=precision, accept_cc_by_nc=True)
    peak = resident("VmHWM")
    weights = {t.data_ptr(): t.nbytes for t in (*model.parameters(), *model.buffers())}
    return {"peak": peak - before, "model": sum(weights.values())}

get_pretrained_model(sys.argv[2])  # so that what comes with the first model is in memory
"""
LOADS = [
    ("ckpt", torch.float32, "fp32"),
    ("ckpt", torch.float32, "bf16"),
    ("safetensors", torch.float32, "fp16"),
    ("safetensors", torch.bfloat16, "bf16"),
    ("safetensors", torch.bfloat16, "fp32"),
]


@pytest.fixture(scope="module")
def mid_size(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """(form, dtype) -> the folder of a model of some hundred MB; written once."""
    root = tmp_path_factory.mktemp("mid")
    config = json.loads((ROOT / "tests" / "configs" / "AudioX-MAF.json").read_text(encoding="utf-8"))
    config["model"]["diffusion"]["config"]["depth"] = 2
    autoencoder = config["model"]["pretransform"]["config"]
    for half in ("encoder", "decoder"):
        autoencoder[half]["config"]["channels"] = 48
    written: dict[str, Path] = {}

    def write(form: str, dtype: torch.dtype) -> Path:
        name = f"{form}-{dtype}"
        if name not in written:
            small = {"d_ff": 64, "d_kv": 16, "num_heads": 4, "num_layers": 2}
            folder = root / name
            kind: Any = form
            written[name] = write_random_checkpoint(
                folder, config, form=kind, dtype=dtype, text_encoder=small, synchformer_depth=1
            )
        return written[name]

    return write


@pytest.fixture(scope="module")
def reports(mid_size: Any, tiny_folder: Any) -> list[dict[str, int]]:
    """What each of `LOADS` needed."""
    cases = [(str(mid_size(form, stored)), precision) for form, stored, precision in LOADS]
    return measure_in_copies(LOAD, cases, tiny_folder("maf"))


@pytest.mark.slow
@needs_pagemap
@pytest.mark.parametrize("load", LOADS, ids=lambda load: "-".join(map(str, load)).replace("torch.", ""))
def test_loading_needs_no_more_than_the_model(load: Any, reports: list[dict[str, int]]) -> None:
    report = reports[LOADS.index(load)]
    assert report["model"] > 3e8
    assert report["peak"] <= 1.15 * report["model"], report
