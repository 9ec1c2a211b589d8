"""The nodes called directly inside ComfyUI:

one child process runs all checks of child.py and checks_*.py, each is a test here.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.server, pytest.mark.slow]

CHILD = Path(__file__).with_name("child.py")
CHECKS = [
    name
    for file in (CHILD, *sorted(CHILD.parent.glob("checks_*.py")))
    for name in re.findall(r"^def (check_\w+)", file.read_text(encoding="utf-8"), flags=re.MULTILINE)
]


@pytest.fixture(scope="session")
def results(comfyui_dir: Path, base: Path) -> dict[str, str]:
    """name -> "" or the traceback of a check."""
    python = os.environ.get("COMFYUI_PYTHON", sys.executable)
    pack = next(path for path in (base / "custom_nodes").iterdir() if (path / "audiox_ext").is_dir())
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    environment.pop("AUDIOX_ACCEPT_CC_BY_NC", None)
    done = subprocess.run(
        [python, str(CHILD), str(comfyui_dir), str(base), str(pack)],
        capture_output=True,
        text=True,
        timeout=580,
        env=environment,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("check", CHECKS)
def test_in_process(check: str, results: dict[str, str]) -> None:
    assert results[check] == ""
