"""Tests of the example workflows: both forms agree, fit the nodes, and write files of the right length."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from audiox_ext.checkpoints.catalog import DEFAULT_MODEL
from tools.workflows.examples import WORKFLOWS
from tools.workflows.forms import api_form, editor_form

from . import workflow_forms
from .comfy_server import EXAMPLES, PACK, VIDEO_SECONDS, ComfyServer, Prompt, get_files
from .example_inputs import FILES, LONG_SECONDS, SOUND_SECONDS, TRACK_RATE, TRACK_SECONDS

pytestmark = [pytest.mark.server, pytest.mark.slow]

RATE = 16000  # of the tiny models
NATIVE_SECONDS = 10.24
TINY = {"AudioX-Turbo": "tiny-turbo", "AudioX-MAF": "tiny-maf", DEFAULT_MODEL: DEFAULT_MODEL}
POCKET_SECONDS, FILM_SECONDS = 9.984, 9.96


@dataclass(frozen=True, kw_only=True)
class Output:
    """What an example writes: seconds of its sound file and of its video, or None."""

    sound: float | None = None
    video: float | None = None
    rate: int = RATE
    pictures: int = 1
    players: int = 0
    to_end: bool = True  # a trained model may end its sound early


OUTPUTS = {
    "audio_prompt": Output(sound=NATIVE_SECONDS),
    "continuation": Output(sound=TRACK_SECONDS + 10, rate=TRACK_RATE),
    "inpainting": Output(sound=TRACK_SECONDS, rate=TRACK_RATE),
    "long_video": Output(video=LONG_SECONDS),
    "object_mask": Output(sound=VIDEO_SECONDS, video=VIDEO_SECONDS),
    "pocket_audio_prompt": Output(to_end=False, sound=POCKET_SECONDS),
    "pocket_continuation": Output(to_end=False, sound=POCKET_SECONDS + 10),
    "pocket_inpainting": Output(to_end=False, sound=POCKET_SECONDS),
    "pocket_text_to_audio": Output(to_end=False, sound=POCKET_SECONDS, pictures=0),
    "pocket_text_to_music": Output(to_end=False, sound=POCKET_SECONDS),
    "pocket_timeline": Output(to_end=False, sound=20),
    "pocket_variation": Output(to_end=False, sound=POCKET_SECONDS, pictures=4, players=4),
    "pocket_video_to_audio": Output(to_end=False, sound=FILM_SECONDS, video=FILM_SECONDS),
    "selva_and_audiox": Output(video=VIDEO_SECONDS),
    "slideshow": Output(video=15, pictures=0),
    "text_and_video_to_audio": Output(sound=VIDEO_SECONDS, video=VIDEO_SECONDS),
    "text_and_video_to_music": Output(sound=VIDEO_SECONDS, video=VIDEO_SECONDS),
    "text_to_audio": Output(sound=NATIVE_SECONDS, pictures=0),
    "text_to_music": Output(sound=NATIVE_SECONDS),
    "timeline": Output(sound=20),
    "variation": Output(sound=SOUND_SECONDS, pictures=4, players=4),
    "video_to_audio": Output(sound=VIDEO_SECONDS, video=VIDEO_SECONDS),
    "video_to_music": Output(sound=VIDEO_SECONDS, video=VIDEO_SECONDS),
}


@pytest.fixture(scope="module")
def info(server: ComfyServer) -> workflow_forms.Info:
    return server.get("/object_info")


def saved_editor_form(name: str) -> dict[str, Any]:
    return json.loads((PACK / "examples" / f"{name}.json").read_text(encoding="utf-8"))


def saved_api_form(name: str) -> Prompt:
    return json.loads((PACK / "examples" / "api" / f"{name}.json").read_text(encoding="utf-8"))


def skip_where_nodes_are_missing(name: str, info: workflow_forms.Info) -> None:
    missing = {node["class_type"] for node in saved_api_form(name).values()} - info.keys()
    assert not {kind for kind in missing if not kind.startswith("Selva")}
    if missing:
        pytest.skip(f"NO SELVA PACK: {', '.join(sorted(missing))}; set SELVA_DIR")


def test_every_example_is_described_and_tested() -> None:
    assert set(EXAMPLES) == {workflow.name for workflow in WORKFLOWS} == set(OUTPUTS)


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda workflow: workflow.name)
def test_the_files_are_what_their_descriptions_give(workflow: Any, info: workflow_forms.Info) -> None:
    skip_where_nodes_are_missing(workflow.name, info)
    advice = "run: python -m tools.workflows http://127.0.0.1:8188"
    saved = saved_editor_form(workflow.name)
    info = workflow_forms.forget_additions(info, saved)
    assert editor_form(workflow, info) == saved, advice
    assert api_form(workflow, info) == saved_api_form(workflow.name), advice


@pytest.mark.parametrize("name", EXAMPLES)
def test_editor_form_and_api_form_are_one_workflow(name: str, info: workflow_forms.Info) -> None:
    skip_where_nodes_are_missing(name, info)
    saved = saved_editor_form(name)
    converted = workflow_forms.to_api_form(saved, workflow_forms.forget_additions(info, saved))
    assert converted == {
        node_id: {"class_type": node["class_type"], "inputs": node["inputs"]}
        for node_id, node in saved_api_form(name).items()
    }


@pytest.mark.parametrize("name", EXAMPLES)
def test_values_are_within_the_bounds_and_choices(name: str, info: workflow_forms.Info) -> None:
    skip_where_nodes_are_missing(name, info)
    for node in saved_api_form(name).values():
        specs = workflow_forms.inputs_of(info[node["class_type"]])
        for key, value in node["inputs"].items():
            kind, options = specs[key]
            if isinstance(value, int | float) and not isinstance(value, bool):
                assert options.get("min", value) <= value <= options.get("max", value), key
            if any(options.get(f"{what}_upload") for what in ("image", "video", "audio")):
                assert value in FILES, key
            elif not isinstance(value, list) and (isinstance(kind, list) or options.get("options")):
                assert value in (kind if isinstance(kind, list) else options["options"]), key


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_note_says_which_model_and_which_licence(name: str) -> None:
    workflow = saved_editor_form(name)
    model = next(n for n in workflow["nodes"] if n["type"] == "AudioXLoadModel")["widgets_values"][0]
    note = next(n for n in workflow["nodes"] if n["type"] == "MarkdownNote")["widgets_values"][0]
    assert (model == DEFAULT_MODEL) == name.startswith("pocket_")
    expected_words = [
        f"models/audiox/{model}/",
        f"huggingface.co/HKUSTAudio/{model}",
        "accept_cc_by_nc",
        "CC-BY-NC",
    ]
    expected_words += ["google-t5/t5-base", "models/text_encoders/t5-base/"]
    if model == DEFAULT_MODEL:
        expected_words = [
            model,
            "part of this pack",
            "MIT",
            "accept_cc_by_nc",
            f"*{name.removeprefix('pocket_')}*",
        ]
    for words in expected_words:
        assert words in note


@pytest.mark.parametrize("name", EXAMPLES)
def test_groups_hold_their_nodes_whole_and_no_others(name: str) -> None:
    workflow = saved_editor_form(name)
    title = 30  # is drawn above a node's position
    for group in workflow["groups"]:
        left, top, width, height = group["bounding"]
        node_count = 0
        for node in workflow["nodes"]:
            (x, y), (across, down) = node["pos"], node["size"]
            apart = x >= left + width or x + across <= left or y - title >= top + height or y + down <= top
            inside = left < x and x + across < left + width and top < y - title and y + down < top + height
            assert inside or apart, f"{node['type']} lies across the border of {group['title']}"
            node_count += inside
        assert node_count, f"{group['title']} is empty"


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_example_has_a_small_picture(name: str) -> None:
    path = PACK / "examples" / f"{name}.jpg"
    assert path.stat().st_size <= 40_000
    with Image.open(path) as picture:
        assert picture.format == "JPEG"
        assert picture.size == (480, 300)


def test_comfyui_offers_the_examples_as_templates(server: ComfyServer) -> None:
    templates = server.get("/api/workflow_templates")
    assert sorted(EXAMPLES) in [sorted(names) for names in templates.values()]
    folder = next(folder for folder, names in templates.items() if sorted(names) == sorted(EXAMPLES))
    assert server.request(f"/api/workflow_templates/{folder}/timeline.jpg").startswith(b"\xff\xd8")


@pytest.mark.parametrize("name", EXAMPLES)
def test_it_runs_to_files_of_the_right_length(name: str, server: ComfyServer) -> None:
    output = OUTPUTS[name]
    entry = server.run(for_tiny_models(saved_api_form(name)), timeout=300)
    files = [file for kind in ("audio", "images") for file in get_files(entry, kind)]
    players = [file for file in files if file["filename"].endswith(".flac")]
    sounds = [file for file in players if file["type"] == "output"]
    films = [file for file in files if file["filename"].endswith(".mp4")]
    assert (len(sounds), len(films)) == (output.sound is not None, output.video is not None)
    assert len(files) - len(players) - len(films) == output.pictures
    assert len(players) - len(sounds) == output.players
    if output.sound is not None:
        check_sound(server.view(sounds[0]), output.sound, output.rate, output.to_end)
    if name == "inpainting":
        check_regions(server.view(sounds[0]), server.base / "input" / "track.wav")
    if output.video is not None:
        check_film(server.view(films[0]), output.video, output.to_end)


def for_tiny_models(prompt: Prompt) -> Prompt:
    """Replace the models by tiny ones, SelVA's nodes by stand-ins, and the steps by few."""
    steps = 2
    for node in prompt.values():
        if node["inputs"].get("model") == DEFAULT_MODEL:
            steps = 20  # with fewer it may be silent
    for node in prompt.values():
        kind, inputs = node["class_type"], node["inputs"]
        if kind == "AudioXLoadModel":
            inputs["model"] = TINY[inputs["model"]]
        elif kind == "AudioXSample":
            inputs["steps"] = steps
        elif kind.startswith("Selva"):
            node["class_type"] = f"StandIn{kind}"
    return prompt


