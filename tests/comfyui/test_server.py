"""Tests of the pack in a real ComfyUI server: registration, runs, interrupts and failures."""

from __future__ import annotations

import io
import re
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import pytest

from audiox_ext.checkpoints.catalog import DEFAULT_MODEL

from . import workflow_forms
from .comfy_server import ComfyServer, Prompt, RefusedError, get_error, get_files

pytestmark = [pytest.mark.server, pytest.mark.slow]

NODES = {
    "AudioXLoadModel": "AudioX Model Loader",
    "AudioXLoadLora": "AudioX LoRA Loader",
    "AudioXExtractFeatures": "AudioX Feature Extractor",
    "AudioXSample": "AudioX Sampler",
    "AudioXEditRegion": "AudioX Edit Region",
    "AudioXExtend": "AudioX Extend",
    "AudioXView": "AudioX View",
    "AudioXLoudness": "AudioX Loudness",
    "AudioXChooseVariation": "AudioX Choose Variation",
    "AudioXVideoSound": "AudioX Put Sound on Video",
    "AudioXTrainLora": "AudioX LoRA Trainer",
}


def complaint(server: ComfyServer, prompt: Prompt) -> str:
    """The error for a bad prompt: newer servers refuse it, in older ones the node fails."""
    try:
        return server.fail(prompt)
    except RefusedError as refusal:
        return str(refusal)


def test_the_nodes_are_there(server: ComfyServer) -> None:
    info = server.get("/object_info")
    assert {name: info[name]["display_name"] for name in NODES} == NODES
    assert {info[name]["category"] for name in NODES} == {"audio/AudioX"}
    assert "IMPORT FAILED" not in server.log


def test_selva_and_others_stay_beside(server: ComfyServer, selva_dir: Path | None) -> None:
    info = server.get("/object_info")
    assert "AudioXModelLoader" in info, "the foreign pack's node"
    if selva_dir is None:
        pytest.skip("NO SELVA PACK: set SELVA_DIR to test the two packs side by side")
    assert {"SelvaModelLoader", "SelvaFeatureExtractor", "SelvaSampler"} <= info.keys()
    assert "[SelVA] Skipping" not in server.log


def test_everything_is_explained(server: ComfyServer) -> None:
    info = server.get("/object_info")
    for name in NODES:
        assert len(info[name]["description"]) > 40
        for key, (_, options) in workflow_forms.inputs_of(info[name]).items():
            assert len(options.get("tooltip", "")) > 20, f"{name}.{key}"
        assert all(info[name]["output_tooltips"])


def test_every_node_has_a_help_page(server: ComfyServer) -> None:
    info = server.get("/object_info")
    for name in NODES:
        folder = quote(info[name]["python_module"].removeprefix("custom_nodes."))
        page = server.request(f"/extensions/{folder}/docs/{name}.md").decode()
        assert page.startswith(f"# {NODES[name]}")
        for key in workflow_forms.inputs_of(info[name]):
            assert key in page, f"{name}.{key} is not explained"


def test_every_number_has_bounds(server: ComfyServer) -> None:
    info = server.get("/object_info")
    for name in NODES:
        for key, (kind, options) in workflow_forms.inputs_of(info[name]).items():
            if kind in ("INT", "FLOAT"):
                assert options["min"] < options["max"], f"{name}.{key}"
                assert options["min"] <= options["default"] <= options["max"], f"{name}.{key}"


def test_import_is_quick(server: ComfyServer) -> None:
    # ComfyUI counts the import of its pyproject reader as the first pack's time; checks_import.py does not.
    (seconds,) = re.findall(r"([\d.]+) seconds: .*AudioX-v1\.0", server.log)
    assert float(seconds) <= 0.5


def test_local_models_come_first(server: ComfyServer) -> None:
    options = server.get("/object_info/AudioXLoadModel")["AudioXLoadModel"]["input"]["required"]["model"][1][
        "options"
    ]
    assert options[0].startswith("tiny-")
    assert options.index(DEFAULT_MODEL) == len([name for name in options if name.startswith("tiny-")])
    assert options[-1] == "AudioX-Turbo"
    assert "tiny-maf/model.safetensors" in server.get("/models/audiox")


