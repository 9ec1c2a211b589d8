"""Files with random damage are used, or refused with a sentence, within 2 s and 500 MB; nothing crashes.

Some 200 seeds run here. `python -m tests.fuzzing` runs any number, and repeats a seed that failed.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "corpus"))

from case_client import CaseServer
from fuzzed_seeds import run_seed
from mutated_files import TARGETS, damage

ROUNDS = 7  # of all kinds of files
# Seeds that once gave a bare exception or took too much: a rate, sizes, a cut GIF, an index of an AVI.
FOUND_SEEDS = (5220, 5707, 5868, 5925)

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="NO FORK of a loaded process: needs Linux")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CaseServer]:
    """The server that runs the seeds."""
    server = CaseServer(tmp_path_factory.mktemp("mutations"), cases="mutations")
    yield server
    server.stop()


@pytest.mark.slow
@pytest.mark.parametrize("target", range(len(TARGETS)), ids=[source for source, *_ in TARGETS])
def test_damaged_files(server: CaseServer, target: int) -> None:
    seeds = range(target, ROUNDS * len(TARGETS), len(TARGETS))
    faults = [fault for seed in seeds for fault in run_seed(server, seed)]
    assert not faults, "\n".join(faults)


@pytest.mark.slow
@pytest.mark.parametrize("seed", FOUND_SEEDS)
def test_damage_that_once_was_not_noticed(server: CaseServer, seed: int) -> None:
    faults = run_seed(server, seed)
    assert not faults, "\n".join(faults)


def test_a_seed_makes_the_same_damage() -> None:
    data = bytes(range(256)) * 100
    assert damage(data, 5) == damage(data, 5)
    assert len({damage(data, seed) for seed in range(50)}) > 40
