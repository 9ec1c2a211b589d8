"""Values that reach the nodes over ComfyUI's API, which checks few of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from bad_case import Case, Place

NAN = float("nan")
EDIT = {"start": 0.0, "end": 0.5, "feather": 0.05, "strength": 1.0}
LOUDNESS = {"mode": "loudness", "target": -16.0, "ceiling": -1.0}
VIEW = {"width": 512, "height": 512, "start": 0.0, "duration": 0.0, "fps": 24.0}
ON_VIDEO = {
    "mode": "replace",
    "start": 0.0,
    "gain": 0.0,
    "original_gain": 0.0,
    "length": "video",
    "filename_prefix": "x",
}
TRAINER = {
    "dataset_folder": "sounds",
    "name": "x",
    "steps": 1,
    "rank": 1,
    "learning_rate": 1e-3,
    "batch_size": 1,
    "seed": 0,
}
LOADER = {"precision": "auto", "engine": "native", "accept_cc_by_nc": False}


def _set_folders(place: Place) -> None:
    """Let ComfyUI write into the case's folder."""
    import folder_paths

    for name in ("input", "output", "user", "loras"):
        (place.own / name).mkdir(exist_ok=True)
    folder_paths.set_input_directory(str(place.own / "input"))
    folder_paths.set_output_directory(str(place.own / "output"))
    folder_paths.set_temp_directory(str(place.own / "temporary"))
    folder_paths.set_user_directory(str(place.own / "user"))
    extensions = folder_paths.folder_names_and_paths["loras"][1]
    folder_paths.folder_names_and_paths["loras"] = ([str(place.own / "loras")], extensions)
    place.write("input/sounds/rain.wav", place.sample("good.wav"))
    place.write("input/film.mp4", place.sample("good.mp4"))
    place.write("loras/text.safetensors", b"words " * 50)


def _sound(samples: int = 16000, rate: Any = 16000, **changes: Any) -> dict[str, Any]:
    import torch

    return {"waveform": torch.zeros(1, 2, samples), "sample_rate": rate, **changes}


def _film(place: Place, name: str = "good.mp4") -> Any:
    from comfy_api.latest import InputImpl

    return InputImpl.VideoFromFile(str(place.write(f"input/{name}", place.sample(name))))


def _model() -> Any:
    import in_comfyui

    return in_comfyui.load("audiox-pocket")


def _node(node_id: str, inputs: Callable[[Place], dict[str, Any]]) -> tuple[Callable[[Place], Any], Any]:
    """The maker and the call of a case that runs a node."""

    def make(place: Place) -> dict[str, Any]:
        _set_folders(place)
        return inputs(place)

    def call(values: dict[str, Any]) -> Any:
        import in_comfyui

        return in_comfyui.run(node_id, **values)

    return make, call


def _vary(
    node_id: str, good: Callable[[Place], dict[str, Any]], changes: dict[str, tuple[Any, str]]
) -> list[Case]:
    """Cases of one node, each with one bad value: (input, value) by a pattern."""
    cases = []
    for label, (value, pattern) in changes.items():
        name = label.split(" ")[0]
        make, call = _node(
            node_id,
            lambda place, name=name, value=value: {
                **good(place),
                name: value(place) if callable(value) else value,
            },
        )
        cases.append(Case(f"{node_id}: {label}", make, call, pattern))
    return cases


def _sampler(place: Place) -> dict[str, Any]:
    import in_comfyui

    return {"model": _model(), **in_comfyui.SAMPLER, "steps": 1}


def _extractor(place: Place) -> dict[str, Any]:
    import in_comfyui

    return {"video": _film(place), "model": _model(), **in_comfyui.EXTRACTOR}


