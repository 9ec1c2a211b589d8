"""The example workflows: both forms agree, fit the nodes, and end in an audio file."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from . import workflow_forms
from .comfy_server import EXAMPLES, PACK, VIDEO_SECONDS, ComfyServer, Prompt, files_of

pytestmark = [pytest.mark.server, pytest.mark.slow]

RATE = 16000  # of the tiny models
NATIVE_SECONDS = 10.24


@pytest.mark.parametrize("name", EXAMPLES)
def test_editor_form_and_api_form_are_one_workflow(name: str, server: ComfyServer) -> None:
    workflow = json.loads((PACK / "examples" / f"{name}.json").read_text())
    api: Prompt = json.loads((PACK / "examples" / "api" / f"{name}.json").read_text())
    converted = workflow_forms.to_api_form(workflow, server.get("/object_info"))
    assert converted == {
        node_id: {"class_type": node["class_type"], "inputs": node["inputs"]} for node_id, node in api.items()
    }


@pytest.mark.parametrize("name", EXAMPLES)
def test_values_are_within_the_bounds_and_choices(name: str, server: ComfyServer) -> None:
    info = server.get("/object_info")
    api: Prompt = json.loads((PACK / "examples" / "api" / f"{name}.json").read_text())
    for node in api.values():
        specs = workflow_forms.inputs_of(info[node["class_type"]])
        for key, value in node["inputs"].items():
            options = specs[key][1]
            if isinstance(value, int | float) and not isinstance(value, bool):
                assert options.get("min", value) <= value <= options.get("max", value), key
            if options.get("options") and not options.get("video_upload"):
                assert value in options["options"], key


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_note_says_which_model_and_which_licence(name: str) -> None:
    workflow = json.loads((PACK / "examples" / f"{name}.json").read_text())
    model = next(n for n in workflow["nodes"] if n["type"] == "AudioXLoadModel")["widgets_values"][0]
    note = next(n for n in workflow["nodes"] if n["type"] == "MarkdownNote")["widgets_values"][0]
    wanted = [f"models/audiox/{model}/", f"huggingface.co/HKUSTAudio/{model}", "accept_cc_by_nc"]
    wanted += ["google-t5/t5-base", "models/text_encoders/t5-base/"]
    wanted += ["first 10 s only", "*Save Video* fails"] if name.startswith("video") else []
    for words in wanted:
        assert words in note


def test_comfyui_offers_the_examples_as_templates(server: ComfyServer) -> None:
    templates = server.get("/api/workflow_templates")
    assert sorted(EXAMPLES) in [sorted(names) for names in templates.values()]


def test_text_becomes_sound(server: ComfyServer, example: Callable[..., Prompt]) -> None:
    entry = server.run(example("text_to_audio"))
    check_sound(server, entry, NATIVE_SECONDS)


@pytest.mark.parametrize(
    ("name", "model"), [("video_to_audio", "tiny-maf"), ("video_to_music", "tiny-mmdit")]
)
def test_a_video_gets_sound(
    name: str, model: str, server: ComfyServer, example: Callable[..., Prompt]
) -> None:
    import av

    prompt = example(name, model)
    load_video = next(node for node in prompt.values() if node["class_type"] == "LoadVideo")
    load_video["inputs"]["file"] = server.upload(server.base / "input" / "video.mp4")
    entry = server.run(prompt)
    check_sound(server, entry, VIDEO_SECONDS)
    (film,) = files_of(entry, "images")
    with av.open(io.BytesIO(server.view(film))) as container:
        assert container.streams.video[0].frames == 24 * VIDEO_SECONDS
        sound = container.decode(audio=0)
        assert max(abs(frame.to_ndarray()).max() for frame in sound) > 0.01


def check_sound(server: ComfyServer, entry: dict, seconds: float) -> None:
    """One stereo file of the right length and rate that is not silent."""
    from audiox_ext.media import read_audio

    (file,) = files_of(entry)
    waveform, rate = read_audio(io.BytesIO(server.view(file)))
    assert rate == RATE
    assert tuple(waveform.shape) == (2, round(seconds * RATE))
    assert 0.01 < waveform.abs().max() <= 1


@pytest.fixture(scope="module")
def queue_prompt(server: ComfyServer) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run examples/queue_prompt.py with these arguments against the server."""

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [
            sys.executable,
            str(PACK / "examples" / "queue_prompt.py"),
            "--server",
            server.address,
            *arguments,
        ]
        return subprocess.run(command, capture_output=True, text=True, timeout=120)

    return run


API_FORM = str(PACK / "examples" / "api" / "text_to_audio.json")


def test_queue_prompt_names_the_files(queue_prompt: Callable, server: ComfyServer) -> None:
    changes = ("1.model=tiny-turbo", "2.steps=1", "2.duration=0.5", "3.filename_prefix=queued")
    done = queue_prompt(API_FORM, *(word for change in changes for word in ("--set", change)))
    assert done.returncode == 0, done.stderr
    file = done.stdout.split()[0]
    assert file.startswith("output/queued")
    assert (server.base / Path(file)).is_file()


def test_queue_prompt_passes_on_what_the_node_says(queue_prompt: Callable) -> None:
    done = queue_prompt(API_FORM, "--set", "1.model=tiny-nc")
    assert done.returncode == 1
    assert "AudioXLoadModel (node 1) failed" in done.stderr
    assert "CC-BY-NC" in done.stderr


def test_queue_prompt_passes_on_what_the_server_says(queue_prompt: Callable) -> None:
    done = queue_prompt(API_FORM, "--set", "2.steps=-1")
    assert done.returncode == 1
    assert "refused" in done.stderr
    assert "steps" in done.stderr


def test_queue_prompt_knows_what_it_can_set(queue_prompt: Callable) -> None:
    done = queue_prompt(API_FORM, "--set", "2.stepps=1")
    assert done.returncode == 2
    assert "no input stepps" in done.stderr
