"""Tests beside the real Video Helper Suite ($VHS_DIR): its sounds and images here, our sound in its files."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import av
import pytest
import torch

from audiox_ext.media.audio_video import read_audio, write_audio

from .comfy_server import ComfyServer, Prompt, get_error, get_failed_node, get_files

pytestmark = [pytest.mark.server, pytest.mark.slow]

RATE = 44100
LOADERS = {
    "Load Video (Upload)": ("VHS_LoadVideo", 2, {"skip_first_frames": 0, "select_every_nth": 1}),
    "Load Video (Path)": ("VHS_LoadVideoPath", 2, {"skip_first_frames": 0, "select_every_nth": 1}),
    "Load Video FFmpeg (Upload)": ("VHS_LoadVideoFFmpeg", 2, {"start_time": 0.0}),
    "Load Audio (Upload)": ("VHS_LoadAudioUpload", 0, {}),
    "Load Audio (Path)": ("VHS_LoadAudio", 0, {}),
}
AUDIO_INPUTS = (
    "AudioXSample.audio_prompt",
    "AudioXSample.init_audio",
    "AudioXEditRegion.audio",
    "AudioXExtend.audio",
    "AudioXView.audio",
    "AudioXLoudness.audio",
    "AudioXChooseVariation.audio",
    "AudioXVideoSound.audio",
)


@pytest.fixture
def suite(vhs_dir: Path | None, server: ComfyServer) -> ComfyServer:
    """A server with Video Helper Suite; the tests are skipped without it."""
    if vhs_dir is None:
        pytest.skip(
            "NO VIDEO HELPER SUITE: set VHS_DIR, and install opencv-python-headless and imageio-ffmpeg"
        )
    assert "VHS_LoadVideo" in server.get("/object_info"), server.log[-3000:]
    return server


def sweep(seconds: float) -> torch.Tensor:
    """(1, S), in which every position can be recognised."""
    time = torch.arange(round(seconds * RATE), dtype=torch.float64) / RATE
    return 0.5 * torch.sin(2 * math.pi * (200 + 300 * time) * time).float()[None]


def load(server: ComfyServer, name: str, **changes: Any) -> dict[str, Any]:
    """A loader of the suite for input/video.mp4 or, for its audio loaders, the sound in input/sweep.wav."""
    kind, _, settings = LOADERS[name]
    is_video = "Video" in name
    file = "video.mp4" if is_video else "sweep.wav"
    if not is_video and not (server.base / "input" / file).is_file():
        write_audio(server.base / "input" / file, sweep(2.0), RATE)
    where = str(server.base / "input" / file) if name.endswith("(Path)") else file
    inputs = {"video": where} if is_video else {"audio_file" if kind == "VHS_LoadAudio" else "audio": where}
    if is_video:
        sizes = {"force_rate": 0, "custom_width": 0, "custom_height": 0, "frame_load_cap": 0}
        inputs |= {**sizes, "format": "None"}
    return {"class_type": kind, "inputs": inputs | settings | changes}


def give_to(input_name: str, source: list[Any]) -> Prompt:
    """Nodes that run our node with a sound from `source` to its end."""
    kind, key = input_name.split(".")
    sampler = {"model": ["1", 0], "prompt": "rain", "negative_prompt": "", "duration": 1.0, "steps": 1}
    sampler |= {"cfg": 0.0, "sampler": "default", "sigma_min": 0.0, "sigma_max": 0.0, "seed": 1, "batch": 1}
    save = {"class_type": "SaveAudio", "inputs": {"audio": ["2", 0], "filename_prefix": "audio/vhs"}}
    nodes: Prompt = {
        "1": {
            "class_type": "AudioXLoadModel",
            "inputs": dict.fromkeys(("accept_cc_by_nc", "compile"), False),
        },
        "2": {"class_type": "AudioXSample", "inputs": dict(sampler)},
        "9": save,
    }
    nodes["1"]["inputs"] |= {"model": "tiny-maf", "precision": "fp32", "engine": "native"}
    if kind in ("AudioXEditRegion", "AudioXExtend"):
        settings: dict[str, Any] = {"seconds": 1.0, "side": "after"}
        if kind == "AudioXEditRegion":
            settings = {"start": 0.5, "end": 1.0, "feather": 0.05, "strength": 1.0}
        nodes["3"] = {"class_type": kind, "inputs": settings | {key: source}}
        nodes["2"]["inputs"] |= {"edit": ["3", 0], "duration": 0.0}
    elif kind == "AudioXSample":
        nodes["2"]["inputs"][key] = source
    else:
        settings = {
            "AudioXView": {"width": 512, "height": 512, "start": 0.0, "duration": 0.0, "fps": 24.0},
            "AudioXLoudness": {"mode": "peak", "target": -3.0, "ceiling": -1.0},
            "AudioXChooseVariation": {"index": 0},
            "AudioXVideoSound": {"mode": "replace", "start": 0.0, "gain": 0.0, "original_gain": 0.0},
        }[kind]
        nodes = {"2": {"class_type": kind, "inputs": settings | {key: source}}, "9": save}
        if kind == "AudioXVideoSound":
            nodes["4"] = {"class_type": "LoadVideo", "inputs": {"file": "video.mp4"}}
            nodes["2"]["inputs"] |= {"video": ["4", 0], "length": "video", "filename_prefix": "video/vhs"}
            del nodes["9"]
        elif kind == "AudioXView":
            save["inputs"]["audio"] = ["2", 1]
    return nodes


@pytest.mark.parametrize("loader", LOADERS)
def test_its_sounds_fit_every_audio_input(loader: str, suite: ComfyServer) -> None:
    prompt: Prompt = {}
    for number, name in enumerate(AUDIO_INPUTS):
        shift = {key: f"{number}{key}" for key in ("1", "2", "3", "4", "9")}
        for key, node in give_to(name, ["0", LOADERS[loader][1]]).items():
            links = {
                field: [shift[value[0]], value[1]] if isinstance(value, list) and value[0] in shift else value
                for field, value in node["inputs"].items()
            }
            prompt[shift[key]] = {"class_type": node["class_type"], "inputs": links}
    prompt["0"] = load(suite, loader)
    suite.run(prompt)


def test_the_inputs_tested_are_all_audio_inputs(suite: ComfyServer) -> None:
    info = suite.get("/object_info")
    names = {
        f"{kind}.{key}"
        for kind, node in info.items()
        if kind.startswith("AudioX") and str(node["python_module"]).endswith("AudioX-v1.0")
        for group in node["input"].values()
        for key, value in group.items()
        if value[0] == "AUDIO"
    }
    assert names == set(AUDIO_INPUTS)


def test_its_sound_arrives_unchanged(suite: ComfyServer) -> None:
    for loader in ("Load Audio (Upload)", "Load Audio (Path)"):
        prompt = give_to("AudioXChooseVariation.audio", ["0", 0]) | {"0": load(suite, loader)}
        (file,) = get_files(suite.run(prompt))
        waveform, rate = read_audio(suite.base / "output" / file["subfolder"] / file["filename"])
        assert (waveform.shape, rate) == (torch.Size([1, 2 * RATE]), RATE)
        assert (waveform - sweep(2.0)).abs().max() < 1e-3


def test_a_film_without_sound_gives_a_sentence(suite: ComfyServer) -> None:
    silent = suite.base / "input" / "silent.mp4"
    with av.open(str(suite.base / "input" / "video.mp4")) as source, av.open(str(silent), "w") as output:
        stream = output.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(source.streams.video[0]):
            if packet.dts is not None:
                packet.stream = stream
                output.mux(packet)
    for name in AUDIO_INPUTS:
        prompt = give_to(name, ["0", 2])
        prompt["0"] = load(suite, "Load Video (Path)", video=str(silent))
        entry = suite.wait(suite.queue(prompt))
        message, key = get_error(entry), name.split(".")[1]
        assert "does not contain any stream" in message
        if get_failed_node(entry) == "VHS_LoadVideoPath":
            continue  # newer ComfyUI looks into every output, so the sound is read before our node runs
        assert message.startswith(f"{key} cannot be loaded by the node connected to it: VHS failed"), message
        assert len(message) < 600


@pytest.mark.parametrize(
    ("settings", "frames", "fps"),
    [
        ({}, 72, 24.0),
        ({"select_every_nth": 3}, 24, 8.0),
        ({"skip_first_frames": 24}, 48, 24.0),
        ({"force_rate": 12}, 36, 12.0),
        ({"frame_load_cap": 30}, 30, 24.0),
        ({"force_rate": 12, "skip_first_frames": 6, "select_every_nth": 2, "frame_load_cap": 9}, 9, 6.0),
    ],
    ids=str,
)
def test_its_images_have_the_time_that_it_reports(
    settings: dict[str, int], frames: int, fps: float, suite: ComfyServer
) -> None:
    extractor = {"start": 0.0, "duration": 0.0, "resize": "squash", "fps": 24.0}
    prompt = give_to("AudioXLoudness.audio", ["0", 2])
    view = {"width": 512, "height": 512, "start": 0.0, "duration": 0.0, "fps": ["5", 0], "audio": ["2", 0]}
    prompt |= {
        "0": load(suite, "Load Video (Upload)", **settings),
        "4": {
            "class_type": "AudioXExtractFeatures",
            "inputs": extractor | {"images": ["0", 0], "video_info": ["0", 3]},
        },
        "5": {"class_type": "VHS_VideoInfoLoaded", "inputs": {"video_info": ["0", 3]}},
        "6": {"class_type": "AudioXView", "inputs": view | {"images": ["0", 0]}},
        "7": {"class_type": "PreviewAny", "inputs": {"source": ["4", 1]}},
        "8": {"class_type": "PreviewAny", "inputs": {"source": ["4", 2]}},
    }
    entry = suite.run(prompt)
    shown = {node: float(entry["outputs"][node]["text"][0]) for node in ("7", "8")}
    assert shown["7"] == pytest.approx(frames / fps, abs=1e-3)
    assert shown["8"] == pytest.approx(fps, abs=1e-3)
    assert entry["outputs"]["6"]["images"]


@pytest.mark.parametrize("ending", ["video/h264-mp4", "video/webm"])
def test_our_sound_is_in_sync_in_its_files(ending: str, suite: ComfyServer) -> None:
    combine = {"frame_rate": 24.0, "loop_count": 0, "filename_prefix": "vhs", "format": ending}
    prompt = give_to("AudioXLoudness.audio", ["10", 0])
    del prompt["9"]
    prompt |= {
        "0": load(suite, "Load Video (Upload)"),
        "10": load(suite, "Load Audio (Upload)"),
        "6": {
            "class_type": "VHS_VideoCombine",
            "inputs": combine
            | {"images": ["0", 0], "audio": ["2", 0], "pingpong": False, "save_output": True}
            | {"pix_fmt": "yuv420p", "crf": 20, "save_metadata": False, "trim_to_audio": False},
        },
    }
    entry = suite.run(prompt)
    (file,) = get_files(entry, "gifs")
    waveform, rate = read_audio(file["fullpath"])
    expected = sweep(2.0)[0] / 0.5 * 10 ** (-3 / 20)
    if rate != RATE:
        from audiox_ext.media.waveforms import conform_audio

        waveform = conform_audio(waveform, rate, target_rate=RATE)
    heard = waveform[0]
    lags = torch.arange(-2000, 2001)
    part = expected[10_000:60_000]
    scores = torch.stack([torch.dot(heard[10_000 + lag : 60_000 + lag], part) for lag in lags.tolist()])
    offset = int(lags[scores.argmax()]) / RATE
    assert abs(offset) < 0.005, f"the sound is off by {1000 * offset:.1f} ms"
    gain = float(heard[10_000:60_000].square().mean().sqrt() / part.square().mean().sqrt())
    assert abs(20 * math.log10(gain)) < 0.5
    assert heard[round(2.2 * RATE) : round(2.9 * RATE)].abs().max() < 0.01, "silence after the sound"
