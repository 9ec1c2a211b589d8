"""Damages files at random for as long as you like. Needs Linux.

    python -m tests.fuzzing --seconds 3600 --first-seed 100000
    python -m tests.fuzzing --first-seed 123456 --count 1

Each fault is printed with its seed; the second form repeats one. For the parsers:

    AUDIOX_FUZZ_EXAMPLES=20000 python -m pytest tests/fuzzing/test_fuzzed_parsers.py
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS / "fuzzing"), str(TESTS / "corpus"), str(TESTS), str(TESTS.parent)]


def main() -> int:
    """Run seeds until the time or their number is over. Returns 1 if there were faults."""
    from case_client import CaseServer
    from fuzzed_seeds import run_seed

    parser = argparse.ArgumentParser(prog="python -m tests.fuzzing", description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=600.0, help="how long to run (default: 600)")
    parser.add_argument("--first-seed", type=int, default=1000, help="the first seed (default: 1000)")
    parser.add_argument("--count", type=int, default=10**9, help="how many seeds (default: no limit)")
    options = parser.parse_args()
    faults = 0
    with tempfile.TemporaryDirectory() as folder:
        server = CaseServer(Path(folder), cases="mutations")
        end, seed = time.monotonic() + options.seconds, options.first_seed
        while seed < options.first_seed + options.count and time.monotonic() < end:
            for fault in run_seed(server, seed):
                faults += 1
                sys.stdout.write(f"{fault}\n")
                sys.stdout.flush()
            seed += 1
        server.stop()
    sys.stdout.write(f"{seed - options.first_seed} damaged files, {faults} faults\n")
    return int(faults > 0)


if __name__ == "__main__":
    sys.exit(main())
