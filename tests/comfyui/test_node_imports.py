"""Tests of which ComfyUI modules the nodes import; they read the source and need no ComfyUI."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

NODES = Path(__file__).parents[2] / "nodes"
FILES = sorted(NODES.rglob("*.py"))
PRIVATE = {"comfy", "comfy_extras", "comfy_execution", "execution", "folder_paths", "nodes", "server"}


def imported_packages(path: Path) -> Iterator[str]:
    """First part of the name of every module that a file imports absolutely, wherever in the file."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (name.name.split(".")[0] for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module.split(".")[0]


@pytest.mark.parametrize("path", FILES, ids=[path.relative_to(NODES).as_posix() for path in FILES])
def test_only_the_folder_comfy_imports_comfyuis_own_modules(path: Path) -> None:
    if NODES / "comfy" not in path.parents:
        assert PRIVATE.isdisjoint(imported_packages(path))


def test_no_node_module_assigns_global_names_from_a_function() -> None:
    statements = {
        path.relative_to(NODES).as_posix(): [
            node
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            if isinstance(node, ast.Global)
        ]
        for path in FILES
    }
    assert not any(statements.values()), statements
