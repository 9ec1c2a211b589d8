"""Kill everything that writes files at random moments, and check what is there and what the next run does.

    python -m benchmarks.kills --kills 200 --output kills.json

Each writer is run once to its end. Then it is killed (SIGKILL) again and again, at moments that --seed draws,
and run to its end afterwards. No file under a final name may be incomplete or mix two results, the next run
has to give the same bytes as the unbroken one, and no temporary file may remain. Exit status: 0 if all that
holds, 1 if not. Needs Linux and the extra "train".
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from ..measuring import settings_of, write_text
from .trials import Trial, run_killed, run_unbroken
from .writers import WRITERS, Writer, read_earlier_parts, write_materials

# Otherwise every copy of this process would import them itself, and most kills would hit the imports.
_IMPORTED_LATE = (
    "audiox_ext.checkpoints.conversion",
    "audiox_ext.pipeline.make_audio",
    "audiox_ext.training.lora_layers",
    "lightning.pytorch.loggers",
    "peft",
    "pocket.pipeline",
    "pyloudnorm",
    "scipy.signal",
    "torch.utils.tensorboard",
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        arguments: Command-line arguments, by default those of the process.

    Returns:
        The exit status.
    """
    options = _parser().parse_args(arguments)
    torch.set_num_threads(1)  # other threads do not survive a fork
    for name in _IMPORTED_LATE:
        importlib.import_module(name)
    names = options.writers.split(",") if options.writers else [writer.name for writer in WRITERS]
    writers = [writer for writer in WRITERS if writer.name in names]
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        materials = Path(folder) / "materials"
        materials.mkdir()
        _prepare(materials)
        rows = []
        for number, writer in enumerate(writers):
            kills = len(range(number, options.kills, len(writers)))
            rows.append(_try_writer(writer, materials, kills, options.seed))
            print(_describe(rows[-1]), file=sys.stderr, flush=True)
    faults = sum(len(row["faults"]) for row in rows)
    report = {
        "settings": settings_of(options),
        "minutes": round((time.monotonic() - started) / 60, 1),
        "kills": sum(row["kills"] for row in rows),
        "faults": faults,
        "writers": rows,
    }
    text = json.dumps(report, indent=1)
    print(text)
    if options.output:
        write_text(options.output, text + "\n")
    return 1 if faults else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.kills", description=(__doc__ or "").split("\n", 1)[0]
    )
    parser.add_argument("--kills", type=int, default=200, help="kills over all writers (default 200)")
    parser.add_argument("--writers", metavar="A,B", help="names of the writers to kill (default: all)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the moments (default 0)")
    parser.add_argument("--output", type=Path, metavar="FILE", help="also write the report here, as JSON")
    return parser


def _prepare(materials: Path) -> None:
    """Write the materials, in a copy of this process, because a training starts threads."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.dup2(2, 1)  # standard output is for the report
            write_materials(materials)
            read_earlier_parts(materials)
            status = 0
        finally:
            os._exit(status)
    if os.waitpid(child, 0)[1]:
        raise RuntimeError("The materials could not be written.")


def _try_writer(writer: Writer, materials: Path, kills: int, seed: int) -> dict[str, Any]:
    """Kill a writer at random moments of its run; return a row of the report."""
    reference = run_unbroken(writer, materials)
    moments = random.Random(f"{writer.name} {seed}")
    trials: list[Trial] = [
        run_killed(writer, materials, reference, moments.uniform(0, reference.seconds)) for _ in range(kills)
    ]
    return {
        "writer": writer.name,
        "seconds": round(reference.seconds, 2),
        "results": len(reference.digests),
        "kills": kills,
        "killed_while_running": sum(not trial.finished for trial in trials),
        "leftovers_after_the_kill": sum(trial.leftovers for trial in trials),
        "faults": [{"moment": trial.moment, "faults": trial.faults} for trial in trials if trial.faults],
    }


def _describe(row: dict[str, Any]) -> str:
    """Describe a row of the report in one line."""
    return (
        f"{row['writer']}: {row['kills']} kills within {row['seconds']} s, "
        f"{row['leftovers_after_the_kill']} leftovers, {len(row['faults'])} faults"
    )


if __name__ == "__main__":
    sys.exit(main())