def test_progress_is_reported_step_by_step(server: ComfyServer, example: Callable[..., Prompt]) -> None:
    with server.listen() as listener:
        server.queue(example("text_to_audio", steps=5, seed=1), listener.client_id)
        messages = listener.wait_for("execution_success", "execution_error")
    steps = [m["data"] for m in messages if m["type"] == "progress"]
    assert [(s["value"], s["max"]) for s in steps] == [(i, 5) for i in range(1, 6)]
    assert {s["node"] for s in steps} == {"2"}


def test_an_interrupt_stops_within_two_steps(server: ComfyServer, example: Callable[..., Prompt]) -> None:
    with server.listen() as listener:
        # A batch, so that a step takes longer than a message.
        prompt_id = server.queue(
            example("text_to_audio", "tiny-base", steps=500, batch=6), listener.client_id
        )
        listener.wait_for("progress")
        server.post("/interrupt", {"prompt_id": prompt_id})
        time.sleep(0.02)
        # Discard progress from before the interrupt; the end may already be among it.
        ends = ("execution_interrupted", "execution_success", "execution_error")
        ended = [message for message in listener.take_messages() if message["type"] in ends]
        rest = ended or listener.wait_for(*ends)
    assert rest[-1]["type"] == "execution_interrupted"
    assert sum(m["type"] == "progress" for m in rest) <= 2
    assert get_error(server.wait(prompt_id)).startswith("no error message")
    entry = server.run(example("text_to_audio", "tiny-base", batch=2))
    assert len(get_files(entry)) == 2


def test_an_equal_prompt_is_not_run_again(server: ComfyServer, example: Callable[..., Prompt]) -> None:
    prompt = example("video_to_audio", "tiny-maf", seed=3)
    first = server.run(prompt)
    with server.listen() as listener:
        start = time.monotonic()
        server.queue(prompt, listener.client_id)
        messages = listener.wait_for("execution_success", "execution_error")
        took = time.monotonic() - start
    (cached,) = (m["data"]["nodes"] for m in messages if m["type"] == "execution_cached")
    assert set(cached) == set(prompt), "everything comes from the cache"
    assert took < 2
    assert get_files(first)


@pytest.mark.parametrize("way", ["images", "components"])
def test_other_ways_to_bring_a_video(way: str, server: ComfyServer, example: Callable[..., Prompt]) -> None:
    prompt = example("video_to_audio", "tiny-maf")
    extractor = prompt["3"]["inputs"]
    for output_node in ("6", "7"):
        del prompt[output_node]
    prompt["6"] = {"class_type": "GetVideoComponents", "inputs": {"video": ["2", 0]}}
    if way == "components":
        prompt["9"] = {"class_type": "CreateVideo", "inputs": {"images": ["6", 0], "fps": ["6", 2]}}
        extractor["video"] = ["9", 0]
    else:
        del extractor["video"]
        extractor |= {"images": ["6", 0], "fps": 48.0}
    entry = server.run(prompt)
    from audiox_ext.media.audio_video import read_audio

    (file,) = get_files(entry)
    waveform, rate = read_audio(server.base / "output" / file["subfolder"] / file["filename"])
    assert waveform.shape[1] / rate == pytest.approx(3.0 if way == "components" else 1.5, abs=0.01)


def test_a_foreign_model_is_refused_with_a_sentence(
    server: ComfyServer, example: Callable[..., Prompt]
) -> None:
    prompt = example("text_to_audio")
    prompt["1"] = {"class_type": "AudioXModelLoader", "inputs": {}}
    message = server.fail(prompt)
    assert "holds dict" in message
    assert "another pack" in message
    assert "Connect the AudioX Model Loader of this pack" in message


