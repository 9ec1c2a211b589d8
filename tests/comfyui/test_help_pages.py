"""Tests that the server has the help pages and their pictures at the addresses that the editor requests."""

from __future__ import annotations

import io
import re

import pytest
from PIL import Image

from .comfy_server import PACK, ComfyServer, RefusedError

pytestmark = [pytest.mark.server, pytest.mark.slow]

PAGES = PACK / "web" / "docs"
NODES = sorted(path.stem for path in PAGES.glob("*.md"))


def address(server: ComfyServer, node: str) -> str:
    """Where the editor looks for help, derived from the node's module as the editor does.

    There is one difference: the editor cuts a folder's name at a dot, and so finds no help in such a folder.
    """
    module = server.get(f"/object_info/{node}")[node]["python_module"]
    assert module.startswith("custom_nodes.")
    return f"/extensions/{module.removeprefix('custom_nodes.')}/docs"


@pytest.mark.parametrize("node", NODES)
def test_the_page_and_its_pictures_are_served(node: str, server: ComfyServer) -> None:
    docs = address(server, node)
    page = server.request(f"{docs}/{node}.md").decode()
    assert page == (PAGES / f"{node}.md").read_text(encoding="utf-8")
    sources = re.findall(r'<img src="([^"]+)"', page)
    assert f"images/{node}.png" in sources
    for source in sources:
        Image.open(io.BytesIO(server.request(f"{docs}/{source}"))).verify()


def test_a_page_in_another_language_is_not_there_so_that_the_english_one_is_taken(
    server: ComfyServer,
) -> None:
    with pytest.raises(RefusedError, match="404"):
        server.request(f"{address(server, 'AudioXView')}/AudioXView/en.md")
