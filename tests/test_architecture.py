"""The shape of the source tree: who imports whom, and how large folders, files and functions are.

Needs neither torch nor ComfyUI. The direction of imports inside the engine is a contract of import-linter, in
pyproject.toml.
"""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("audiox_ext", "nodes", "pocket", "benchmarks", "tools")
# Folders (with their subfolders) and files within the size limits.
WITHIN_LIMITS = ("audiox_ext", "benchmarks", "nodes", "pocket", "tools", "run.py")
MODULES_PER_FOLDER, LINES_PER_FILE, LINES_PER_FUNCTION = 12, 400, 60
FOREIGN = ("comfy", "comfy_api", "comfy_execution", "comfy_extras", "execution", "folder_paths", "server")


def modules() -> dict[str, Path]:
    """All modules of the packages, by dotted name; a package has the name of its folder."""
    paths = {}
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            paths[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return paths


MODULES = modules()


def imports_of(name: str) -> Iterator[tuple[str, int]]:
    """(module, line) of all that a module imports, also in functions and under TYPE_CHECKING."""
    path = MODULES[name]
    package = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            # More dots than folders lead to the folder that holds the packages.
            base = package[: max(0, len(package) - node.level + 1)] if node.level else []
            target = ".".join([*base, *(node.module.split(".") if node.module else [])])
            for alias in node.names:
                inner = f"{target}.{alias.name}" if target else alias.name
                yield (inner if inner in MODULES else target), node.lineno


def cycle_in(graph: dict[str, set[str]]) -> list[str]:
    """The modules of one cycle, or an empty list."""
    done: set[str] = set()

    def visit(name: str, path: list[str]) -> list[str]:
        if name in path:
            return [*path[path.index(name) :], name]
        if name in done:
            return []
        for other in sorted(graph[name]):
            cycle = visit(other, [*path, name])
            if cycle:
                return cycle
        done.add(name)
        return []

    for name in sorted(graph):
        cycle = visit(name, [])
        if cycle:
            return cycle
    return []


def test_no_modules_import_each_other_in_a_cycle() -> None:
    graph = {
        name: {target for target, _ in imports_of(name) if target in MODULES and target != name}
        for name in MODULES
        # The public names of the engine come from everywhere, on first use.
        if name != "audiox_ext"
    }
    for targets in graph.values():
        targets.discard("audiox_ext")
    cycle = cycle_in(graph)
    assert not cycle, " -> ".join(cycle)


def test_a_cycle_is_found() -> None:
    assert cycle_in({"a": {"b"}, "b": {"c"}, "c": set()}) == []
    assert cycle_in({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]


def test_only_one_folder_of_the_nodes_imports_comfyui() -> None:
    allowed = {"comfy_api"}  # every node is built from it
    wrong = []
    for name in MODULES:
        if name.startswith("nodes.comfy"):
            continue
        for target, line in imports_of(name):
            first = target.split(".")[0]
            if first in FOREIGN and not (name.startswith("nodes") and first in allowed):
                wrong.append(f"{name}:{line} imports {target}")
    assert not wrong, "\n".join(wrong)


def test_no_function_assigns_module_variables() -> None:
    wrong = [
        f"{name}:{node.lineno} declares {', '.join(node.names)} global"
        for name, path in MODULES.items()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Global)
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("place", WITHIN_LIMITS)
def test_folders_files_and_functions_are_small(place: str) -> None:
    top = ROOT / place
    files = [top] if top.is_file() else sorted(top.rglob("*.py"))
    folders: dict[Path, int] = {}
    too_large = []
    for path in files:
        inside = path.relative_to(ROOT)
        text = path.read_text(encoding="utf-8")
        lines = len(text.splitlines())
        if lines > LINES_PER_FILE:
            too_large.append(f"{inside} has {lines} lines")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                length = (node.end_lineno or node.lineno) - node.lineno + 1
                if length > LINES_PER_FUNCTION:
                    too_large.append(f"{inside}: {node.name} has {length} lines")
        if path.stem not in ("__init__", "__main__"):
            folders[inside.parent] = folders.get(inside.parent, 0) + 1
    for folder, count in folders.items():
        if count > MODULES_PER_FOLDER:
            too_large.append(f"{folder} has {count} modules")
    assert not too_large, "\n".join(too_large)


def test_imports_keep_the_contracts() -> None:
    command = Path(sys.executable).with_name("lint-imports")
    lint = str(command) if command.is_file() else shutil.which("lint-imports")
    if lint is None:
        pytest.skip("NO IMPORT-LINTER here")
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([lint, "--no-cache"], capture_output=True, text=True, env=env, cwd=ROOT)
    assert done.returncode == 0, done.stdout
