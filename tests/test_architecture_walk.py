"""The walks of docs/architecture.md, from a prompt or a video frame to the network, match the code."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
WALKS = {
    "How a prompt reaches the network": "audiox_ext/sampling/guidance.py",
    "How a video frame reaches the network": "audiox_ext/networks/vision/temporal.py",
}
ROW = re.compile(r"^\| `([\w/.]+)` \| (?:`([\w/.]+)`|ComfyUI) \|", re.MULTILINE)


def walk(title: str) -> list[tuple[str, str]]:
    """(file, its caller or "" for ComfyUI) of each row."""
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    section = page.split(f"## {title}\n", 1)[1].split("\n## ", 1)[0]
    return ROW.findall(section)


def imported_files(path: str) -> set[str]:
    """The files that a module imports by relative imports, anywhere in the module."""
    folder = (ROOT / path).parent
    files = set()
    for node in ast.walk(ast.parse((ROOT / path).read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = folder
            for _ in range(node.level - 1):
                base = base.parent
            module = base.joinpath(*(node.module or "").split("."))
            names = [module.with_suffix(".py"), *(module / f"{alias.name}.py" for alias in node.names)]
            files |= {file.relative_to(ROOT).as_posix() for file in names if file.is_file()}
    return files


@pytest.mark.parametrize("title", WALKS)
def test_each_file_is_imported_by_its_caller(title: str) -> None:
    rows = walk(title)
    assert rows[-1][0] == WALKS[title]
    for file, caller in rows:
        assert (ROOT / file).is_file(), file
        if caller:
            assert file in imported_files(caller), f"{caller} does not import {file}"


@pytest.mark.parametrize("title", WALKS)
def test_each_caller_stands_before_its_file(title: str) -> None:
    reached = {"", "nodes/audiox_sampler.py"}  # ComfyUI calls the nodes
    for file, caller in walk(title):
        assert caller in reached, f"{caller} stands after {file}"
        reached.add(file)


def test_a_prompt_passes_at_most_ten_files() -> None:
    files = {file for file, _ in walk("How a prompt reaches the network")}
    assert 5 < len(files) <= 10


def test_guidance_calls_the_network() -> None:
    assert "audiox_ext/model.py" in imported_files("audiox_ext/sampling/guidance.py")  # for its type
    assert "audiox_ext/networks/dit.py" in imported_files("audiox_ext/model.py")
