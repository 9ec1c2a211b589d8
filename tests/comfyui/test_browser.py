"""Tests of the examples in ComfyUI's real frontend, opened in a headless Chromium.

Needs Playwright and Chromium ($CHROMIUM or on the path); skipped with a message without them. Screenshots go
to $AUDIOX_SCREENSHOTS (a folder), else to pytest's temporary folder.
"""

from __future__ import annotations

import json
import os
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from . import workflow_forms
from .browser import find_missing_part, open_frontend
from .comfy_server import EXAMPLES, PACK, ComfyServer

pytestmark = [pytest.mark.server, pytest.mark.slow]

FIT = """(() => {
    const boxes = app.graph._nodes.map((node) => node.boundingRect);
    const left = Math.min(...boxes.map((b) => b[0])), top = Math.min(...boxes.map((b) => b[1]));
    const right = Math.max(...boxes.map((b) => b[0] + b[2]));
    const bottom = Math.max(...boxes.map((b) => b[1] + b[3]));
    app.canvas.ds.fitToBounds([left, top, right - left, bottom - top]);
    app.canvas.setDirty(true, true);
})()"""
NODES = """app.graph._nodes.map((node) => ({
    type: node.type,
    id: node.id,
    size: [...node.size],
    needs: node.computeSize()[1],
    box: [...node.boundingRect],
    known: node.type in LiteGraph.registered_node_types,
    wrong: Boolean(node.has_errors) || node.inputs.some((input) => input.hasErrors),
}))"""
NOTE = """(() => {
    const text = document.querySelector('.comfy-markdown .tiptap').lastElementChild;
    return text.offsetTop + text.offsetHeight <= document.querySelector('.comfy-markdown').clientHeight;
})()"""
DIALOGS = "[...document.querySelectorAll('.p-dialog, .p-toast-message')].map((element) => element.innerText)"
NEEDS_SELVA = "selva_and_audiox"
PROMPT = "app.graphToPrompt().then((prompt) => prompt.output)"


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder for screenshots."""
    folder = Path(os.environ.get("AUDIOX_SCREENSHOTS") or tmp_path_factory.mktemp("screenshots"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="module")
def views(server: ComfyServer, pictures: Path, selva_dir: Path | None) -> dict[str, dict[str, Any]]:
    """The frontend's view of each example whose nodes the server has: its nodes, dialogs and prompt."""
    missing = find_missing_part()
    if missing:
        pytest.skip(missing)
    views = {}
    with open_frontend(server.address) as page:
        for name in EXAMPLES:
            if name == NEEDS_SELVA and selva_dir is None:
                continue  # its dialog about missing nodes would stay open over the examples that follow
            workflow = (PACK / "examples" / f"{name}.json").read_text()
            page.evaluate(f"app.loadGraphData({workflow}).then(() => true)")
            page.evaluate(FIT)
            page.wait_for_timeout(800)  # the note and the video preview are drawn a little later
            page.screenshot(path=pictures / f"{name}.png")
            views[name] = {
                "nodes": page.evaluate(NODES),
                "note fits": page.evaluate(NOTE),
                "dialogs": page.evaluate(DIALOGS),
                "prompt": page.evaluate(PROMPT),
            }
    return views


@pytest.fixture
def view(name: str, views: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The frontend's view of the example `name`."""
    if name == NEEDS_SELVA and name not in views:
        pytest.skip("NO SELVA PACK: set SELVA_DIR")
    return views[name]


@pytest.mark.parametrize("name", EXAMPLES)
def test_no_node_is_missing_or_red(name: str, view: dict[str, Any], pictures: Path) -> None:
    assert {"AudioXLoadModel", "AudioXSample"} <= {node["type"] for node in view["nodes"]}
    assert [node for node in view["nodes"] if node["wrong"] or not node["known"]] == []
    assert view["dialogs"] == []
    assert (pictures / f"{name}.png").stat().st_size > 20000


@pytest.mark.parametrize("name", EXAMPLES)
def test_nodes_have_room_and_do_not_overlap(name: str, view: dict[str, Any], server: ComfyServer) -> None:
    saved = json.loads((PACK / "examples" / f"{name}.json").read_text())
    grown = workflow_forms.find_grown_nodes(server.get("/object_info"), saved)
    sizes = {str(node["id"]): node["size"] for node in saved["nodes"]}  # newer frontends' ids are strings
    for node in view["nodes"]:
        assert node["type"] in grown or node["size"] == pytest.approx(sizes[str(node["id"])], abs=1), (
            f"{node['type']} did not keep its size"
        )
        assert node["needs"] <= node["size"][1] + 1, node["type"]
    for one, other in combinations(view["nodes"], 2):
        (x, y, width, height), (left, top, across, down) = one["box"], other["box"]
        apart = x + width <= left or left + across <= x or y + height <= top or top + down <= y
        assert apart, f"{one['type']} lies over {other['type']}"
    assert view["note fits"]


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_frontend_makes_our_api_form_of_it(name: str, view: dict[str, Any]) -> None:
    api = json.loads((PACK / "examples" / "api" / f"{name}.json").read_text())
    prompt = {}
    for node_id, node in view["prompt"].items():
        inputs = node["inputs"]
        if not node["class_type"].startswith("AudioX"):
            # The frontend adds previews as widgets, and newer ComfyUI optional inputs.
            inputs = {key: value for key, value in inputs.items() if key in api[node_id]["inputs"]}
        prompt[node_id] = (node["class_type"], inputs)
    assert prompt == {node_id: (node["class_type"], node["inputs"]) for node_id, node in api.items()}
