"""What the benchmarks share: options, timing, peaks of memory, counted operations, the report."""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from audiox_ext.files import write_atomically
from audiox_ext.networks.operations import Linear

from .models import DTYPES, NAMES


def parser(description: str | None, *, plain: bool = True) -> argparse.ArgumentParser:
    """The options that most of the commands have."""
    command = argparse.ArgumentParser(description=(description or "").splitlines()[0])
    command.add_argument("--model", default="AudioX-MAF", choices=NAMES)
    command.add_argument("--precision", default="fp32", choices=tuple(DTYPES), help="of the network")
    command.add_argument("--device", default="cpu")
    command.add_argument("--threads", type=int, help="of the processor; default what torch takes")
    command.add_argument("--repeats", type=int, default=5, help="the median of these is reported")
    command.add_argument("--output", type=Path, metavar="FILE", help="the report also goes here, as JSON")
    if plain:
        command.add_argument(
            "--plain",
            action="store_true",
            help="also the published algorithm, all savings off, and the ratio",
        )
    return command


def parse(command: argparse.ArgumentParser, arguments: list[str] | None = None) -> argparse.Namespace:
    """The options; threads are set."""
    options = command.parse_args(arguments)
    if options.threads:
        torch.set_num_threads(options.threads)
    return options


def seconds(work: Callable[[], object], options: argparse.Namespace) -> dict[str, Any]:
    """Times of `work` after one run that is not counted."""
    _finish(work, options.device)
    taken = []
    for _ in range(options.repeats):
        start = time.perf_counter()
        _finish(work, options.device)
        taken.append(time.perf_counter() - start)
    return {"median_seconds": statistics.median(taken), "seconds": taken}


def _finish(work: Callable[[], object], device: str) -> None:
    work()
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)


def operations(work: Callable[[], object]) -> int:
    """Multiplications and additions of the matrix products, convolutions and attentions in `work`."""
    attention = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    mapping: dict[Any, Any] = {attention: _attention}
    linear = getattr(torch.ops.mkldnn, "_linear_pointwise", None)
    if linear is not None:
        mapping[linear] = _linear
    with FlopCounterMode(display=False, custom_mapping=mapping) as counter:
        work()
    return counter.get_total_flops()


def _linear(x: Any, weight: Any, *_: Any, out_shape: Any = None, **more: Any) -> int:
    rows = 1
    for size in x[:-1]:
        rows *= size
    return 2 * rows * weight[0] * weight[1]


def _attention(q: Any, k: Any, v: Any, *_: Any, out_shape: Any = None, **more: Any) -> int:
    batch, heads, queries, width = q
    return 2 * batch * heads * queries * k[2] * (width + v[3])


def matrix_peak(device: str, dtype: torch.dtype) -> float:
    """Operations a second of a large square matrix product: what the device gives at best."""
    size = 8192 if torch.device(device).type == "cuda" else 2048
    layer = Linear(size, size, bias=False, device=device, dtype=dtype).requires_grad_(False)
    x = torch.randn(size, size, device=device, dtype=dtype)
    options = argparse.Namespace(device=device, repeats=5)
    return 2 * size**3 / min(seconds(lambda: layer(x), options)["seconds"])


def memory_peak(device: str) -> float:
    """Bytes a second that a large copy reads and writes."""
    size = 2**30 if torch.device(device).type == "cuda" else 2**28
    source = torch.zeros(size, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    options = argparse.Namespace(device=device, repeats=5)
    return 2 * size / min(seconds(lambda: target.copy_(source), options)["seconds"])


def peak_bytes() -> int:
    """The most memory that this process has held, files that are mapped included."""
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def report(name: str, options: argparse.Namespace, results: dict[str, Any]) -> dict[str, Any]:
    """Print the report as JSON, and write it where --output says."""
    device = options.device
    on_cuda = torch.device(device).type == "cuda"
    settings = {key: str(value) if isinstance(value, Path) else value for key, value in vars(options).items()}
    whole = {
        "benchmark": name,
        "settings": settings,
        "machine": {
            "processor": _processor(),
            "threads": torch.get_num_threads(),
            "gpu": torch.cuda.get_device_name(device) if on_cuda else None,
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
        **results,
    }
    if on_cuda:
        whole["peak_gpu_bytes"] = torch.cuda.max_memory_allocated(device)
    text = json.dumps(whole, indent=1)
    print(text)
    if options.output:
        with write_atomically(options.output) as temporary:
            temporary.write_text(text + "\n", encoding="utf-8")
    return whole


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        lines = info.read_text(encoding="utf-8").splitlines()
        names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
        flags = next((line for line in lines if line.startswith("flags")), "").split()
        known = [flag for flag in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if flag in flags]
        return f"{names[0] if names else platform.machine()} ({', '.join(known)})"
    return platform.processor() or platform.machine()
