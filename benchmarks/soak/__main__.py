"""Keep a ComfyUI server busy, and report whether memory, descriptors, threads and sounds stay the same.

    python -m benchmarks.soak ~/ComfyUI --prompts 500 --output soak.json

Starts a server of its own with this pack in a temporary folder. Queues the pack's examples with few steps,
interrupts some, deletes some from the queue, changes models and LoRAs, frees memory and makes mistakes, in a
random order that --seed chooses. The same sounds are made before and after, and must be the same bytes. Exit
status: 0 if everything stays flat and equal, 1 if not. Needs Linux, and in ComfyUI's environment what this
pack needs.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from audiox_ext.checkpoints.adapters.additions import LoraLayer
from audiox_ext.checkpoints.lora_file import write_lora
from audiox_ext.checkpoints.pretrained import get_pretrained_model
from tests.comfyui.comfy_server import PACK, ComfyServer
from tests.random_loras import random_lora
from tools.random_checkpoint import write_tiny_checkpoint

from ..measuring import settings_of, write_text
from .actions import ACTIONS, LORAS, POCKET, TINY, Soak, SoakError, forget_everything, make_reference_sounds
from .readings import Reading, compare_thirds, read_process


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        arguments: Command-line arguments, by default those of the process.

    Returns:
        The exit status.
    """
    options = _parser().parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        server = ComfyServer(options.comfyui, _prepare_folder(Path(folder)), {"OMP_NUM_THREADS": "1"})
        server.python = options.python
        try:
            server.start()
            soak = Soak(server, random.Random(options.seed))
            report = _run(soak, options)
        except (SoakError, AssertionError) as error:
            print(error, file=sys.stderr)
            return 1
        finally:
            server.stop()
    text = json.dumps({"settings": settings_of(options), **report}, indent=1)
    print(text)
    if options.output:
        write_text(options.output, text + "\n")
    return 0 if report["is_flat"] and report["is_equal"] else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.soak", description=(__doc__ or "").split("\n", 1)[0]
    )
    parser.add_argument("comfyui", type=Path, help="folder of ComfyUI")
    parser.add_argument(
        "--python", default=sys.executable, help="interpreter of ComfyUI (default: the one that runs this)"
    )
    parser.add_argument("--prompts", type=int, default=500, help="prompts to queue (default 500)")
    parser.add_argument(
        "--warm-up",
        type=int,
        default=50,
        help="prompts before the first reading (default 50)",
    )
    parser.add_argument("--every", type=int, default=15, help="prompts between two readings (default 15)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the random order (default 0)")
    parser.add_argument("--output", type=Path, metavar="FILE", help="also write the report here, as JSON")
    return parser


def _prepare_folder(base: Path) -> Path:
    """Write ComfyUI's folders: the pack, a tiny second model, two LoRAs and a film."""
    ignore = shutil.ignore_patterns(".*", "__pycache__", "tests", "benchmarks")
    shutil.copytree(PACK, base / "custom_nodes" / "audiox", ignore=ignore)
    for name in ("input", "output", "user/default", "models/loras"):
        (base / name).mkdir(parents=True)
    write_tiny_checkpoint(base / "models" / "audiox" / TINY, "maf")
    model, _ = get_pretrained_model(POCKET, download=False)
    for seed, name in enumerate(LORAS):
        lora = random_lora(model, seed)
        layers = {key: layer for key, layer in lora.layers.items() if isinstance(layer, LoraLayer)}
        write_lora(base / "models" / "loras" / name, layers, lora.info)
    shutil.copy(PACK / "examples" / "pocket_film.mp4", base / "input")
    return base


def _run(soak: Soak, options: argparse.Namespace) -> dict[str, Any]:
    """Run random actions until enough prompts were queued; return the measurements."""
    started = time.monotonic()
    before = make_reference_sounds(soak)
    actions = [action for action, weight in ACTIONS for _ in range(weight)]
    readings: list[Reading] = []
    last = 0
    while soak.queued < options.prompts:
        soak.random.choice(actions)(soak)
        if soak.queued >= options.warm_up and soak.queued - last >= options.every:
            last = soak.queued
            readings.append(_read(soak))
    after = make_reference_sounds(soak)
    growth = compare_thirds(readings)
    return {
        "comfyui": soak.server.get("/system_stats")["system"]["comfyui_version"],
        "minutes": round((time.monotonic() - started) / 60, 1),
        "ends": soak.counts,
        "readings": [asdict(reading) for reading in readings],
        "growth": asdict(growth),
        "is_flat": growth.is_flat,
        "is_equal": before == after,
        "reference_sounds": len(before),
    }


def _read(soak: Soak) -> Reading:
    """Read what the server uses when it has forgotten everything, which is the same state each time."""
    forget_everything(soak)
    assert soak.server.process is not None
    return read_process(soak.server.process.pid, soak.queued)


if __name__ == "__main__":
    sys.exit(main())
