"""Measurements of memory in processes that start at once: copies of one that has imported all they need."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
HEAD = """
import json, os, sys

def resident(name):
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))

def reset_peak():
    open("/proc/self/clear_refs", "w").write("5")
"""
LOOP = """
for case in json.loads(sys.argv[1]):
    # A process for each, because memory that was freed is used again.
    if os.fork() == 0:
        try:
            print(json.dumps(measure(*case)), flush=True)
        finally:
            os._exit(0)
    os.wait()
"""


def measure_in_copies(
    script: str, cases: Iterable[Sequence[Any]], *arguments: object, exact: bool = False
) -> list[Any]:
    """Call a script's `measure` once per case, each time in a copy of the process. Needs Linux.

    Args:
        script: Defines `measure`, which returns what JSON can hold. `resident("VmRSS")` is bytes in memory,
            `resident("VmHWM")` their peak since `reset_peak()`.
        cases: The arguments of each call, as JSON can hold them.
        *arguments: sys.argv[2] and following.
        exact: Whether glibc returns freed memory immediately. Peaks are then equal each time, because they do
            not depend on the gaps that earlier tensors left; but everything takes longer.

    Returns:
        The result of each call.
    """
    listed = [list(case) for case in cases]
    command = [sys.executable, "-c", HEAD + script + LOOP, json.dumps(listed), *map(str, arguments)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}  # threads do not survive a fork
    if exact:
        environment |= {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, env=environment)
    lines = done.stdout.splitlines()
    assert len(lines) == len(listed), done.stderr[-3000:]
    return [json.loads(line) for line in lines]
