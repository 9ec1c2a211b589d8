"""Runs the checks in ComfyUI's own process; test_in_process.py starts it with ComfyUI's interpreter.

    python run_checks.py <ComfyUI checkout> <base directory> <pack folder> [<check> ...]

It calls every function named check_* in the modules checks_*.py, or those named on the command line. Its last
line of output is JSON: the name of each check, and "" or a traceback.
"""

from __future__ import annotations

import importlib
import json
import sys
import time
import traceback
from pathlib import Path

FOLDER = Path(__file__).parent
FIRST = "checks_import"  # it loads the pack, which the others need


def list_modules() -> list[str]:
    """The names of all modules with checks, in the order in which they run."""
    return sorted((path.stem for path in FOLDER.glob("checks_*.py")), key=lambda name: (name != FIRST, name))


def main() -> None:
    """Run the checks and print their results."""
    names = sys.argv[4:]
    results = {}
    for module_name in list_modules():
        module = importlib.import_module(module_name)
        for name, check in list(vars(module).items()):
            # The import check is needed to load the pack.
            if not name.startswith("check_") or (names and module_name != FIRST and name not in names):
                continue
            start = time.monotonic()
            try:
                check()
                results[name] = ""
            except BaseException:
                results[name] = traceback.format_exc()
            sys.stderr.write(f"{time.monotonic() - start:6.1f} s {name}\n")
    sys.stdout.write("\n" + json.dumps(results) + "\n")


if __name__ == "__main__":
    main()
