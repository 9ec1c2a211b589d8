"""Half of an emoji in any input of any node: the server answers, and runs the next prompt.

ComfyUI writes a node's error to its log and to the browser. A text that no encoder accepts ends the thread
that runs prompts, and nothing runs any more.
"""

from __future__ import annotations

import itertools
import os
import sys
from typing import Any

import pytest

from . import workflow_forms
from .comfy_server import ComfyServer, Prompt, RefusedError, get_error, get_files
from .test_server import NODES

pytestmark = [pytest.mark.server, pytest.mark.slow]

HALF = "half \ud83d"
_count = itertools.count(1)


def node(kind: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": kind, "inputs": inputs}


def answer(server: ComfyServer, prompt: Prompt) -> str:
    """The error of a prompt, or of the server that refuses it; "" if it runs."""
    try:
        entry = server.wait(server.queue(prompt), timeout=60)
    except RefusedError as refusal:
        return str(refusal)
    return "" if entry["status"]["status_str"] == "success" else get_error(entry)


def check_alive(server: ComfyServer) -> None:
    """Run a workflow of ComfyUI's own nodes, which is not in its cache."""
    sound = node("EmptyAudio", duration=1.0 + next(_count) / 100, sample_rate=16000, channels=2)
    save = node("SaveAudio", audio=["1", 0], filename_prefix="alive")
    assert get_files(server.run({"1": sound, "2": save}, timeout=60))
    assert "Exception in thread" not in server.log


def build_prompt(info: dict[str, Any], kind: str) -> Prompt:
    """A workflow of one node, with its defaults, a model, a sound and a film."""
    links = {"AUDIO": ["sound", 0], "VIDEO": ["film", 0], "AUDIOX_MODEL": ["loader", 0]}
    required = info["input"].get("required", {})
    inputs: dict[str, Any] = {}
    for name, (type_, options) in workflow_forms.inputs_of(info).items():
        if type_ in links:
            if name in required or name in ("audio", "video"):
                inputs[name] = links[type_]
        elif "default" in options:
            inputs[name] = options["default"]
        elif isinstance(type_, list) or "options" in options:
            inputs[name] = (type_ if isinstance(type_, list) else options["options"])[0]
    settings = {"model": "tiny-base", "precision": "auto", "engine": "native", "accept_cc_by_nc": False}
    if kind == "AudioXLoadModel":
        inputs |= settings
    if kind == "AudioXSample":
        inputs |= {"prompt": "rain", "steps": 1}
    return {
        "loader": node("AudioXLoadModel", **settings),
        "sound": node("EmptyAudio", duration=1.0, sample_rate=16000, channels=2),
        "film": node("LoadVideo", file="video.mp4"),
        "node": node(kind, **inputs),
        "show": node("PreviewAny", source=["node", 0]),
    }


@pytest.mark.parametrize("kind", NODES)
def test_half_an_emoji_in_any_input(kind: str, server: ComfyServer) -> None:
    info = server.get("/object_info")[kind]
    prompt = build_prompt(info, kind)
    widgets = [name for name, value in prompt["node"]["inputs"].items() if not isinstance(value, list)]
    for name in widgets:
        inputs = prompt["node"]["inputs"]
        message = answer(server, {**prompt, "node": node(kind, **inputs | {name: HALF})})
        message.encode()
        assert "codec can't encode" not in message, name
        check_alive(server)


@pytest.mark.skipif(sys.platform != "linux", reason="NO NAMES OF BYTES: needs Linux")
@pytest.mark.parametrize("kind", ["AudioXExtractFeatures", "AudioXVideoSound", "AudioXView"])
def test_a_damaged_film_whose_name_is_not_utf8(kind: str, server: ComfyServer) -> None:
    path = os.fsencode(server.base / "input") + b"/bad\xe9.mp4"
    with open(path, "wb") as file:
        file.write(b"no video" * 100)
    try:
        prompt = build_prompt(server.get("/object_info")[kind], kind)
        prompt["film"]["inputs"]["file"] = os.fsdecode(b"bad\xe9.mp4")
        message = answer(server, prompt)
        assert "bad" in message
        message.encode()
        check_alive(server)
    finally:
        os.remove(path)
