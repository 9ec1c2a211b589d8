"""The demo: its report on right and wrong sounds, its film, and a whole run with the pack's model."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from audiox_ext.media.audio_video import read_audio, write_audio
from audiox_ext.media.loudness import measure_loudness, measure_peak
from audiox_ext.plotting.layout import lay_out
from pocket.synth.rendering import render
from pocket.world.animations import render_film
from pocket.world.preview import write_video
from pocket.world.random_scenes import draw_scene
from tools import demo_report
from tools.audible import LOUDNESS
from tools.film import FILM, FPS, SIZE, film_scene, write_film
from tools.picture import SIZE as PICTURE_SIZE

ROOT = Path(__file__).parents[2]
RATE = 16000


def pictures_of(file: Path) -> np.ndarray:
    import av

    with av.open(str(file)) as container:
        assert not container.streams.audio
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


@pytest.mark.slow
def test_the_film_in_the_examples_is_what_the_tool_writes(tmp_path: Path) -> None:
    assert FILM.stat().st_size <= 300_000
    drawn = render_film(film_scene(), size=SIZE, fps=FPS).astype(float)
    write_film(tmp_path / "again.mp4")
    for file in (FILM, tmp_path / "again.mp4"):
        stored = pictures_of(file)
        assert stored.shape == drawn.shape
        # Compression and 4:2:0 colours; a film that is one frame late would differ at the blows.
        assert np.abs(stored - drawn).mean() < 3
        assert np.abs(stored - drawn).mean(axis=(1, 2, 3)).max() < 4


def test_the_film_fits_into_one_piece_and_no_model_was_trained_on_it() -> None:
    scene = film_scene()
    assert len(scene.parts[0].onsets) == 4
    assert scene.seconds <= 312 * 512 / RATE
    assert scene.seed >= 2**32
    assert film_scene(5.0).parts[0].onsets == scene.parts[0].onsets[:2]


@pytest.mark.slow
@pytest.mark.parametrize(("late", "right"), [(0.0, 4), (0.2, 0)])
def test_onsets_are_compared_with_what_is_seen(
    late: float, right: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scene = film_scene()
    sound = np.roll(render(scene, RATE), round(late * RATE), axis=1)
    write_video(tmp_path / "demo.mp4", render_film(scene, size=(64, 64), fps=FPS), FPS, sound, RATE)
    demo_report.report_film(tmp_path / "demo.mp4", knows_events=True)
    output = capsys.readouterr().out
    assert f"{right} of 4 are heard within 80 ms." in output
    apart = [int(line.split()[-2]) for line in output.splitlines() if line.endswith(" ms")]
    assert len(apart) == 4
    assert np.allclose(apart, 1000 * late, atol=20)
    with Image.open(tmp_path / "demo.png") as picture:
        assert picture.size == PICTURE_SIZE


def test_events_are_marked_in_the_picture(tmp_path: Path) -> None:
    from tools.picture import draw

    sound = torch.zeros(2, 4 * RATE)
    draw(sound, RATE, tmp_path / "plain.png", title="")
    draw(sound, RATE, tmp_path / "marked.png", title="", marks=[1.0, 3.0])
    with Image.open(tmp_path / "plain.png") as plain, Image.open(tmp_path / "marked.png") as marked:
        changed = (np.array(plain) != np.array(marked)).any(axis=2)
    # The lines, without the triangles on their tips.
    columns = np.flatnonzero(changed.sum(axis=0) > 300)
    axis = lay_out(PICTURE_SIZE, channels=2).spectrum
    assert columns.tolist() == pytest.approx(
        [axis.left + place * axis.width for place in (0.25, 0.75)], abs=1
    )


@pytest.mark.parametrize(("register", "count"), [("high", 2), ("low", 3)])
def test_words_are_compared_with_what_is_heard(
    register: str, count: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scenes = (draw_scene(2**34 + number, kinds=["beep"]) for number in range(1000))
    scene = next(
        s
        for s in scenes
        if (s.parts[0].description.register, s.parts[0].description.count) == (register, count)
    )
    write_audio(tmp_path / "words.wav", torch.from_numpy(render(scene, RATE)), RATE)
    demo_report.report_words(tmp_path / "words.wav")
    lines = capsys.readouterr().out.splitlines()
    verdict = "right" if (register, count) == ("high", 2) else "WRONG"
    assert f"register  asked high  heard {register:8} {verdict}" in "\n".join(lines)
    assert f"count     asked 2     heard {count!s:8} {verdict}" in "\n".join(lines)


def test_another_videos_onsets_are_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scene = film_scene()
    write_video(
        tmp_path / "demo.mp4", render_film(scene, size=(64, 64), fps=FPS), FPS, render(scene, RATE), RATE
    )
    demo_report.report_film(tmp_path / "demo.mp4", knows_events=False)
    (line,) = re.findall(r"onsets    (.*) \(s\)", capsys.readouterr().out)
    numbers = [float(word) for word in line.split(", ")]
    assert numbers == pytest.approx(scene.parts[0].onsets, abs=0.03)


@pytest.fixture(scope="module")
def demo_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The demo's folder and what it printed, on a machine with no model and no network."""
    out = tmp_path_factory.mktemp("demo")
    env = {**os.environ, "PYTHONPATH": str(ROOT), "AUDIOX_MODELS": str(out / "none"), "HF_HUB_OFFLINE": "1"}
    call = [sys.executable, str(ROOT / "tools" / "demo.py"), "--out", str(out)]
    done = subprocess.run(call, capture_output=True, text=True, env=env, cwd=out, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    return out, done.stdout


@pytest.mark.slow
def test_it_makes_a_sound_and_a_film_without_anything_else(demo_run: tuple[Path, str]) -> None:
    out, output = demo_run
    assert {path.name for path in out.iterdir()} == {"demo.mp4", "demo.png", "words.png", "words.wav"}
    assert read_audio(out / "words.wav")[0].shape == (2, 312 * 512)
    assert read_audio(out / "demo.mp4")[0].shape[1] / RATE == pytest.approx(film_scene().seconds, abs=0.1)
    assert output.count("on screen") == 1


@pytest.mark.slow
@pytest.mark.parametrize("name", ["words.wav", "demo.mp4"])
def test_its_sounds_are_audible_and_do_not_clip(name: str, demo_run: tuple[Path, str]) -> None:
    sound, rate = read_audio(demo_run[0] / name)
    assert measure_loudness(sound, rate) == pytest.approx(LOUDNESS, abs=0.2)
    assert measure_peak(sound) <= -1


@pytest.mark.slow
def test_its_sounds_match_the_request(demo_run: tuple[Path, str]) -> None:
    _, output = demo_run
    assert "WRONG" not in output
    assert re.search(r"[34] of 4 are heard within 80 ms\.", output)
