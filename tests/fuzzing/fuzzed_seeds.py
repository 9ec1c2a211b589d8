"""Runs damaged files by their seed."""

from __future__ import annotations

import shutil

from case_client import CaseServer
from mutated_files import MutatedFiles


def run_seed(server: CaseServer, seed: int) -> list[str]:
    """Run a seed and delete its files. Returns what is wrong."""
    case = MutatedFiles()[seed]
    result = server.run(seed)
    shutil.rmtree(server.folder / str(seed), ignore_errors=True)
    return [f"{case}: {fault}" for fault in result.find_faults(case.pattern, case.may_work)]
