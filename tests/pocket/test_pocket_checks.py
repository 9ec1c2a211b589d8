"""The measures by which the examples of the pack's own model are judged tell right sounds from wrong ones."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from pocket_checks import CHECKS, RATE

from pocket.synth.rendering import render
from pocket.world.random_scenes import draw_scene
from pocket.world.scenes import Description, Scene
from tools.film import film_scene
from tools.workflows.examples import WORKFLOWS

pytestmark = pytest.mark.slow  # a classifier is fitted


def scene_of(kind: str, **asked: object) -> Scene:
    """The first scene of 10 s of which this is said, whatever else."""
    for seed in range(2**34, 2**34 + 2000):
        scene = draw_scene(seed, kinds=[kind])
        if all(getattr(scene.parts[0].description, name) == value for name, value in asked.items()):
            return scene
    raise AssertionError(f"No scene of {kind} has {Description(**asked)}.")


def sound_of(kind: str, **asked: object) -> np.ndarray:
    return render(scene_of(kind, **asked), RATE)


def edited() -> np.ndarray:
    """Soft rain, with a loud high tone from 1.5 to 3 s and from 5 to 6.5 s."""
    sound, tone = sound_of("rain", loudness="quiet"), sound_of("tone", register="high", loudness="loud")
    for start, end in ((1.5, 3.0), (5.0, 6.5)):
        part = slice(round(start * RATE), round(end * RATE))
        sound[:, part] = tone[:, part]
    return sound


def drums() -> np.ndarray:
    return sound_of("drums", tempo=120)


TRUE: dict[str, Callable[[], np.ndarray]] = {
    "pocket_audio_prompt": lambda: sound_of("bell", count=3),
    "pocket_continuation": lambda: np.concatenate([drums(), drums()], axis=1),
    "pocket_inpainting": edited,
    "pocket_text_to_audio": lambda: sound_of("beep", register="high", count=2),
    "pocket_text_to_music": lambda: sound_of("chord", note="C", quality="major"),
    "pocket_timeline": lambda: np.concatenate([sound_of("rain"), sound_of("siren", pace="slow")], axis=1),
    "pocket_variation": lambda: sound_of("bell", count=3, register="low"),
    "pocket_video_to_audio": lambda: render(film_scene(), RATE),
}
FALSE: dict[str, Callable[[], np.ndarray]] = {
    "pocket_audio_prompt": drums,
    "pocket_continuation": lambda: np.concatenate([drums(), 0.01 * drums()], axis=1),
    "pocket_inpainting": lambda: sound_of("rain", loudness="quiet"),
    "pocket_text_to_audio": lambda: sound_of("beep", register="low", count=2),
    "pocket_text_to_music": lambda: sound_of("chord", note="C", quality="minor"),
    "pocket_timeline": lambda: np.concatenate([sound_of("siren"), sound_of("rain")], axis=1),
    "pocket_variation": lambda: sound_of("rain"),
    "pocket_video_to_audio": lambda: np.roll(render(film_scene(), RATE), RATE // 2, axis=1),
}


def test_every_example_of_the_packs_model_is_judged() -> None:
    twins = {workflow.name for workflow in WORKFLOWS if workflow.name.startswith("pocket_")}
    assert twins == CHECKS.keys() == TRUE.keys() == FALSE.keys()


@pytest.mark.parametrize("name", CHECKS)
def test_a_true_sound_passes(name: str) -> None:
    CHECKS[name](TRUE[name]())


@pytest.mark.parametrize("name", CHECKS)
def test_a_wrong_sound_does_not(name: str) -> None:
    with pytest.raises(AssertionError):
        CHECKS[name](FALSE[name]())
