"""The command line, as users type it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import av
import pytest
import torch
from golden_cases import tone
from random_loras import random_lora

from audiox_ext.checkpoints.lora_file import write_lora
from audiox_ext.checkpoints.pretrained import get_pretrained_model
from audiox_ext.cli.main import main
from audiox_ext.conditioning.feature_cache import read_features
from audiox_ext.media.audio_video import holds_floats, read_audio, write_audio

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seconds of a moving pattern, 64 x 48 at 25 fps, silent."""
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for index in range(50):
            picture = torch.full((48, 64, 3), (index * 5) % 256, dtype=torch.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture.numpy(), format="rgb24")))
        container.mux(stream.encode())
    return path


def run(*arguments: Any) -> int:
    return main([str(a) for a in arguments])


def test_text_to_a_sound_file(tiny_folder: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out.wav"
    model = tiny_folder("maf")
    assert (
        run("generate", "--model", model, "--prompt", "rain", "--seconds", 2.5, "--steps", 2, "-o", out) == 0
    )
    waveform, rate = read_audio(out)
    assert (tuple(waveform.shape), rate) == ((2, 40000), 16000)
    assert float(waveform.std()) > 1e-3
    printed = capsys.readouterr()
    assert str(out) in printed.out
    assert "2/2" in printed.err  # the progress bar


@pytest.mark.slow
def test_settings_for_fewer_steps_have_an_effect(tiny_folder: Any, tmp_path: Path, capsys: Any) -> None:
    """Each setting makes another sound; a preset fills in what is not set."""
    model, sounds = tiny_folder("maf"), set()
    settings: list[list[object]] = [
        [],
        ["--sampler", "unipc"],
        ["--schedule", "karras"],
        ["--preset", "fast"],
        ["--guidance-start", 0.5],
        ["--guidance-end", 0.5],
        ["--guidance-rescale", 0.7],
        ["--reuse-threshold", 1],
    ]
    for index, options in enumerate(settings):
        out = tmp_path / f"{index}.wav"
        run("generate", "--model", model, "--prompt", "rain", "--steps", 12, *options, "-o", out)
        sounds.add(out.read_bytes())
    assert len(sounds) == len(settings)
    capsys.readouterr()
    out = tmp_path / "fast.wav"
    run("generate", "--model", model, "--prompt", "rain", "--preset", "fast", "-o", out)
    assert "25/25" in capsys.readouterr().err


def test_equal_seeds_give_equal_files(tiny_folder: Any, tmp_path: Path) -> None:
    for name, seed in (("a.wav", 3), ("b.wav", 3), ("c.wav", 4)):
        run(
            "generate",
            "--model",
            tiny_folder("turbo"),
            "--prompt",
            "rain",
            "--seed",
            seed,
            "-o",
            tmp_path / name,
        )
    assert (tmp_path / "a.wav").read_bytes() == (tmp_path / "b.wav").read_bytes()
    assert (tmp_path / "a.wav").read_bytes() != (tmp_path / "c.wav").read_bytes()


def test_a_video_gets_its_sound(tiny_folder: Any, tmp_path: Path, clip: Path) -> None:
    out = tmp_path / "out.mp4"
    prompt = "Generate general audio for the video"
    status = run(
        "generate",
        "--model",
        tiny_folder("maf"),
        "--video",
        clip,
        "--prompt",
        prompt,
        "--steps",
        2,
        "-o",
        out,
    )
    assert status == 0
    with av.open(str(out)) as container:
        assert sum(1 for _ in container.decode(video=0)) == 50
    waveform, rate = read_audio(out)
    assert abs(waveform.shape[1] / rate - 2) < 0.1


def test_a_shortened_video_is_reported(tiny_folder: Any, tmp_path: Path, clip: Path, caplog: Any) -> None:
    options = ["--video", clip, "--prompt", "x", "--steps", 1, "--seconds", 1, "-o", tmp_path / "out.mp4"]
    assert run("generate", "--model", tiny_folder("maf"), *options) == 0
    assert "The video goes on for 2.00 s, the sound for 1.00 s" in caplog.text


def test_an_audio_prompt_and_a_batch(tiny_folder: Any, tmp_path: Path) -> None:
    write_audio(tmp_path / "example.wav", tone(1, 22050, 440), 22050)
    out = tmp_path / "out.flac"
    options = [
        "--audio-prompt",
        tmp_path / "example.wav",
        "--batch",
        2,
        "--steps",
        1,
        "--seconds",
        1,
        "-o",
        out,
    ]
    assert run("generate", "--model", tiny_folder("maf"), *options) == 0
    first, second = (read_audio(tmp_path / f"out_{n}.flac")[0] for n in (1, 2))
    assert not torch.equal(first, second)


def test_extracted_features_serve_as_the_video(tiny_folder: Any, tmp_path: Path, clip: Path) -> None:
    model, file = tiny_folder("maf"), tmp_path / "clip.safetensors"
    weights = model / "synchformer_state_dict.safetensors"
    assert run("extract", "--video", clip, "--synchformer", weights, "-o", file) == 0
    features = read_features(file)
    assert features.frames.shape == (50, 3, 224, 224)
    assert features.sync is not None
    assert features.sync.shape == (1, 240, 64)
    common = ["generate", "--model", model, "--prompt", "x", "--steps", 1, "--seconds", 1]
    assert run(*common, "--features", file, "-o", tmp_path / "a.wav") == 0
    assert run(*common, "--video", clip, "-o", tmp_path / "b.wav") == 0
    assert (tmp_path / "a.wav").read_bytes() == (tmp_path / "b.wav").read_bytes()


def test_inspect_in_words_and_in_json(tiny_folder: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("inspect", tiny_folder("turbo")) == 0
    assert "4-step student" in capsys.readouterr().out
    assert run("inspect", tiny_folder("maf"), "--json") == 0
    assert json.loads(capsys.readouterr().out)["complete"] is True


def test_loras_change_the_sound_and_strength_0_does_not(
    tiny_folder: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, file = tiny_folder("maf"), tmp_path / "rain.safetensors"
    lora = random_lora(get_pretrained_model(model)[0], trigger="zx", captions=("rain on tin",))
    write_lora(file, lora.layers, lora.info)
    sounds = []
    for loras in ([], [f"{file}:0"], [file], [f"{file}:0.5", f"{file}:.5"], [f"{file}:-1"]):
        out = tmp_path / f"{len(sounds)}.wav"
        # In fp32 on every processor: bf16 would round each half separately.
        options = ["--precision", "fp32", *(word for lora in loras for word in ("--lora", lora))]
        assert run("generate", "--model", model, "--prompt", "x", "--steps", 2, *options, "-o", out) == 0
        sounds.append(read_audio(out)[0])
    plain, off, on, halves, negative = sounds
    assert torch.equal(plain, off)
    assert all(float((wave - plain).abs().max()) > 1e-2 for wave in (on, negative, on - negative + plain))
    torch.testing.assert_close(halves, on, atol=1e-3, rtol=0)  # one step of a 16-bit file is 3e-5
    assert run("inspect", file) == 0
    output = capsys.readouterr().out
    for words in ("random-1", "for           maf (maf)", "MIT (no opt-in needed)", "rank 3", "rain on tin"):
        assert words in output
    assert run("inspect", file, "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["trigger"], report["rank"], report["alphas"]) == ("zx", 3, [2.0])
    assert len(report["layers"]) == len(lora.layers)
    assert run("inspect", model / "model.safetensors") == 1
    assert "is not a LoRA" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["-o", "out.wav", "--lora", "missing.safetensors:0.5"],
            "no file missing.safetensors. Put the LoRA",
        ),
        (
            ["-o", "out.wav", "--lora", "missing.safetensors:much"],
            "There is no file missing.safetensors:much",
        ),
        (["-o", "out.wav", "--lora", "x.safetensors:nan"], "strength of a LoRA is nan"),
        (["-o", "out.mp4"], "there is no video to add the sound to. Give --video"),
        (["-o", "out.txt"], "must end in .wav"),
        (["-o", "nowhere/out.wav"], "does not exist"),
        (["-o", "out.wav", "--video", "missing.mp4"], "missing.mp4"),
        (["-o", "out.wav", "--audio-prompt", "missing.wav"], "missing.wav"),
        (["-o", "."], "must end in"),
        (["-o", "out.wav", "--start", "3"], "--start is about a video, but there is none"),
        (["-o", "out.wav", "--features", "missing.safetensors"], "there is no file missing.safetensors"),
        (["-o", "out.wav", "--device", "gpu"], "'gpu' is not a device"),
        (["-o", "out.wav", "--seed", str(2**64)], "seed must be a whole number from 0"),
        (["-o", "out.wav", "--seconds", "999"], "duration is 999 s"),
        (["-o", "out.wav", "--steps", "-1"], "steps must be a whole number from 1 to 10000, got -1"),
        (["-o", "out.wav", "--sampler", "magic"], "no sampler called 'magic'"),
        (["-o", "out.wav", "--schedule", "magic"], "no schedule called 'magic'"),
        (["-o", "out.wav", "--preset", "magic"], "no preset called 'magic'"),
        (
            ["-o", "out.wav", "--guidance-start", "1"],
            "guidance_start is 1.0 and guidance_end 1.0: both must be from 0 to 1",
        ),
        (
            ["-o", "out.wav", "--guidance-rescale", "2"],
            "guidance_rescale (scale_phi) must be from 0 (off) to 1, got 2.0",
        ),
        (["-o", "out.wav", "--reuse-threshold", "-1"], "reuse_threshold must be from 0 (off) to 1"),
    ],
)
def test_errors_are_one_sentence_and_leave_nothing(
    options: list[str], message: str, tiny_folder: Any, tmp_path: Path, monkeypatch: Any, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run("generate", "--model", tiny_folder("maf"), "--prompt", "rain", *options) == 1
    printed = capsys.readouterr().err
    assert message in printed
    assert "Traceback" not in printed
    assert list(tmp_path.iterdir()) == []


def test_the_licence_needs_consent(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status = run(
        "generate", "--model", "AudioX-Turbo", "--models", tmp_path, "--prompt", "x", "-o", tmp_path / "x.wav"
    )
    assert status == 1
    assert "--accept-cc-by-nc" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_the_package_runs_as_a_module() -> None:
    result = subprocess.run(
        [sys.executable, "-m", "audiox_ext", "--help"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for command in ("generate", "extract", "inspect"):
        assert command in result.stdout


@pytest.fixture(scope="module")
def track(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """12 s of noise, stereo at 22.05 kHz."""
    path = tmp_path_factory.mktemp("track") / "track.wav"
    noise = 0.1 * torch.randn(2, 12 * 22050, generator=torch.Generator().manual_seed(1))
    write_audio(path, noise, 22050)
    return path


def test_edit_changes_only_the_regions(tiny_folder: Any, tmp_path: Path, track: Path) -> None:
    out = tmp_path / "out.wav"
    model = ("--model", tiny_folder("turbo"), "--prompt", "rain", "--steps", 1)
    assert run("edit", track, *model, "--region", "2-3", "--region", "7.5-8", "-o", out) == 0
    (before, _), (after, rate) = read_audio(track), read_audio(out)
    assert (after.shape, rate) == (before.shape, 22050)
    changed = (before != after).any(dim=0).nonzero()[:, 0] / rate
    assert bool((((changed >= 2) & (changed < 3)) | ((changed >= 7.5) & (changed < 8))).all())
    assert len(changed) > 1.4 * rate


def test_extend_adds_seconds(tiny_folder: Any, tmp_path: Path, track: Path) -> None:
    out = tmp_path / "out.wav"
    model = ("--model", tiny_folder("turbo"), "--prompt", "rain", "--steps", 1)
    assert run("extend", track, *model, "--seconds", 2, "--side", "before", "-o", out) == 0
    (before, _), (after, rate) = read_audio(track), read_audio(out)
    assert after.shape[-1] == before.shape[-1] + 2 * rate
    assert torch.equal(after[:, -11 * rate :], before[:, -11 * rate :])


def test_an_edit_keeps_floating_point_peaks(tiny_folder: Any, tmp_path: Path) -> None:
    loud, out = tmp_path / "loud.wav", tmp_path / "out.wav"
    noise = torch.randn(2, 4 * 22050, generator=torch.Generator().manual_seed(1))
    write_audio(loud, noise, 22050, keep_floats=True)
    model = ("--model", tiny_folder("turbo"), "--prompt", "rain", "--steps", 1)
    assert run("edit", loud, *model, "--region", "2-3", "-o", out) == 0
    assert torch.equal(read_audio(out)[0][:, : 2 * 22050], noise[:, : 2 * 22050])
    assert run("level", loud, "--peak", 0, "--force", "-o", out) == 0
    assert holds_floats(out)


def test_a_variation_and_a_timeline(
    tiny_folder: Any, tmp_path: Path, track: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.wav"
    settings = ("--init-audio", track, "--init-strength", 0.3, "--prompt", "0-5 rain\n5-end wind")
    status = run("generate", "--model", tiny_folder("turbo"), *settings, "--steps", 1, "-o", out)
    assert status == 0
    waveform, rate = read_audio(out)
    assert waveform.shape[-1] == 12 * rate
    assert "The prompt is a timeline of 2 lines" in capsys.readouterr().err


def test_view_and_level(tmp_path: Path, track: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from PIL import Image

    picture, louder = tmp_path / "picture.png", tmp_path / "louder.wav"
    assert run("view", track, "--width", 600, "--height", 400, "-o", picture) == 0
    assert Image.open(picture).size == (600, 400)
    assert run("level", track, "--peak", -3, "-o", louder) == 0
    assert float(read_audio(louder)[0].abs().max()) == pytest.approx(10 ** (-3 / 20), abs=1e-3)
    assert "LUFS" in capsys.readouterr().out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["louder.wav", "picture.png"]


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (("edit", "TRACK", "--region", "3"), "'3' is not two times"),
        (("edit", "TRACK", "--region", "3-2"), "is reversed"),
        (("edit", "TRACK", "--region", "11-13"), "not inside the audio, which is 12.000 s"),
        (("edit", "nowhere.wav", "--region", "1-2"), "there is no file nowhere.wav"),
        (("extend", "TRACK", "--seconds", "0"), "adds nothing"),
        (("generate", "--init-audio", "nowhere.wav"), "--init-audio: there is no file"),
    ],
)
def test_invalid_edits_are_explained(
    command: tuple[str, ...],
    message: str,
    track: Path,
    tmp_path: Path,
    tiny_folder: Any,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = [str(track) if word == "TRACK" else word for word in command]
    assert run(*words, "--model", tiny_folder("turbo"), "-o", tmp_path / "out.wav") == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out.wav").exists()