def test_weights_of_unknown_licence_want_a_yes(server: ComfyServer, example: Callable[..., Prompt]) -> None:
    prompt = example("text_to_audio", "tiny-nc")
    message = server.fail(prompt)
    assert "CC-BY-NC" in message
    assert "accept_cc_by_nc" in message
    assert "SelVA" in message
    prompt["1"]["inputs"]["accept_cc_by_nc"] = True
    server.run(prompt)
    prompt["1"]["inputs"]["accept_cc_by_nc"] = False
    assert "CC-BY-NC" in server.fail(prompt), "a model in memory bypasses the licence"


def test_nothing_to_go_by_is_said(server: ComfyServer, example: Callable[..., Prompt]) -> None:
    message = server.fail(example("text_to_audio", prompt="  \n"))
    assert "Write a prompt, or connect" in message


@pytest.mark.parametrize(
    "text",
    ["rain \ud83d on a roof", "\ude00", "0-4 rain \ud83d\n4-9 wind", "\ud83d\ude00", "rain\0"],
    ids=ascii,
)
def test_half_an_emoji_in_a_prompt_is_no_obstacle(
    text: str, server: ComfyServer, example: Callable[..., Prompt]
) -> None:
    """As a client sends it that cuts texts after a number of UTF-16 units."""
    settings = {"steps": 1, "seed": 5, "negative_prompt": text if "4-9" not in text else ""}
    assert get_files(server.run(example("text_to_audio", "tiny-base", prompt=text, **settings)))
    prompt = example("text_to_audio", "tiny-base", prompt=text, **settings)
    prompt["1"]["inputs"]["model"] = text
    assert "Choose one of" in complaint(server, prompt) or "not in" in complaint(server, prompt)


@pytest.mark.parametrize(
    ("node", "name", "value", "words"),
    [
        ("1", "model", "../../../etc", "model"),
        ("1", "model", "", "model"),
        ("1", "precision", "fp64", "precision"),
        ("1", "engine", "other", "engine"),
        ("2", "sampler", "nonsense", "sampler"),
    ],
)
def test_choices_that_are_not_offered(
    node: str, name: str, value: str, words: str, server: ComfyServer, example: Callable[..., Prompt]
) -> None:
    prompt = example("text_to_audio")
    prompt[node]["inputs"][name] = value
    message = complaint(server, prompt)
    assert words in message
    assert repr(value) in message


@pytest.mark.parametrize(
    ("name", "value"), [("steps", -1), ("cfg", -0.1), ("batch", 0), ("seed", -1), ("duration", 1e6)]
)
def test_numbers_out_of_bounds(
    name: str, value: float, server: ComfyServer, example: Callable[..., Prompt]
) -> None:
    with pytest.raises(RefusedError, match=name):
        server.queue(example("text_to_audio", **{name: value}))


def test_a_duration_above_the_models_own_is_made(server: ComfyServer, example: Callable[..., Prompt]) -> None:
    from audiox_ext.media.audio_video import read_audio

    (file,) = get_files(server.run(example("text_to_audio", duration=14.5, steps=1)))
    waveform, rate = read_audio(io.BytesIO(server.view(file)))
    assert waveform.shape[-1] == 14.5 * rate
    assert "600" in complaint(server, example("text_to_audio", duration=601.0))


def test_one_clip_and_not_two_or_none(server: ComfyServer, example: Callable[..., Prompt]) -> None:
    prompt = example("video_to_audio", "tiny-maf")
    prompt["8"] = {"class_type": "GetVideoComponents", "inputs": {"video": ["2", 0]}}
    prompt["3"]["inputs"]["images"] = ["8", 0]
    assert "Both video and images" in server.fail(prompt)
    del prompt["3"]["inputs"]["images"], prompt["3"]["inputs"]["video"]
    assert "Neither video nor images" in server.fail(prompt)


def test_a_file_that_is_no_video(server: ComfyServer, example: Callable[..., Prompt], tmp_path: Path) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"not a video" * 100)
    prompt = example("video_to_audio", "tiny-maf")
    prompt["2"]["inputs"]["file"] = server.upload(broken)
    del prompt["6"], prompt["7"]
    assert "broken.mp4" in server.fail(prompt)
    server.run(example("text_to_audio", seed=77))
