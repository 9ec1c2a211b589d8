"""Checks of the forms in which other packs output sounds, at every AUDIO input of the pack."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction
from types import SimpleNamespace
from typing import Any

import comfy.model_management
import numpy as np
import torch
from checks_finished_sounds import ON_VIDEO, alike, put, tones
from checks_view import VIEW
from comfy_api.latest import InputImpl, Types
from in_comfyui import SAMPLER, load, message, pack, run, sound, video

import nodes as comfy_nodes

RATE = 8000


class LazyAudio(Mapping[str, Any]):
    """What Video Helper Suite outputs: not a dict, and its file is read on first use."""

    def __init__(self, load_sound: Callable[[], dict[str, Any]]) -> None:
        self.load_sound = load_sound

    def __getitem__(self, key: str) -> Any:
        return self.load_sound()[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self.load_sound())

    def __len__(self) -> int:
        return len(self.load_sound())


def raise_error(error: BaseException) -> dict[str, Any]:
    raise error


def read(audio: Any) -> tuple[torch.Tensor, int]:
    """Read an AUDIO as the nodes do."""
    return pack("nodes.shared.audio_input").read_audio(audio, "audio")


def refusal(audio: Any) -> str:
    """The message for an AUDIO that cannot be used."""
    return message(lambda: read(audio))


def samples(channels: int = 2, length: int = 400) -> torch.Tensor:
    """A waveform (1, C, S) whose samples fit every type."""
    generator = torch.Generator().manual_seed(1)
    return torch.randint(-100, 100, (1, channels, length), generator=generator).float() / 128


def run_every_node(audio: Any) -> dict[str, Any]:
    """Give an AUDIO to every input that takes one; returns the outputs by name of the input."""
    model = load("tiny-maf")
    edit = {"feather": 0.01, "strength": 1.0}
    level = {"mode": "peak", "target": -3.0, "ceiling": -1.0}
    on_video = {"video": video(), **ON_VIDEO}
    return {
        "AudioXSample.audio_prompt": run("AudioXSample", model=model, audio_prompt=audio, **SAMPLER),
        "AudioXSample.init_audio": run("AudioXSample", model=model, init_audio=audio, **SAMPLER),
        "AudioXEditRegion.audio": run("AudioXEditRegion", audio=audio, start=0.01, end=0.04, **edit),
        "AudioXExtend.audio": run("AudioXExtend", audio=audio, seconds=1.0, side="after"),
        "AudioXView.audio": run("AudioXView", audio=audio, **VIEW),
        "AudioXLoudness.audio": run("AudioXLoudness", audio=audio, **level),
        "AudioXChooseVariation.audio": run("AudioXChooseVariation", audio=audio, index=0),
        "AudioXVideoSound.audio": run("AudioXVideoSound", audio=audio, **on_video),
    }


def list_audio_inputs() -> set[str]:
    """Every AUDIO input of the pack."""
    inputs = set()
    for name, node in comfy_nodes.NODE_CLASS_MAPPINGS.items():
        if name.startswith("AudioX") and hasattr(node, "GET_NODE_INFO_V1"):
            for group in node.GET_NODE_INFO_V1()["input"].values():
                inputs |= {f"{name}.{key}" for key, value in group.items() if value[0] == "AUDIO"}
    return inputs


def check_every_audio_input_takes_a_lazy_mapping() -> None:
    plain = {"waveform": samples(), "sample_rate": RATE}
    expected, outputs = run_every_node(plain), run_every_node(LazyAudio(lambda: plain))
    assert set(outputs) == list_audio_inputs()
    for name in ("AudioXSample.audio_prompt", "AudioXSample.init_audio", "AudioXChooseVariation.audio"):
        assert torch.equal(outputs[name][0]["waveform"], expected[name][0]["waveform"]), name
    assert torch.equal(outputs["AudioXView.audio"][0], expected["AudioXView.audio"][0])
    for name in ("AudioXEditRegion.audio", "AudioXExtend.audio"):
        assert torch.equal(outputs[name][0].waveform, plain["waveform"])
        assert outputs[name][0].rate == RATE
    louder = outputs["AudioXLoudness.audio"][0]
    assert isinstance(louder, dict)
    assert abs(float(louder["waveform"].abs().max()) - 10 ** (-3 / 20)) < 1e-6


def check_integers_are_scaled_and_never_noise() -> None:
    """16-bit samples taken for floating point would be 90 dB above full scale."""
    wave = samples()
    forms = {
        torch.int8: wave * 2**7,
        torch.int16: wave * 2**15,
        torch.int32: wave.double() * 2**31,
        torch.uint8: wave * 2**7 + 2**7,
        torch.uint16: wave * 2**15 + 2**15,
        torch.uint32: wave.double() * 2**31 + 2**31,
    }
    for kind, values in forms.items():
        for waveform in (values.to(kind), values.to(torch.int64).numpy().astype(str(kind)[6:])):
            read_back, rate = read({"waveform": waveform, "sample_rate": RATE})
            assert (read_back.dtype, rate) == (torch.float32, RATE)
            assert torch.equal(read_back, wave), kind
    extremes, _ = read({"waveform": torch.tensor([-(2**15), 2**15 - 1], dtype=torch.int16), "sample_rate": 8})
    assert extremes.min() == -1
    assert extremes.max() < 1
    expected = run_every_node({"waveform": wave, "sample_rate": RATE})
    outputs = run_every_node({"waveform": forms[torch.int16].to(torch.int16), "sample_rate": RATE})
    for name in ("AudioXSample.audio_prompt", "AudioXSample.init_audio", "AudioXLoudness.audio"):
        assert torch.equal(outputs[name][0]["waveform"], expected[name][0]["waveform"]), name
    text = refusal({"waveform": torch.zeros(1, 1, 9, dtype=torch.int64), "sample_rate": RATE})
    assert "int64, whose full scale is not known" in text


def check_floating_point_of_any_size() -> None:
    wave = samples()
    for kind in (torch.float16, torch.bfloat16, torch.float64):
        assert torch.equal(read({"waveform": wave.to(kind), "sample_rate": RATE})[0], wave), kind
    for kind in ("<f2", ">f4", "<f8", ">f8", "longdouble", ">i2"):
        waveform = wave.numpy() * (2**15 if "i" in kind else 1)
        assert torch.equal(read({"waveform": waveform.astype(kind), "sample_rate": RATE})[0], wave), kind


def check_waveforms_of_any_shape() -> None:
    wave = samples()
    assert read({"waveform": wave[0, 0], "sample_rate": RATE})[0].shape == (1, 1, 400)
    assert torch.equal(read({"waveform": wave[0], "sample_rate": RATE})[0], wave)
    backwards = wave.numpy()[..., ::-1]
    assert torch.equal(read({"waveform": backwards, "sample_rate": RATE})[0], wave.flip(-1))
    frozen = wave.numpy().copy()
    frozen.flags.writeable = False
    assert torch.equal(read({"waveform": frozen, "sample_rate": RATE})[0], wave)
    for shape in ((), (1, 1, 1, 9)):
        assert f"{len(shape)} dimensions" in refusal({"waveform": torch.zeros(shape), "sample_rate": RATE})
    assert "400 channels of 2 samples" in refusal({"waveform": wave.mT, "sample_rate": RATE})
    for shape in ((1, 0, 9), (1, 2, 0), (0,)):
        assert "is empty" in refusal({"waveform": torch.zeros(shape), "sample_rate": RATE})
    assert "an empty batch" in refusal({"waveform": torch.zeros(0, 2, 9), "sample_rate": RATE})


def check_tensors_that_require_a_gradient() -> None:
    with torch.inference_mode(False), torch.enable_grad():
        wave = samples().requires_grad_()
        outputs = run_every_node({"waveform": wave, "sample_rate": RATE})
        assert not read({"waveform": wave * 1, "sample_rate": RATE})[0].requires_grad
    assert torch.equal(outputs["AudioXExtend.audio"][0].waveform, wave.detach())


def check_sample_rates_in_any_form() -> None:
    forms = (8000, 8000.0, np.int64(8000), np.float32(8000), np.array(8000), np.array([8000]))
    for form in (*forms, torch.tensor(8000), torch.tensor([8000]), torch.tensor(8000.0)):
        rate = read({"waveform": samples(), "sample_rate": form})[1]
        assert (rate, type(rate)) == (8000, int), repr(form)
        chosen = run("AudioXChooseVariation", audio={"waveform": samples(), "sample_rate": form}, index=0)[0]
        assert type(chosen["sample_rate"]) is int, "what goes on is an ordinary AUDIO"
    for form, shown in (("44100", "'44100'"), (None, "None"), (True, "True"), (torch.ones(2), "a Tensor")):
        text = refusal({"waveform": samples(), "sample_rate": form})
        assert f"its sample_rate is {shown}, not one number" in text
    for form in (0, -1, 0.5, float("nan"), float("inf")):
        text = refusal({"waveform": samples(), "sample_rate": form})
        assert f"audio: the sample rate is {form} Hz" in text


def check_what_is_no_audio_is_refused() -> None:
    rate = {"sample_rate": RATE}
    for audio, words in (
        (None, "it is None. The node connected to it gave no sound"),
        ([], "it is a list"),
        ("sound.wav", "it is a str"),
        (samples(), "it is a Tensor"),
        ({}, "it has no waveform"),
        ({"waveform": samples()}, "it has no sample_rate"),
        ({"waveform": None, **rate}, "its waveform is a NoneType"),
        ({"waveform": [0.0], **rate}, "its waveform is a list"),
        ({"waveform": np.array(["a"]), **rate}, "a numpy array of <U1"),
        ({"waveform": torch.zeros(1, 1, 9, dtype=torch.bool), **rate}, "is bool"),
        ({"waveform": torch.zeros(1, 1, 9, dtype=torch.complex64), **rate}, "is complex64"),
        ({"waveform": np.zeros((1, 9), complex), **rate}, "is complex128"),
        ({"waveform": torch.full((1, 1, 9), torch.nan), **rate}, "9 samples that are NaN"),
        ({"waveform": torch.full((1, 1, 9), 1e300, dtype=torch.float64), **rate}, "9 samples that are NaN"),
        (SimpleNamespace(waveform=samples(), sample_rate=RATE), "it is a SimpleNamespace"),
    ):
        text = refusal(audio)
        assert words in text, text
        assert text.startswith(("audio is not an AUDIO: ", "audio: the waveform "))


def check_a_sound_that_cannot_be_loaded_gives_its_cause() -> None:
    banner = "VHS failed to extract audio from a.mp4:\nffmpeg version 5\n  built\n  libavutil\nInput #0\n"
    for error, words in (
        (
            Exception(banner + "Output file #0 does not contain any stream\n"),
            "from a.mp4: ... libavutil Input #0 Output",
        ),
        (KeyError("quad"), "KeyError('quad')"),
        (FileNotFoundError(2, "No such file", "a.mp4"), "No such file: 'a.mp4'"),
        (Exception(), "Exception"),
    ):
        silent = LazyAudio(lambda error=error: raise_error(error))
        text = refusal(silent)
        assert text.startswith("audio cannot be loaded by the node connected to it: ")
        assert words in text, text
        assert "ffmpeg version" not in text
    for name in ("audio_prompt", "init_audio"):
        sounds = {name: silent}
        text = message(lambda sounds=sounds: run("AudioXSample", model=load("tiny-maf"), **sounds, **SAMPLER))
        assert text.startswith(f"{name} cannot be loaded")
    # A cancelled run and memory that ran out must reach ComfyUI unchanged.
    for passed in (comfy.model_management.InterruptProcessingException(), torch.OutOfMemoryError()):
        try:
            read(LazyAudio(lambda passed=passed: raise_error(passed)))
        except type(passed):
            continue
        raise AssertionError(f"{passed!r} was caught")


def check_none_is_not_taken_for_unconnected() -> None:
    model, edit = load("tiny-maf"), {"start": 0.0, "end": 0.1, "feather": 0.0, "strength": 1.0}
    image = torch.rand(1, 8, 8, 3)
    runs: dict[str, Callable[[], Any]] = {
        "audio_prompt": lambda: run("AudioXSample", model=model, audio_prompt=None, **SAMPLER),
        "init_audio": lambda: run("AudioXSample", model=model, init_audio=None, **SAMPLER),
        "features": lambda: run("AudioXSample", model=model, features=None, **SAMPLER),
        "audio": lambda: run("AudioXEditRegion", audio=None, **edit),
        "edit": lambda: run("AudioXEditRegion", audio=sound(1, 9000), edit=None, **edit),
        "images": lambda: run("AudioXView", audio=sound(1, 9000), images=None, **VIEW),
        "mask": lambda: run("AudioXExtractFeatures", **pack_inputs(images=image, mask=None)),
        "video": lambda: run("AudioXExtractFeatures", **pack_inputs(images=image, video=None)),
        "video_info": lambda: run("AudioXExtractFeatures", **pack_inputs(images=image, video_info=None)),
    }
    for name, call in runs.items():
        text = message(call)
        assert text.startswith(f"{name} is None: the node connected to it gave no "), text
    assert "gave no sound" in message(runs["audio_prompt"])


def pack_inputs(**inputs: Any) -> dict[str, Any]:
    """The inputs of the feature extractor."""
    from in_comfyui import EXTRACTOR

    return EXTRACTOR | inputs


def check_the_sound_inside_a_video_may_be_lazy_or_absent() -> None:
    images = torch.rand(24, 32, 48, 3, generator=torch.Generator().manual_seed(1))

    def create(audio: Any) -> Any:
        parts = Types.VideoComponents(images=images, frame_rate=Fraction(12), audio=audio)
        return InputImpl.VideoFromComponents(parts)

    quiet = sound(1, 100, RATE)
    mixed = put(video=create(LazyAudio(tones)), audio=quiet, mode="mix", gain=-60.0)
    assert alike(mixed, tones()["waveform"][0, 0]) > 0.98
    silent = LazyAudio(lambda: raise_error(Exception("VHS failed to extract audio from a.mp4")))
    for own in (None, silent):
        assert alike(put(video=create(own)), tones()["waveform"][0, 0]) > 0.98, "replace needs no other sound"
    assert alike(put(video=create(None), mode="mix"), tones()["waveform"][0, 0]) > 0.98
    text = message(lambda: put(video=create(silent), mode="mix"))
    assert text.startswith("The sound of video cannot be loaded")
    for value in (None, "film.mp4"):
        assert "not a VIDEO" in message(lambda value=value: put(video=value))
