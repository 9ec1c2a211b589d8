"""Checks of the nodes for a finished sound: AudioX Loudness, Choose Variation, Put Sound on Video."""

from __future__ import annotations

import io
import json
import math
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import comfy_api.latest._io as comfy_io_module
import folder_paths
import torch
from comfy_api.latest import Input, InputImpl, Types
from comfy_api.latest import io as comfy_io
from comfy_api.latest import ui as comfy_ui
from in_comfyui import BASE, message, pack, run, sound, video

import nodes as comfy_nodes

ON_VIDEO = {
    "mode": "replace",
    "start": 0.0,
    "gain": 0.0,
    "original_gain": 0.0,
    "length": "video",
    "filename_prefix": "video/AudioX",
}


def put(**changes: Any) -> Path:
    """Run the video node; returns the file that it wrote."""
    inputs = {"video": video(), "audio": tones(), **ON_VIDEO, **changes}
    return Path(run("AudioXVideoSound", **inputs)[0].get_stream_source())


def tones(seconds: float = 2.0, rate: int = 44100) -> dict[str, Any]:
    """A sweep, in which every position can be recognised."""
    time = torch.arange(round(seconds * rate), dtype=torch.float64) / rate
    wave = 0.5 * torch.sin(2 * math.pi * (200 + 300 * time) * time).float()
    return {"waveform": wave.expand(1, 2, -1).clone(), "sample_rate": rate}


def read_sound(path: Path) -> tuple[torch.Tensor, int]:
    """Read the sound of a file."""
    return pack("audiox_ext.media.audio_video").read_audio(path)


def packets(source: Any) -> list[bytes]:
    """Read the encoded frames of a file."""
    with av.open(str(source)) as container:
        return [bytes(packet) for packet in container.demux(container.streams.video[0]) if packet.size]


def alike(path: Path, sent: torch.Tensor, at: float = 0.0) -> float:
    """Correlation of the left channel with `sent` (S,) from `at` seconds on."""
    wave, rate = read_sound(path)
    part = wave[0, round(at * rate) :][: len(sent)]
    return float(torch.corrcoef(torch.stack([part, sent[: len(part)]]))[0, 1])


def check_loudness_node() -> None:
    audio = tones() | {"kept": "also"}
    louder, report = run("AudioXLoudness", audio=audio, mode="loudness", target=-20.0, ceiling=-1.0)
    assert "loudness -20.0 LUFS" in report
    assert louder["kept"] == "also"
    assert louder["sample_rate"] == 44100
    assert louder["waveform"].shape == audio["waveform"].shape
    batch = {"waveform": torch.cat([audio["waveform"], audio["waveform"] / 8]), "sample_rate": 44100}
    peaks, report = run("AudioXLoudness", audio=batch, mode="peak", target=-3.0, ceiling=-1.0)
    assert peaks["waveform"].abs().amax(dim=(1, 2)).allclose(torch.tensor(10 ** (-3 / 20)))
    assert len(report.splitlines()) == 2
    text = message(lambda: run("AudioXLoudness", audio=audio, mode="rms", target=-3.0, ceiling=-1.0))
    assert "'rms'" in text
    text = message(lambda: run("AudioXLoudness", audio=None, mode="peak", target=-3.0, ceiling=-1.0))
    assert text.startswith("audio is not an AUDIO")
    assert set(pack("nodes.audiox_loudness").MODES) == set(pack("audiox_ext.media.loudness").MODES)


def check_a_variation_is_chosen() -> None:
    batch = {"waveform": torch.arange(12.0).reshape(3, 2, 2), "sample_rate": 8000, "title": "x"}
    for index, place in ((0, 0), (2, 2), (-1, 2), (-3, 0)):
        chosen = run("AudioXChooseVariation", audio=batch, index=index)[0]
        assert torch.equal(chosen["waveform"], batch["waveform"][place : place + 1])
        assert (chosen["sample_rate"], chosen["title"]) == (8000, "x")
    for index in (3, -4):
        text = message(lambda index=index: run("AudioXChooseVariation", audio=batch, index=index))
        assert f"index is {index}" in text
        assert "3 variations" in text
    empty = batch | {"waveform": torch.zeros(0, 2, 5)}
    assert "an empty batch" in message(lambda: run("AudioXChooseVariation", audio=empty, index=0))


