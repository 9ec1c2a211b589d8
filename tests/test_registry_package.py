"""The package in the ComfyUI registry: it has all that runs, and nothing that only developers need.

comfy-cli publishes the files that git tracks, without those that .comfyignore matches.
"""

import io
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from pathspec import PathSpec

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = {"audiox_ext", "examples", "locales", "nodes", "web"}
FILES = {
    "CHANGELOG.md",
    "LICENSE",
    "LICENSE-NOTICE.md",
    "README.md",
    "__init__.py",
    "pyproject.toml",
    "requirements.txt",
}


@pytest.fixture(scope="module")
def tracked() -> list[str]:
    """What git tracks, as paths from the root."""
    call = ["git", "-C", str(ROOT), "ls-files", "-z"]
    done = subprocess.run(call, capture_output=True)
    if done.returncode != 0:
        pytest.skip("NOT A GIT CHECKOUT: comfy-cli would publish every file in the folder")
    return [name for name in done.stdout.decode().split("\0") if name and (ROOT / name).is_file()]


@pytest.fixture(scope="module")
def published(tracked: list[str]) -> list[str]:
    """What comfy-cli would publish of it."""
    lines = (ROOT / ".comfyignore").read_text(encoding="utf-8").splitlines()
    # comfy-cli calls these patterns by their older name, "gitwildmatch"; they are the same.
    ignored = PathSpec.from_lines("gitignore", [line for line in lines if line and not line.startswith("#")])
    return [name for name in tracked if not ignored.match_file(name)]


def test_all_that_runs_is_published_and_nothing_else(tracked: list[str], published: list[str]) -> None:
    assert {name.split("/")[0] for name in published} == FOLDERS | FILES
    expected = [name for name in tracked if name.split("/")[0] in FOLDERS | FILES]
    assert published == expected


def test_the_package_is_no_larger_than_the_readme_says(published: list[str]) -> None:
    package = io.BytesIO()
    with zipfile.ZipFile(package, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in published:
            archive.write(ROOT / name, name)
    unpacked = sum((ROOT / name).stat().st_size for name in published)
    sizes = re.search(r"(\d+) MB \((\d+) MB installed\)", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert sizes is not None
    assert len(package.getvalue()) / 1e6 == pytest.approx(int(sizes[1]), abs=1.5)
    assert unpacked / 1e6 == pytest.approx(int(sizes[2]), abs=1.5)


@pytest.mark.slow
def test_every_module_of_the_package_can_be_imported_without_the_rest(
    published: list[str], tmp_path: Path
) -> None:
    for name in published:
        if name.startswith("audiox_ext/") and not name.endswith(".safetensors"):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    code = (
        "import importlib, pkgutil, audiox_ext\n"
        "for module in pkgutil.walk_packages(audiox_ext.__path__, 'audiox_ext.'):\n"
        "    if not module.name.endswith('__main__'):\n"
        "        importlib.import_module(module.name)\n"
    )
    env = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