def check_sound(file: bytes, seconds: float, rate: int, to_end: bool) -> None:
    """Check length and rate of a stereo file, and that it, and with `to_end` its end, is not silent."""
    from audiox_ext.media.audio_video import read_audio

    waveform, file_rate = read_audio(io.BytesIO(file))
    assert file_rate == rate
    assert tuple(waveform.shape) == (2, round(seconds * rate))
    assert 0.01 < waveform.abs().max() <= 1
    assert not to_end or waveform[:, -rate:].abs().max() > 0.003


def check_film(file: bytes, seconds: float, to_end: bool) -> None:
    """Check the length of a video and its sound; `to_end`: and that its end is not silent."""
    import av
    import numpy as np

    with av.open(io.BytesIO(file)) as container:
        pictures = container.streams.video[0]
        assert float(pictures.duration * pictures.time_base) == pytest.approx(seconds, abs=0.05)
        frames = [frame.to_ndarray() for frame in container.decode(audio=0)]
        sound, rate = np.concatenate(frames, axis=1), container.streams.audio[0].rate
    assert sound.shape[1] / rate == pytest.approx(seconds, abs=0.1)
    assert abs(sound[:, -rate if to_end else 0 :]).max() > 0.003


def check_regions(file: bytes, source: Path) -> None:
    """Check that the track has changed in its two regions and nowhere else."""
    from audiox_ext.media.audio_video import read_audio

    edited, _ = read_audio(io.BytesIO(file))
    track, _ = read_audio(source)
    changed = (edited - track).abs() > 1e-4
    for start, end in ((1.5, 3.0), (5.0, 6.5)):
        part = slice(round((start + 0.1) * TRACK_RATE), round((end - 0.1) * TRACK_RATE))
        assert changed[:, part].float().mean() > 0.9
        changed[:, round(start * TRACK_RATE) : round(end * TRACK_RATE)] = False
    assert not changed.any()


