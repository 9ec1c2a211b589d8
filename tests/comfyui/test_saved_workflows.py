"""Tests that workflows saved with version 0.1.0, in saved_workflows/, keep their meaning.

The editor assigns widget values by position, the server by name.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from . import workflow_forms
from .comfy_server import ComfyServer, Prompt, get_files

pytestmark = [pytest.mark.server, pytest.mark.slow]

SAVED = Path(__file__).with_name("saved_workflows")
NAMES = ("text_to_audio", "video_to_audio", "video_to_music")


def read(name: str) -> tuple[dict[str, Any], Prompt]:
    """Read the editor's form and the API form."""
    files = SAVED / f"{name}.json", SAVED / "api" / f"{name}.json"
    editor, api = (json.loads(file.read_text(encoding="utf-8")) for file in files)
    return editor, api


@pytest.mark.parametrize("name", NAMES)
def test_widgets_keep_their_positions(name: str, server: ComfyServer) -> None:
    info = server.get("/object_info")
    editor, api = read(name)
    pack_nodes = [node for node in editor["nodes"] if node["type"].startswith("AudioX")]
    assert pack_nodes
    for node in pack_nodes:
        keys: list[str | None] = []
        for key, (kind, options) in workflow_forms.inputs_of(info[node["type"]]).items():
            if workflow_forms.is_widget(kind):
                keys.append(key)
                keys += [None] if options.get("control_after_generate") else []
        values = node["widgets_values"]
        assigned = {key: value for key, value in zip(keys, values, strict=False) if key}
        stored = api[str(node["id"])]["inputs"]
        linked = {key for key, value in stored.items() if isinstance(value, list)}
        assert {key: value for key, value in assigned.items() if key not in linked} == {
            key: value for key, value in stored.items() if key not in linked
        }


@pytest.mark.parametrize("name", NAMES)
def test_the_api_form_still_runs(name: str, server: ComfyServer) -> None:
    _, prompt = read(name)
    for node in prompt.values():
        if node["class_type"] == "AudioXLoadModel":
            node["inputs"]["model"] = "tiny-turbo"
        if node["class_type"] == "AudioXSample":
            node["inputs"]["steps"] = 1
    assert get_files(server.run(prompt))
