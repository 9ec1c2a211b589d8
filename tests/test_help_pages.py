"""The nodes' help pages: every node has one, with its inputs and no others, and with pictures."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
PAGES = ROOT / "web" / "docs"
LARGEST = 60_000  # bytes of a picture
DENSITY = 2  # pixels of a node's picture per pixel of the page
TEXTS = json.loads((ROOT / "locales" / "en" / "nodeDefs.json").read_text(encoding="utf-8"))


def node_ids() -> list[str]:
    """The NODES of extension.py. Each class has the name of its node."""
    tree = ast.parse((ROOT / "nodes" / "extension.py").read_text(encoding="utf-8"))
    lists = [node.value for node in tree.body if isinstance(node, ast.AnnAssign) and node.value]
    return [name.id for value in lists if isinstance(value, ast.List) for name in value.elts]


def page(node: str) -> str:
    return (PAGES / f"{node}.md").read_text(encoding="utf-8")


def explained(text: str) -> list[str]:
    """The inputs in a page's list; a list, because the help panel is too narrow for a table."""
    assert not re.search(r"^\|", text, re.MULTILINE)
    return [
        name for names in re.findall(r"^- \*\*([^*]+)\*\*:", text, re.MULTILINE) for name in names.split(", ")
    ]


def pictures(text: str) -> list[tuple[str, int | None]]:
    """Address and width of each picture of a page, in HTML and in Markdown."""
    images: list[tuple[str, int | None]] = [
        (src, None) for src in re.findall(r"!\[[^\]]*\]\(([^)\s]+)\)", text)
    ]
    for tag in re.findall(r"<img [^>]*>", text):
        attributes = dict(re.findall(r'(\w+)="([^"]*)"', tag))
        assert attributes["alt"].strip(), tag
        images.append((attributes["src"], int(attributes["width"]) if "width" in attributes else None))
    return images


NODES = node_ids()


def test_every_node_has_a_page_and_every_page_a_node() -> None:
    assert len(NODES) >= 9
    assert sorted(path.stem for path in PAGES.glob("*.md")) == sorted(NODES) == sorted(TEXTS)


@pytest.mark.parametrize("node", NODES)
def test_a_page_begins_with_the_name_in_the_menu(node: str) -> None:
    assert page(node).splitlines()[0] == f"# {TEXTS[node]['display_name']}"


@pytest.mark.parametrize("node", NODES)
def test_a_page_explains_every_input_once_and_no_other(node: str) -> None:
    assert sorted(explained(page(node))) == sorted(TEXTS[node]["inputs"])


@pytest.mark.parametrize("node", NODES)
def test_a_page_shows_its_node_twice_as_fine_as_the_screen(node: str) -> None:
    pictures_by_path = dict(pictures(page(node)))
    width = pictures_by_path.get(f"images/{node}.png")
    assert width is not None, (
        f"run python -m tools.screenshots {node}, and show images/{node}.png in the page"
    )
    with Image.open(PAGES / "images" / f"{node}.png") as picture:
        assert picture.width == DENSITY * width


@pytest.mark.parametrize("node", NODES)
def test_pictures_exist_and_are_small(node: str) -> None:
    for source, _ in pictures(page(node)):
        # The help panel puts the address of web/docs before it; GitHub takes it from the page.
        assert not source.startswith(("/", ".", "http")), source
        path = PAGES / source
        with Image.open(path) as picture:
            picture.load()
            assert picture.format == {".png": "PNG", ".jpg": "JPEG"}[path.suffix], source
        assert path.stat().st_size <= LARGEST, source


def test_no_picture_is_left_over() -> None:
    used = {source for node in NODES for source, _ in pictures(page(node))}
    assert {path.relative_to(PAGES).as_posix() for path in (PAGES / "images").iterdir()} == used
