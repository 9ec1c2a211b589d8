"""docs/architecture.md draws the imports between the rooms as they are."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "architecture.md"
PACKAGES = ("audiox_ext", "nodes", "pocket")
# Modules at the root of the engine that share a box with others.
SHARED_BOXES = {"devices": "model"} | dict.fromkeys(
    ("config", "model_info", "errors", "files", "license", "mmap", "random_numbers", "utf8"), "base"
)


def find_room(module: list[str]) -> str | None:
    """Return the room of a module, None for the public API and the starter of the command line."""
    if module[0] != "audiox_ext":
        return module[0]
    room = module[1] if len(module) > 1 else "__init__"
    return None if room.startswith("__") else SHARED_BOXES.get(room, room)


def list_imports() -> set[tuple[str, str]]:
    """Return (room, imported room) of every import, those under TYPE_CHECKING included."""
    edges: set[tuple[str, str]] = set()
    for path in (file for package in PACKAGES for file in (ROOT / package).rglob("*.py")):
        module = list(path.relative_to(ROOT).with_suffix("").parts)
        package = ["pack", *module[:-1]]
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.ImportFrom):
                continue
            base = package[: len(package) - node.level + 1][1:] if node.level else []
            name = base + (node.module.split(".") if node.module else [])
            targets = [name] if len(name) > 1 else [[*name, alias.name] for alias in node.names]
            for target in targets:
                if target[0] not in PACKAGES:
                    continue
                start, end = find_room(module), find_room(target)
                if start and end and start != end:
                    edges.add((start, end))
    return edges


@pytest.fixture(scope="module")
def arrows() -> set[tuple[str, str]]:
    """(room, room below) of every arrow in the picture."""
    picture = re.search(r"```mermaid\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert picture is not None
    pairs = re.findall(r"^\s*([\w &]+?) --> ([\w &]+)$", picture[1], re.MULTILINE)
    return {
        (start.strip(), end.strip())
        for starts, ends in pairs
        for start in starts.split("&")
        for end in ends.split("&")
    }


def list_below(room: str, arrows: set[tuple[str, str]]) -> set[str]:
    """Return every room that the arrows lead to."""
    below: set[str] = set()
    waiting = [room]
    while waiting:
        start = waiting.pop()
        for end in (end for begin, end in arrows if begin == start):
            if end not in below:
                below.add(end)
                waiting.append(end)
    return below


def test_every_import_follows_the_arrows(arrows: set[tuple[str, str]]) -> None:
    for start, end in sorted(list_imports()):
        assert end in list_below(start, arrows), f"{start} imports {end}, to which no arrow leads"


def test_every_arrow_is_an_import(arrows: set[tuple[str, str]]) -> None:
    assert arrows <= list_imports(), f"no module imports along {sorted(arrows - list_imports())}"


def test_no_arrow_is_superfluous(arrows: set[tuple[str, str]]) -> None:
    for arrow in sorted(arrows):
        assert arrow[1] not in list_below(arrow[0], arrows - {arrow}), f"{arrow} is implied by others"
