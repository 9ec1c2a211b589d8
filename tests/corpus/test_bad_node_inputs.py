"""Bad values for the nodes, as they come over the API, inside ComfyUI: see test_bad_inputs.py."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from bad_case import Case
from bad_inputs import list_node_cases
from case_client import CaseServer

from tools.random_checkpoint import write_tiny_checkpoint

ROOT = Path(__file__).parents[2]
CASES = list_node_cases()

pytestmark = [
    pytest.mark.server,
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="NO FORK of a loaded process: needs Linux"),
]


@pytest.fixture(scope="module")
def server(comfyui_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[CaseServer]:
    """The server that runs the cases, with this pack in a ComfyUI of its own folders."""
    base = tmp_path_factory.mktemp("base")
    for name in ("custom_nodes", "input", "output", "user"):
        (base / name).mkdir()
    (base / "custom_nodes" / "AudioX").symlink_to(ROOT)
    model = write_tiny_checkpoint(base / "models" / "audiox" / "tiny-nc")
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**config, "license": "CC-BY-NC-4.0"}))
    python = os.environ.get("COMFYUI_PYTHON", sys.executable)
    folder = tmp_path_factory.mktemp("bad_node_inputs")
    server = CaseServer(folder, comfyui_dir, base, base / "custom_nodes" / "AudioX", python=python)
    yield server
    server.stop()


@pytest.mark.parametrize(("index", "case"), list(enumerate(CASES)), ids=[str(case) for case in CASES])
def test_a_bad_node_input(server: CaseServer, index: int, case: Case) -> None:
    result = server.run(index)
    shutil.rmtree(server.folder / str(index), ignore_errors=True)
    faults = result.find_faults(case.pattern)
    assert not faults, "\n".join(faults)