def check_sound_on_a_video_file() -> None:
    source = BASE / "input" / "video.mp4"
    first, second = put(), put(audio=tones(5.0, 48000))
    assert first != second
    assert first.parent == Path(folder_paths.get_output_directory()) / "video"
    for path, sent in ((first, tones()), (second, tones(5.0, 48000))):
        assert packets(path) == packets(source)
        assert alike(path, sent["waveform"][0, 0]) > 0.98
        assert abs(InputImpl.VideoFromFile(str(path)).get_duration() - 3) < 0.05
    content = io.BytesIO(source.read_bytes())
    third = put(video=InputImpl.VideoFromFile(content), start=0.75, gain=-6.0)
    assert packets(third) == packets(source)
    assert alike(third, tones()["waveform"][0, 0], at=0.75) > 0.98
    assert abs(float(read_sound(third)[0].abs().max()) - 0.25) < 0.05


def check_sound_is_mixed_with_the_videos_own() -> None:
    path = put(mode="mix", original_gain=-12.0, audio=tones(1.0))
    wave, rate = read_sound(path)
    rest = wave[0, round(1.2 * rate) : round(2.8 * rate)]  # the video's own 440 Hz alone
    assert abs(20 * math.log10(float(rest.square().mean().sqrt()) * math.sqrt(2) / 0.5) + 12) < 0.3
    silent = put(video=InputImpl.VideoFromFile(str(put(audio=tones() | {"waveform": torch.zeros(1, 1, 9)}))))
    assert alike(silent, tones()["waveform"][0, 0]) > 0.98


def check_what_the_node_shows_and_the_workflow_in_the_file() -> None:
    node = comfy_nodes.NODE_CLASS_MAPPINGS["AudioXVideoSound"]
    assert node.OUTPUT_NODE
    prompt, workflow = {"7": {"class_type": "AudioXVideoSound"}}, {"nodes": []}
    hidden = {comfy_io.Hidden.prompt: prompt, comfy_io.Hidden.extra_pnginfo: {"workflow": workflow}}
    newer = hasattr(comfy_io_module.HiddenHolder, "from_v3_data")
    clone = node.PREPARE_CLASS_CLONE({"hidden_inputs": hidden} if newer else hidden)
    with torch.inference_mode():
        output = clone.EXECUTE_NORMALIZED(video=video(), audio=tones(), **ON_VIDEO)
    path = Path(output.result[0].get_stream_source())
    shown = output.ui.as_dict()["images"][0] if hasattr(output.ui, "as_dict") else output.ui["images"][0]
    assert shown == {"filename": path.name, "subfolder": "video", "type": "output"}
    with av.open(str(path)) as container:
        assert json.loads(container.metadata["prompt"]) == prompt
        assert json.loads(container.metadata["workflow"]) == workflow


def check_sound_on_pictures_of_odd_size() -> None:
    images = torch.rand(24, 45, 63, 3, generator=torch.Generator().manual_seed(1))
    own = {"waveform": tones()["waveform"].expand(2, 2, -1), "sample_rate": 44100}
    parts = Types.VideoComponents(images=images, frame_rate=Fraction(12), audio=own)
    without_file = InputImpl.VideoFromComponents(parts)
    path = put(video=without_file, audio=sound(1, 100, 8000), mode="mix", gain=-60.0)
    assert alike(path, tones()["waveform"][0, 0]) > 0.98
    assert InputImpl.VideoFromFile(str(path)).get_dimensions() == (62, 44)
    assert abs(InputImpl.VideoFromFile(str(path)).get_duration() - 2) < 0.05
    assert not list(Path(folder_paths.get_temp_directory()).glob("audiox_*"))


def check_videos_that_are_no_plain_file_are_written_first() -> None:
    class Other(Input.Video):
        """A pack's own video, which has no stream."""

        def get_components(self) -> Any:
            raise AssertionError("not asked for")

        def save_to(self, path: Any, *arguments: Any, **settings: Any) -> None:
            video().save_to(path)

        def as_trimmed(self, *arguments: Any, **settings: Any) -> Any:
            raise AssertionError("not asked for")

    class Cropped(InputImpl.VideoFromFile):
        """An edited video of newer ComfyUI: its stream is the whole file."""

        def has_pending_frame_edits(self) -> bool:
            return True

        def get_stream_source(self) -> Any:
            raise AssertionError("not asked for")

    for unusual in (Other(), Cropped(str(BASE / "input" / "video.mp4"))):
        path = put(video=unusual)
        assert alike(path, tones()["waveform"][0, 0]) > 0.98
        assert packets(path) == packets(BASE / "input" / "video.mp4")


