"""Options, timing, memory peaks, operation counts and the report that the benchmarks share."""

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

Work = Callable[[], Any]
PROMPT_KINDS = ("text", "all")


def common_parser(description: str | None, *, plain: bool = True) -> argparse.ArgumentParser:
    """Make a parser with the options that most commands have.

    Args:
        description: Docstring of the command; its first line introduces the help.
        plain: Whether the command can also measure the published algorithm.

    Returns:
        The parser, ready for further options.
    """
    parser = argparse.ArgumentParser(description=(description or "").splitlines()[0])
    parser.add_argument("--model", default="AudioX-MAF", choices=NAMES, help="default AudioX-MAF")
    parser.add_argument(
        "--precision", default="fp32", choices=tuple(DTYPES), help="precision of the network (default fp32)"
    )
    add_device_options(parser)
    parser.add_argument("--repeats", type=int, default=5, help="runs, of which the median counts (default 5)")
    parser.add_argument("--output", type=Path, metavar="FILE", help="also write the report here, as JSON")
    if plain:
        parser.add_argument(
            "--plain",
            action="store_true",
            help="also measure the published algorithm with every saving off, and report the ratio",
        )
    return parser


def add_device_options(parser: argparse.ArgumentParser) -> None:
    """Add --device and --threads.

    Args:
        parser: Parser to extend.
    """
    parser.add_argument("--device", default="cpu", help="where the model runs (default cpu)")
    parser.add_argument("--threads", type=int, help="CPU threads (default: torch's choice)")


def add_license_option(parser: argparse.ArgumentParser) -> None:
    """Add --accept-cc-by-nc.

    Args:
        parser: Parser to extend.
    """
    parser.add_argument(
        "--accept-cc-by-nc", action="store_true", help="accept the licence of the published weights"
    )


def add_seconds_option(parser: argparse.ArgumentParser) -> None:
    """Add --seconds.

    Args:
        parser: Parser to extend.
    """
    parser.add_argument(
        "--seconds", type=float, default=0.0, help="duration of the sound (default: the model's own)"
    )


def parse_options(parser: argparse.ArgumentParser, arguments: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line and set the number of threads.

    Args:
        parser: Parser with `add_device_options`.
        arguments: Command-line arguments, by default those of the process.

    Returns:
        The options.
    """
    options = parser.parse_args(arguments)
    if options.threads:
        torch.set_num_threads(options.threads)
    return options


def time_runs(work: Work, options: argparse.Namespace) -> dict[str, Any]:
    """Time a function, after one warm-up run.

    Args:
        work: Function to time; its result is ignored.
        options: `repeats`, the number of timed runs, and `device`, which is synchronised after each.

    Returns:
        `median_seconds`, and `seconds` of each run.
    """
    _run_and_wait(work, options.device)
    times = []
    for _ in range(options.repeats):
        start = time.perf_counter()
        _run_and_wait(work, options.device)
        times.append(time.perf_counter() - start)
    return {"median_seconds": statistics.median(times), "seconds": times}


def _run_and_wait(work: Work, device: str) -> None:
    """Run a function and wait until the device is idle."""
    work()
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)


def count_operations(work: Work) -> int:
    """Count the multiplications and additions of matrix products, convolutions and attention.

    Args:
        work: Function whose operations are counted.

    Returns:
        The number of operations in one run.
    """
    attention = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    mapping: dict[Any, Any] = {attention: _attention}
    linear = getattr(torch.ops.mkldnn, "_linear_pointwise", None)
    if linear is not None:
        mapping[linear] = _linear
    with FlopCounterMode(display=False, custom_mapping=mapping) as counter:
        work()
    return counter.get_total_flops()


def _linear(x: Any, weight: Any, *_: Any, out_shape: Any = None, **more: Any) -> int:
    """Operations of a linear layer, from the shapes of its arguments."""
    rows = 1
    for size in x[:-1]:
        rows *= size
    return 2 * rows * weight[0] * weight[1]


def _attention(q: Any, k: Any, v: Any, *_: Any, out_shape: Any = None, **more: Any) -> int:
    """Operations of an attention, from the shapes of its arguments."""
    batch, heads, queries, width = q
    return 2 * batch * heads * queries * k[2] * (width + v[3])


def matrix_peak(device: str, dtype: torch.dtype) -> float:
    """Measure the best operation rate of a device, with a large square matrix product.

    Args:
        device: Device to measure.
        dtype: Type of the matrices.

    Returns:
        Operations per second.
    """
    size = 8192 if torch.device(device).type == "cuda" else 2048
    layer = Linear(size, size, bias=False, device=device, dtype=dtype).requires_grad_(False)
    x = torch.randn(size, size, device=device, dtype=dtype)
    options = argparse.Namespace(device=device, repeats=5)
    return 2 * size**3 / min(time_runs(lambda: layer(x), options)["seconds"])


def memory_peak(device: str) -> float:
    """Measure the memory bandwidth of a device, with a large copy.

    Args:
        device: Device to measure.

    Returns:
        Bytes per second, read and written together.
    """
    size = 2**30 if torch.device(device).type == "cuda" else 2**28
    source = torch.zeros(size, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    options = argparse.Namespace(device=device, repeats=5)
    return 2 * size / min(time_runs(lambda: target.copy_(source), options)["seconds"])


def peak_bytes() -> int:
    """Return the peak memory of this process in bytes, memory-mapped files included."""
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def print_report(name: str, options: argparse.Namespace, results: dict[str, Any]) -> dict[str, Any]:
    """Print a report as JSON, and write it to the file that --output names.

    Args:
        name: Name of the benchmark.
        options: Its options, which the report repeats.
        results: Its measurements.

    Returns:
        The whole report.
    """
    device = options.device
    on_cuda = torch.device(device).type == "cuda"
    report = {
        "benchmark": name,
        "settings": settings_of(options),
        "machine": {
            "processor": _processor_name(),
            "threads": torch.get_num_threads(),
            "gpu": torch.cuda.get_device_name(device) if on_cuda else None,
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
        **results,
    }
    if on_cuda:
        report["peak_gpu_bytes"] = torch.cuda.max_memory_allocated(device)
    text = json.dumps(report, indent=1)
    print(text)
    if options.output:
        write_text(options.output, text + "\n")
    return report


def settings_of(options: argparse.Namespace) -> dict[str, Any]:
    """Convert options for a JSON report.

    Args:
        options: Options of a command.

    Returns:
        The options by name, with paths as text.
    """
    return {key: str(value) if isinstance(value, Path) else value for key, value in vars(options).items()}


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically: a file that exists is replaced whole or not at all.

    Args:
        path: File to write.
        text: Its contents.
    """
    with write_atomically(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _processor_name() -> str:
    """Name of the CPU, with the vector extensions that matter here."""
    info = Path("/proc/cpuinfo")
    if not info.is_file():
        return platform.processor() or platform.machine()
    lines = info.read_text(encoding="utf-8").splitlines()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    flags = next((line for line in lines if line.startswith("flags")), "").split()
    extensions = [flag for flag in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if flag in flags]
    return f"{names[0] if names else platform.machine()} ({', '.join(extensions)})"