SAMPLER: dict[str, tuple[Any, str]] = {
    "model None": (None, r"(?i)model"),
    "model of another pack": (lambda p: {"model": object()}, r"(?i)model"),
    "prompt that is a number": (5, r"(?i)prompt"),
    "prompt None": (None, r"(?i)prompt"),
    "prompt with a gap in its timeline": ("0-0.5 rain\n0.7-1 wind", r"line 2"),
    "prompt with a timeline of 1 MB": ("0-0.5 rain\n0.5-1" + " " * 10**6 + "x\n7-8 y", r"line"),
    "negative_prompt that is a timeline": ("0-0.5 rain\n0.5-1 wind", r"(?i)negative"),
    "duration NaN": (NAN, r"(?i)duration"),
    "duration -1": (-1.0, r"(?i)duration"),
    "duration a text": ("long", r"(?i)duration"),
    "duration 1e308": (1e308, r"(?i)duration.*1e\+308"),
    "steps 10^30": (10**30, r"steps"),
    "steps a text": ("many", r"steps"),
    "cfg NaN": (NAN, r"cfg"),
    "cfg infinite": (float("inf"), r"cfg"),
    "sampler unknown": ("magic", r"magic"),
    "sampler a lone surrogate": ("\ud800", r"(?i)sampler.*ud800"),
    "sigma_min NaN": (NAN, r"sigma_min"),
    "sigma_max -1": (-1.0, r"sigma_max"),
    "seed -1": (-1, r"seed"),
    "seed 2^64": (2**64, r"seed"),
    "batch 0": (0, r"batch"),
    "batch 10^12": (10**12, r"batch"),
    "audio_prompt None": (None, r"audio_prompt.*no sound"),
    "audio_prompt a text": ("rain.wav", r"audio_prompt"),
    "audio_prompt without samples": (lambda p: _sound(0), r"(?i)audio_prompt.*empty"),
    "audio_prompt at 0 Hz": (lambda p: _sound(rate=0), r"audio_prompt.*0"),
    "audio_prompt at 6144001 Hz": (lambda p: _sound(rate=6_144_001), r"audio_prompt.*6144001"),
    "init_audio None": (None, r"init_audio.*no sound"),
    "init_audio of a number": (5, r"init_audio"),
    "features None": (None, r"(?i)features"),
    "features a number": (5, r"(?i)features"),
    "edit None": (None, r"(?i)edit"),
    "edit a sound": (lambda p: _sound(), r"(?i)edit"),
}
TRAINERS: dict[str, tuple[Any, str]] = {
    "name upwards": ("../../x", r"\.\./\.\./x"),
    "name a whole path": ("/tmp/x", r"/tmp/x"),
    "name empty": ("", r"name"),
    "name of dots": ("..", r"name"),
    "name with a NUL": ("a\0b", r"name"),
    "name of half an emoji": ("\ud83d", r"name"),
    "name of 300 letters": ("x" * 300, r"(?i)name|long|Training needs"),
    "dataset_folder empty": ("", r"dataset_folder"),
    "dataset_folder upwards": ("../../etc", r"dataset_folder|outside"),
    "dataset_folder a whole path": ("/etc", r"(?i)dataset_folder|outside|no sound"),
    "dataset_folder with a NUL": ("a\0b", r"dataset_folder"),
    "dataset_folder of half an emoji": ("\ud800", r"dataset_folder"),
    "dataset_folder missing": ("no such folder", r"(?i)no folder|no such folder|Training needs"),
    "dataset_folder a number": (5, r"(?i)dataset_folder"),
    "keep_folder a number": (5, r"(?i)keep_folder"),
    "name a number": (5, r"name is 5"),
    "caption a number": (5, r"(?i)caption"),
    "sound_prompt a number": (5, r"(?i)prompt"),
    "steps a text": ("many", r"steps"),
    "patience a text": ("much", r"patience"),
    "steps 0": (0, r"steps"),
    "steps NaN": (NAN, r"steps"),
    "rank -1": (-1, r"rank"),
    "rank 10^12": (10**12, r"(?i)rank|memory"),
    "learning_rate NaN": (NAN, r"learning_rate"),
    "batch_size 0": (0, r"batch_size"),
    "model None": (None, r"(?i)model"),
    "seed -1": (-1, r"seed"),
}
CONSENT: dict[str, tuple[Any, str]] = {
    f"accept_cc_by_nc {value!r}": (value, r"(?i)CC-BY-NC|accept_cc_by_nc")
    for value in ("false", "no", "0", "", "off", "true", NAN, 1, 0, None, [], [True], {"a": 1}, "\ud800")
}
MODELS: dict[str, tuple[Any, str]] = {
    "model upwards": ("../../etc", r"\.\./\.\./etc|(?i:model)"),
    "model a whole path": ("/etc", r"(?i)/etc|model"),
    "model with a NUL": ("a\0b", r"(?i)model|name"),
    "model a lone surrogate": ("\ud800", r"(?i)ud800"),
    "model a number": (5, r"(?i)model"),
    "model None": (None, r"(?i)model"),
    "precision unknown": ("fp4", r"fp4"),
    "engine unknown": ("warp", r"warp"),
}
VIDEO_SOUNDS: dict[str, tuple[Any, str]] = {
    "video None": (None, r"(?i)video"),
    "video a text": ("film.mp4", r"(?i)video"),
    "audio None": (None, r"audio"),
    "audio of NaN": (lambda p: _sound(waveform=_sound()["waveform"] * NAN), r"audio.*NaN"),
    "filename_prefix upwards": ("../../x", r"\.\./\.\./x"),
    "filename_prefix a whole path": ("/tmp/x", r"/tmp/x"),
    "filename_prefix with a NUL": ("a\0b", r"filename_prefix"),
    "filename_prefix of half an emoji": ("\ud83d", r"filename_prefix"),
    "filename_prefix of 300 letters": ("x" * 300, r"(?i)long|name"),
    "mode unknown": ("swap", r"swap"),
    "gain NaN": (NAN, r"gain"),
    "gain 1e308": (1e308, r"gain"),
    "start NaN": (NAN, r"start"),
    "start 1e308": (1e308, r"start"),
    "length unknown": ("long", r"long"),
    "length a number": (5, r"length is 5"),
    "gain a text": ("loud", r"gain.*loud"),
    "start a text": ("now", r"start.*now"),
    "filename_prefix a number": (5, r"filename_prefix is 5"),
}
OTHERS: dict[str, tuple[Callable[[Place], dict[str, Any]], dict[str, tuple[Any, str]]]] = {
    "AudioXSample": (_sampler, SAMPLER),
    "AudioXTrainLora": (lambda p: {"model": _model(), **TRAINER}, TRAINERS),
    "AudioXVideoSound": (lambda p: {"video": _film(p), "audio": _sound(), **ON_VIDEO}, VIDEO_SOUNDS),
    "AudioXExtractFeatures": (
        _extractor,
        {
            "video None": (None, r"(?i)video"),
            "video a text": ("film.mp4", r"(?i)video"),
            "video without pictures": (lambda p: _film(p, "sound.mp4"), r"(?i)video|audio"),
            "start NaN": (NAN, r"start"),
            "start after the end": (99.0, r"99"),
            "start a text": ("now", r"start.*now"),
            "duration a text": ("long", r"duration.*long"),
            "seconds_per_image a text": ("long", r"seconds_per_image.*long"),
            "resize a number": (5, r"resize is 5"),
            "duration -1": (-1.0, r"duration"),
            "resize unknown": ("stretch", r"stretch"),
            "seconds_per_image NaN": (NAN, r"seconds_per_image"),
        },
    ),
    "AudioXEditRegion": (
        lambda p: {"audio": _sound(), **EDIT},
        {
            "start -1": (-1.0, r"-1"),
            "end 99": (99.0, r"99"),
            "end NaN": (NAN, r"(?i)end"),
            "strength 0": (0.0, r"strength"),
            "audio a list": ([1, 2], r"audio"),
            "start a text": ("now", r"start"),
        },
    ),
    "AudioXExtend": (
        lambda p: {"audio": _sound(), "seconds": 1.0, "side": "after"},
        {
            "seconds NaN": (NAN, r"(?i)nan"),
            "side unknown": ("up", r"up"),
            "audio None": (None, r"audio"),
            "seconds a text": ("long", r"long"),
        },
    ),
    "AudioXLoudness": (
        lambda p: {"audio": _sound(), **LOUDNESS},
        {
            "target NaN": (NAN, r"(?i)nan|target"),
            "target a text": ("loud", r"target.*loud"),
            "mode unknown": ("rms", r"rms"),
            "ceiling infinite": (float("inf"), r"(?i)ceiling|inf"),
            "audio None": (None, r"audio"),
        },
    ),
    "AudioXView": (
        lambda p: {"audio": _sound(), **VIEW},
        {
            "width 10^9": (10**9, r"(?i)width|1000000000|pixels"),
            "height 0": (0, r"(?i)height|pixels|0"),
            "start NaN": (NAN, r"(?i)nan|start"),
            "start a text": ("now", r"now"),
            "duration a text": ("long", r"long"),
            "width a text": ("wide", r"wide"),
            "duration 1e308": (-1.0, r"(?i)duration|-1"),
        },
    ),
    "AudioXChooseVariation": (
        lambda p: {"audio": _sound(), "index": 0},
        {
            "index 99": (99, r"99"),
            "index -5": (-5, r"-5"),
            "index a text": ("x", r"(?i)index"),
            "audio None": (None, r"audio"),
        },
    ),
    "AudioXLoadLora": (
        lambda p: {"model": _model(), "lora_name": "text.safetensors", "strength": 1.0},
        {
            "lora_name of text": ("text.safetensors", r"text\.safetensors"),
            "lora_name upwards": ("../../secret.txt", r"\.\./|(?i:lora)"),
            "lora_name a whole path": ("/etc/passwd", r"/etc/passwd|(?i:lora)"),
            "lora_name a number": (5, r"lora_name is 5"),
            "strength a text": ("much", r"much"),
            "lora_name with a NUL": ("a\0b", r"(?i)lora|name"),
            "lora_name a lone surrogate": ("\ud800.safetensors", r"(?i)ud800"),
            "model None": (None, r"(?i)model"),
        },
    ),
}


def list_cases() -> list[Case]:
    """All cases of this module."""
    cases = [case for node_id, (good, changes) in OTHERS.items() for case in _vary(node_id, good, changes)]
    cases += _vary("AudioXLoadModel", lambda p: {"model": "tiny-nc", **LOADER}, CONSENT)
    cases += _vary("AudioXLoadModel", lambda p: {"model": "audiox-pocket", **LOADER}, MODELS)
    return [
        replace(case, kind=f"node {case.name.partition(':')[0]}", name=case.name.partition(": ")[2])
        for case in cases
    ]