def check_sound_on_a_trimmed_video() -> None:
    class Newer(InputImpl.VideoFromFile):
        """A video with the methods that newer ComfyUI adds."""

        def get_active_trim_window(self) -> tuple[float, float]:
            return 1.0, 1.5

        def has_pending_frame_edits(self) -> bool:
            return False

    path = put(video=Newer(str(BASE / "input" / "video.mp4")))
    assert abs(InputImpl.VideoFromFile(str(path)).get_duration() - 1.5) < 0.05
    assert alike(path, tones()["waveform"][0, 0][: 44100 * 14 // 10]) > 0.98
    path = put(length="shortest", audio=tones(1.0), start=0.5)
    assert abs(InputImpl.VideoFromFile(str(path)).get_duration() - 1.5) < 0.05


def check_names_outside_the_output_folder_are_refused() -> None:
    for prefix in ("../AudioX", "/tmp/AudioX", "a/../../b"):
        text = message(lambda prefix=prefix: put(filename_prefix=prefix))
        assert "is outside the output folder" in text, text
    assert put(filename_prefix=" ").name == "AudioX_00001_.mp4"
    assert put(filename_prefix="deep/er/%width%x%height%").name == "320x180_00001_.mp4"
    for prefix in ("half \ud83d", "null\0"):
        text = message(lambda prefix=prefix: put(filename_prefix=prefix))
        assert text.startswith(f"filename_prefix is {prefix!r}, but no file name can hold"), text
        text.encode()
    for name in ("mode", "length"):
        assert "'nonsense'" in message(lambda name=name: put(**{name: "nonsense"}))
    assert "an empty batch" in message(
        lambda: put(audio={"waveform": torch.zeros(0, 2, 9), "sample_rate": 8000})
    )
    assert not list(Path(folder_paths.get_output_directory()).rglob(".*.mp4"))


def check_a_number_that_another_server_took_is_not_used_again() -> None:
    """A file that appears while the video is written keeps its name and content."""
    put(filename_prefix="first/AudioX")  # the modules are loaded on first use
    muxing = pack("audiox_ext.media.soundtrack")
    original = muxing.add_sound_to_video
    taken = []

    def write(*arguments: Any, **options: Any) -> None:
        original(*arguments, **options)
        folder = Path(folder_paths.get_output_directory()) / "race"
        for suffix in (".mp4", ".webm", ".mkv"):
            taken.append(folder / f"AudioX_00001_{suffix}")
            taken[-1].write_text("of the other server")

    muxing.add_sound_to_video = write
    try:
        path = put(filename_prefix="race/AudioX")
    finally:
        muxing.add_sound_to_video = original
    assert path.name.startswith("AudioX_00002_."), path
    assert {file.read_text() for file in taken} == {"of the other server"}
    assert sorted(file.name for file in path.parent.iterdir()) == sorted(
        [path.name, *(file.name for file in taken)]
    )


def check_texts_of_all_nodes_are_valid() -> None:
    """The registered nodes escape their texts, in results and in what the browser shows."""
    extension = pack("nodes.extension")
    for node in extension.NODES:
        assert node in extension._checked_nodes, node

    class Echo(comfy_io.ComfyNode):
        @classmethod
        def execute(cls, text: str) -> comfy_io.NodeOutput:
            return comfy_io.NodeOutput(text, 1, ui={"text": [text, {"name": text}]})

    extension._make_texts_valid(Echo)
    extension._make_texts_valid(Echo)
    output = Echo.execute(text="caf\udce9 \ud800")
    assert output.args == ("caf\\udce9 \\ud800", 1)
    json.dumps(output.ui, ensure_ascii=False).encode()

    class Hand(comfy_io.ComfyNode):
        @classmethod
        def execute(cls, audio: dict) -> comfy_io.NodeOutput:
            return comfy_io.NodeOutput(audio, ui=shown)

    audio = {"waveform": object(), "sample_rate": 44100, "name": "rain"}
    shown = comfy_ui.PreviewText("rain")
    extension._make_texts_valid(Hand)
    output = Hand.execute(audio=audio)
    assert output.args[0] is audio, "what is valid is handed on as it is"
    assert output.ui is shown


def check_a_prefix_that_is_not_utf8_is_refused() -> None:
    text = message(lambda: put(filename_prefix="video/caf\udce9"))
    assert "filename_prefix is" in text, text
    assert "filename_prefix is" in message(lambda: put(filename_prefix="video/\ud800"))