def test_the_stand_ins_have_the_inputs_and_outputs_of_selvas_nodes(info: workflow_forms.Info) -> None:
    names = ("SelvaModelLoader", "SelvaFeatureExtractor", "SelvaSampler")
    if names[0] not in info:
        pytest.skip("NO SELVA PACK: set SELVA_DIR")
    for name in names:
        real, stand_in = info[name], info[f"StandIn{name}"]
        assert stand_in["input_order"] == real["input_order"]
        kinds = [
            {key: kind for key, (kind, _) in workflow_forms.inputs_of(n).items()} for n in (real, stand_in)
        ]
        assert kinds[0] == kinds[1]
        assert (stand_in["output"], stand_in["output_name"]) == (real["output"], real["output_name"])


def test_a_server_with_selva_accepts_the_example_that_uses_it(
    server: ComfyServer, info: workflow_forms.Info
) -> None:
    skip_where_nodes_are_missing("selva_and_audiox", info)
    entry = server.wait(server.queue(saved_api_form("selva_and_audiox")))
    kinds = [data["node_type"] for kind, data in entry["status"]["messages"] if kind == "execution_error"]
    assert kinds in (["SelvaModelLoader"], ["AudioXLoadModel"]), "checked, and as far as weights are there"


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
    process = queue_prompt(API_FORM, *(word for change in changes for word in ("--set", change)))
    assert process.returncode == 0, process.stderr
    file = process.stdout.split()[0]
    assert file.startswith("output/queued")
    assert (server.base / Path(file)).is_file()


def test_queue_prompt_passes_on_what_the_node_says(queue_prompt: Callable) -> None:
    process = queue_prompt(API_FORM, "--set", "1.model=tiny-nc")
    assert process.returncode == 1
    assert "AudioXLoadModel (node 1) failed" in process.stderr
    assert "CC-BY-NC" in process.stderr


def test_queue_prompt_passes_on_what_the_server_says(queue_prompt: Callable) -> None:
    process = queue_prompt(API_FORM, "--set", "2.steps=-1")
    assert process.returncode == 1
    assert "refused" in process.stderr
    assert "steps" in process.stderr


def test_queue_prompt_knows_what_it_can_set(queue_prompt: Callable) -> None:
    process = queue_prompt(API_FORM, "--set", "2.stepps=1")
    assert process.returncode == 2
    assert "no input stepps" in process.stderr
