"""Tests of the nodes inside ComfyUI: run_checks.py runs all checks in one process; each is a test here."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from .run_checks import list_modules

pytestmark = [pytest.mark.server, pytest.mark.slow]

SCRIPT = Path(__file__).with_name("run_checks.py")
CHECKS = [
    name
    for module in list_modules()
    for name in re.findall(
        r"^def (check_\w+)",
        SCRIPT.with_name(f"{module}.py").read_text(encoding="utf-8"),
        flags=re.MULTILINE,
    )
]


@pytest.fixture(scope="session")
def results(comfyui_dir: Path, base: Path) -> dict[str, str]:
    """Return "" or a traceback for each check."""
    python = os.environ.get("COMFYUI_PYTHON", sys.executable)
    pack = next(path for path in (base / "custom_nodes").iterdir() if (path / "audiox_ext").is_dir())
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    environment.pop("AUDIOX_ACCEPT_CC_BY_NC", None)
    process = subprocess.run(
        [python, str(SCRIPT), str(comfyui_dir), str(base), str(pack)],
        capture_output=True,
        text=True,
        timeout=580,
        env=environment,
    )
    assert process.returncode == 0, process.stderr[-4000:]
    return json.loads(process.stdout.splitlines()[-1])


@pytest.mark.parametrize("check", CHECKS)
def test_in_process(check: str, results: dict[str, str]) -> None:
    assert results[check] == ""
