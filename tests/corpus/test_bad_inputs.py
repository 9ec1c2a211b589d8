"""Each bad input gets its sentence within 2 s and 500 MB; nothing is written outside, and no code runs.

The inputs are in `bad_inputs`. Each runs in a copy of a process that has loaded the engine (`case_server`).
"""

from __future__ import annotations

import shutil
import sys
from collections import Counter
from collections.abc import Iterator

import pytest
from bad_case import Case
from bad_inputs import list_cases
from case_client import CaseServer

CASES = list_cases()
QUICK_STEP = 22  # every so many cases run with the quick tests

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="NO FORK of a loaded process: needs Linux")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CaseServer]:
    """The server that runs the cases."""
    server = CaseServer(tmp_path_factory.mktemp("bad_inputs"))
    yield server
    server.stop()


def check(server: CaseServer, index: int, case: Case) -> None:
    """Run a case and delete its files."""
    result = server.run(index)
    shutil.rmtree(server.folder / str(index), ignore_errors=True)
    faults = result.find_faults(case.pattern, case.may_work)
    assert not faults, "\n".join(faults)


def choose(quick: bool) -> pytest.MarkDecorator:
    """Parametrise a test with the quick cases, or with the others."""
    chosen = [(index, case) for index, case in enumerate(CASES) if (index % QUICK_STEP == 0) == quick]
    return pytest.mark.parametrize(("index", "case"), chosen, ids=[str(case) for _, case in chosen])


@choose(quick=True)
def test_a_sample_of_bad_inputs(server: CaseServer, index: int, case: Case) -> None:
    check(server, index, case)


@pytest.mark.slow
@choose(quick=False)
def test_a_bad_input(server: CaseServer, index: int, case: Case) -> None:
    check(server, index, case)


def test_the_corpus_is_large_and_varied() -> None:
    names = [str(case) for case in CASES]
    assert len(names) == len(set(names))
    kinds = Counter(case.kind for case in CASES if not case.may_work)
    assert sum(kinds.values()) >= 300
    assert len(kinds) >= 20
    assert max(kinds.values()) <= 60


# The runner itself: what it must notice.


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("a sentence", ""),
        ("another sentence", "does not match"),
        ("no error", "passed"),
        ("a bare exception", "raw: ValueError"),
        ("a slow one", "took 2"),
        ("much memory", "MB, more than"),
        ("an endless loop", "killed"),
        ("a crash", "killed"),
        ("a file outside", "forbidden: open outside"),
        ("a file outside, by the system", "was changed"),
        ("a program", "forbidden: subprocess.Popen"),
        ("a shell", "forbidden: os.system"),
        ("a connection", "forbidden: socket.connect"),
        ("torch's advice", "weights_only"),
        ("a message of 1 MB", "characters"),
    ],
)
def test_the_runner_notices(
    name: str, fault: str, self_check: CaseServer, self_check_names: list[str]
) -> None:
    result = self_check.run(self_check_names.index(name))
    faults = result.find_faults("the value is 5")
    assert any(fault in text for text in faults) if fault else not faults, faults


@pytest.fixture(scope="module")
def self_check_names() -> list[str]:
    """The names of the runner's own cases."""
    from self_check import CASES

    return [case.name for case in CASES]


@pytest.fixture(scope="module")
def self_check(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CaseServer]:
    """A server for the runner's own cases."""
    server = CaseServer(tmp_path_factory.mktemp("self_check"), cases="self")
    yield server
    server.stop()
