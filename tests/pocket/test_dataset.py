"""The synthesised data: the same on every run, clean, in time, and described by words that fit."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from audiox_ext.errors import InputError
from audiox_ext.media.audio_video import read_audio, read_soundtrack
from audiox_ext.random_numbers import keyed_generator
from pocket.__main__ import main
from pocket.captions.captions import caption, is_held_out
from pocket.captions.enrichment import enrich_description
from pocket.metrics.analysis import onsets, peak_rms_dbfs, stereo_balance
from pocket.metrics.measures import judge
from pocket.synth.rendering import CEILING, render
from pocket.world import animations
from pocket.world.animations import FILM_KINDS, render_film
from pocket.world.dataset import GENERIC_PROMPT, SPLITS, Dataset
from pocket.world.kinds import HELD_OUT_KINDS, KINDS, KNOWN_KINDS, note_pitch, pitch_class
from pocket.world.random_scenes import LOUDNESS_DBFS, draw_scene
from pocket.world.scenes import Description, Event, Part, Scene

ROOT = Path(__file__).parents[2]
RATE = 16000
FIRST_SCENES = [
    (("rain",), 1, 0.593),
    (("drums",), 32, 0.2964),
    (("footsteps",), 20, 0.0706),
    (("clock",), 9, 0.1765),
]
FIRST_CAPTIONS = [
    "faint rainfall pours",
    "A drum loop plays",
    "Only a pair of boots on a floor",
    "A wall clock ticks to the right unhurriedly.",
]
# What must be in a caption for an attribute, written independently of the code:
# correct words, and words of the opposite.
MENTIONS: dict[tuple[str, object], tuple[str, str]] = {
    ("register", "high"): (r"\bhigh", r"\blow|\bdeep"),
    ("register", "low"): (r"\blow|\bdeep", r"\bhigh"),
    ("loudness", "loud"): (r"\bloud|\bstrong|full force", r"\bquiet|\bsoft|\bfaint|low volume"),
    ("loudness", "quiet"): (r"\bquiet|\bsoft|\bfaint|low volume", r"\bloud|\bstrong|full force"),
    ("pace", "fast"): (r"\bfast|\bquick|\brapid", r"\bslow|leisurely|unhurried"),
    ("pace", "slow"): (r"\bslow|leisurely|unhurried", r"\bfast|\bquick|\brapid"),
    ("motion", "rising"): (
        r"rising|ascending|going up|climbing|accelerating|speeding|revving|getting faster",
        r"falling|descending|going down|sinking|decelerating|slowing|losing|winding",
    ),
    ("motion", "falling"): (
        r"falling|descending|going down|sinking|decelerating|slowing|losing|winding",
        r"rising|ascending|going up|climbing|accelerating|speeding|revving|getting faster",
    ),
    ("side", "left"): (r"\bleft\b", r"\bright\b"),
    ("side", "right"): (r"\bright\b", r"\bleft\b"),
    ("count", 1): (r"\bonce\b|\bone\b|\bsingle\b", r"\btwice\b|\bthrice\b|\btimes\b"),
    ("count", 2): (r"\btwice\b|\btwo\b|\bpair of\b", r"\bonce\b|\bthree\b|\bfour\b"),
    ("count", 3): (r"\bthree\b|\bthrice\b", r"\bonce\b|\btwo\b|\bfour\b"),
    ("count", 4): (r"\bfour\b", r"\bonce\b|\btwo\b|\bthree\b"),
    ("quality", "major"): (r"\bmajor\b", r"\bminor\b"),
    ("quality", "minor"): (r"\bminor\b", r"\bmajor\b"),
}


def scenes(kind: str, count: int, seconds: float = 10.0) -> Iterator[Scene]:
    """Held-out scenes of one kind."""
    return (
        draw_scene(SPLITS["held out"].start + seed, seconds=seconds, kinds=[kind]) for seed in range(count)
    )


@pytest.mark.parametrize("rate", [8000, 16000, 44100])
@pytest.mark.parametrize("kind", KINDS)
def test_sounds_are_clean(kind: str, rate: int) -> None:
    for scene in scenes(kind, 2, 4.0):
        sound = render(scene, rate)
        assert sound.shape == (2, 4 * rate)
        assert sound.dtype == np.float32
        assert np.isfinite(sound).all()
        assert 0.005 < np.abs(sound).max() <= CEILING + 1e-6
        assert np.abs(sound.mean(axis=1)).max() < 1e-4  # no constant part
        assert np.abs(sound[:, :8]).max() < 1e-3  # begins and ends in silence, or softly
        assert np.abs(sound[:, -8:]).max() < 1e-3
        first = round(scene.parts[0].onsets[0] * rate)
        assert np.abs(sound[:, : max(1, first - 2)]).max() < 1e-6  # nothing sounds before it begins


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_sounds_have_the_level_that_the_scene_says(kind: str) -> None:
    for scene in scenes(kind, 4):
        wanted, heard = scene.parts[0].peak_rms_dbfs, peak_rms_dbfs(render(scene, RATE), RATE)
        # Only short sounds that are loud are softer, since they would clip.
        lowest = 3.0 if scene.parts[0].description.loudness == "loud" else 0.3
        assert -lowest <= heard - wanted <= 0.3, scene


def test_direction_has_both_cues() -> None:
    """The near ear hears more, and it hears it first."""
    for kind in ("click", "knock", "bell", "tone"):
        for pan in (-0.9, 0.9):
            event = Event(onset=0.5, duration=1.0, pitch=440.0, end_pitch=440.0, pan=pan, variant="pure")
            part = Part(kind=kind, description=Description(), events=(event,), peak_rms_dbfs=-20.0, seed=3)
            sound = render(Scene(seconds=2.0, parts=(part,)), 48000)
            assert stereo_balance(sound) * pan > 5
            left, right = sound[:, round(0.49 * 48000) : round(0.6 * 48000)]
            lags = np.arange(-40, 41)
            products = [float(np.dot(left[50:-50], np.roll(right, -lag)[50:-50])) for lag in lags]
            lag = lags[int(np.argmax(products))] / 48000  # seconds by which the right ear is later
            assert lag * -pan > 0.0003, (kind, pan, lag)


@pytest.mark.slow
def test_an_item_depends_on_its_number_alone() -> None:
    """In another order, in another part of the split, and in another process."""
    dataset = Dataset("held out", rate=RATE, seconds=4.0, size=(64, 48), film_fraction=0.5, length=12)
    items = [dataset[index] for index in range(12)]
    for index in reversed(range(12)):
        later = Dataset("held out", rate=RATE, seconds=4.0, size=(64, 48), film_fraction=0.5, first=index)
        assert np.array_equal(later[0].waveform, items[index].waveform)
        assert (later[0].scene, later.caption(0)) == (items[index].scene, items[index].caption)
    assert any(item.frames is not None for item in items)
    code = (
        "import zlib; from pocket.world.dataset import Dataset\n"
        "d = Dataset('held out', rate=16000, seconds=4.0, size=(64, 48), film_fraction=0.5, length=12)\n"
        "print([(i.caption, zlib.crc32(i.waveform.tobytes()), i.frames is not None and zlib.crc32("
        "i.frames.tobytes())) for i in d])"
    )
    call = [sys.executable, "-c", code]
    told = [
        subprocess.run(call, capture_output=True, text=True, check=True, cwd=ROOT).stdout for _ in range(2)
    ]
    assert told[0] == told[1]
    assert all(repr(item.caption) in told[0] for item in items)


def test_the_numbers_are_those_of_every_platform() -> None:
    """The data do not depend on the machine; a change here is a new version of the data."""
    dataset = Dataset("held out", rate=RATE)
    drawn = [dataset.scene(index) for index in range(4)]
    assert [(s.kinds, len(s.parts[0].events), round(s.parts[0].onsets[0], 4)) for s in drawn] == FIRST_SCENES
    assert [dataset.caption(index) for index in range(4)] == FIRST_CAPTIONS


def test_the_splits_share_neither_seeds_nor_wordings_nor_kinds() -> None:
    training, held_out = (Dataset(split, film_fraction=0.2) for split in SPLITS)
    assert SPLITS["training"].stop <= SPLITS["held out"].start
    seen = [training.caption(index) for index in range(4000)]
    kept = [held_out.caption(index) for index in range(600)]
    assert not any(is_held_out(text) for text in seen if text != GENERIC_PROMPT)
    assert all(is_held_out(text) for text in kept if text != GENERIC_PROMPT)
    words = [
        {word for text in texts for word in re.findall(r"[a-z#/']+", text.lower())} for texts in (seen, kept)
    ]
    assert not words[1] - words[0]  # the words themselves are known
    for dataset in (training, held_out):
        kinds = {kind for index in range(600) for kind in dataset.scene(index).kinds}
        assert kinds == set(KNOWN_KINDS)
        assert not kinds & set(HELD_OUT_KINDS)
    assert Dataset("held out", kinds=HELD_OUT_KINDS).scene(0).kinds == ("frog",)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_has_hundreds_of_wordings(kind: str) -> None:
    texts = {
        caption(scene, keyed_generator(number, 9)).lower().rstrip(".")
        for number, scene in enumerate(scenes(kind, 800))
    }
    assert len(texts) > 300
    one = {caption(draw_scene(5, kinds=[kind]), keyed_generator(n)).lower().rstrip(".") for n in range(600)}
    assert len(one) > 40  # of one and the same thing


@pytest.mark.slow
def test_more_is_told_of_the_same_sound_and_it_is_true() -> None:
    findings = []
    for kind in ("tone", "chord", "beep", "bell", "knock", "lamp"):
        added = 0
        for number, scene in enumerate(scenes(kind, 40)):
            told = enrich_description(scene, keyed_generator(number, 9))
            assert told.with_description(**vars(scene.parts[0].description)) == scene
            before, after = vars(scene.parts[0].description), vars(told.parts[0].description)
            assert all(after[name] == value for name, value in before.items() if value is not None)
            if after != before:
                added += 1
                findings += judge(told, render(told, RATE), RATE)
        assert 5 <= added <= 35, kind
    assert sum(finding.right for finding in findings) >= 0.97 * len(findings)


def test_other_variants_of_a_caption_may_say_more() -> None:
    dataset = Dataset("training", kinds=("beep",), film_fraction=0.0, then_fraction=0.0, with_fraction=0.0)
    index = next(
        i for i in range(200) if dataset.scene(i).parts[0].description == Description(register="high")
    )
    count = len(dataset.scene(index).parts[0].onsets)
    said = [
        bool(re.search(MENTIONS["count", count][0], dataset.caption(index, variant), re.I))
        for variant in range(40)
    ]
    assert not said[0]
    assert 5 <= sum(said) <= 35


@pytest.mark.parametrize("kind", KINDS)
def test_captions_say_what_is_asked_and_not_its_opposite(kind: str) -> None:
    said = 0
    for number, scene in enumerate(scenes(kind, 120)):
        text = caption(scene, keyed_generator(number, 9))
        asked = scene.parts[0].description
        for name, value in vars(asked).items():
            right, wrong = MENTIONS.get((name, value), (None, None))
            if right is None or wrong is None:
                continue
            said += 1
            checked = text.replace("low volume", "") if name == "register" else text
            assert re.search(right, checked, re.I), (name, value, text)
            if not (name == "motion" and kind == "engine" and asked.pace):
                assert not re.search(wrong, checked, re.I), (name, value, text)
        if asked.note:
            assert re.search(
                rf"\b{asked.note[0]}( sharp|#)" if "#" in asked.note else rf"\b{asked.note}\b", text
            )
        if asked.tempo:
            assert str(asked.tempo) in text
        assert not re.search(r"\ba [aeiou]|\ban [^aeiouAEF]|  |\{|None", text), text
        assert text == text.strip()
    assert said > 20


def test_the_order_of_two_sounds_is_said() -> None:
    for seed in range(60):
        scene = draw_scene(seed, kinds=["rain", "click"], arrangement="then")
        text = caption(scene, keyed_generator(seed, 9)).lower()
        rain = re.search(r"rain", text)
        click = re.search(r"click|snap|switch|button", text)
        assert rain is not None
        assert click is not None
        in_order = (rain.start() < click.start()) == (scene.kinds[0] == "rain")
        assert in_order == (" after " not in text or "after that" in text), (scene.kinds, text)


def test_two_sounds_take_turns_or_share_the_time() -> None:
    for seed in range(10):
        scene = draw_scene(seed, kinds=["rain", "click"], arrangement="then")
        first, second = scene.parts
        ends = [event.onset + event.duration for event in first.events]
        assert max(ends) < second.onsets[0]
        both = draw_scene(seed, kinds=["rain", "click"], arrangement="with")
        assert both.kinds == ("click", "rain")
        assert both.parts[1].peak_rms_dbfs < both.parts[0].peak_rms_dbfs - 10
        assert both.parts[1].description.loudness is None


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_a_count_that_is_asked_is_a_count_of_events(count: int) -> None:
    for name, kind in KINDS.items():
        if kind.countable:
            found = [s.parts[0] for s in scenes(name, 60, 5.0) if s.parts[0].description.count == count]
            assert found
            for part in found:
                assert len(part.events) == count
                assert all(0 <= e.onset and e.onset + 0.05 < 5.0 for e in part.events)
                assert all(gap > 0.25 for gap in np.diff(part.onsets))


@pytest.mark.slow
@pytest.mark.parametrize("kind", FILM_KINDS)
def test_pictures_show_the_event_when_it_is_heard(kind: str) -> None:
    """The lamp is bright, and ball, hammer and mark are lowest, in the first picture of each event."""
    for seed in range(3):
        scene = draw_scene(seed, seconds=6.0, kinds=[kind], film=True)
        pictures = render_film(scene, size=(112, 112), fps=50.0)
        assert pictures.shape == (300, 112, 112, 3)
        assert pictures.dtype == np.uint8
        colour = (245, 245, 235) if kind == "wheel" else animations._look(scene.seed).thing
        if kind == "lamp":
            heights = pictures.mean(axis=(1, 2, 3))  # as bright as high
            for event in scene.parts[0].events:
                at = math.ceil(event.onset * 50)
                assert heights[at] > 1.5 * heights[at - 1], seed
            continue
        near = np.abs(pictures.astype(int) - np.array(colour)).max(axis=3) < 30
        rows = np.arange(112)[None, :, None]
        height = -(near * rows).sum(axis=(1, 2)) / np.maximum(near.sum(axis=(1, 2)), 1)
        for onset in scene.parts[0].onsets:
            at = round(onset * 50)
            around = height[max(0, at - 8) : at + 9]
            if len(around) == 17:
                # Never is it lower than at the event by more than a pixel's worth, and it was higher.
                assert height[at - 1 : at + 2].min() <= around.min() + 0.6, (seed, onset)
                assert around.max() > height[at - 1 : at + 2].min() + 3, (seed, onset)


def test_pictures_differ_from_film_to_film() -> None:
    looks = [
        render_film(draw_scene(s, seconds=2.0, kinds=["ball"], film=True), size=(64, 48))[0] for s in range(8)
    ]
    means = np.array([look.mean(axis=(0, 1)) for look in looks])
    assert means.std(axis=0).min() > 10  # of 255
    assert looks[0].shape == (48, 64, 3)


def test_making_sounds_is_fast() -> None:
    """Twenty times real time, on one core; what is measured is some four hundred."""
    drawn = [next(scenes(kind, 1)) for kind in KINDS]
    for scene in drawn:
        render(scene, 24000)  # libraries are loaded
    begin = time.process_time()
    for scene in drawn:
        render(scene, 24000)
    assert (time.process_time() - begin) * 20 < 10.0 * len(drawn)


def test_notes_and_pitches() -> None:
    assert note_pitch("A", 4) == 440
    assert note_pitch("C", 4) == pytest.approx(261.626, abs=1e-3)
    assert [pitch_class(p) for p in (440, 452, 455, 61.74, 4186)] == ["A", "A", "A#", "B", "C"]


def test_a_scene_survives_json() -> None:
    scene = draw_scene(4, kinds=list(KINDS), arrangement="then")
    assert Scene.from_dict(json.loads(json.dumps(scene.as_dict()))) == scene
    with pytest.raises(InputError, match="does not describe a scene"):
        Scene.from_dict({"seconds": 3})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"split": "test"}, "no split 'test'"),
        ({"kinds": ("bell", "tuba")}, "no kind of sound 'tuba'"),
        ({"kinds": ()}, "No kind"),
        ({"film_fraction": 1.5}, "film_fraction is 1.5"),
        ({"film_fraction": 1.0, "kinds": ("rain",)}, "Videos alone"),
        ({"then_fraction": 0.7, "with_fraction": 0.7}, "more than all"),
        ({"rate": 4000}, "at least 2 s at 8000 Hz"),
        ({"seconds": 0.5}, "at least 2 s"),
        ({"first": -1}, "Items -1"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Dataset(**{"split": "training", **settings})


def test_numbers_past_the_end_are_refused() -> None:
    with pytest.raises(IndexError, match="no item 3"):
        Dataset("training", length=3)[3]
    assert len(list(Dataset("training", length=3, seconds=2.0, film_fraction=0.0))) == 3


def test_the_command_writes_what_can_be_heard_and_seen(tmp_path: Path) -> None:
    out = tmp_path / "set"
    call = ["dataset", str(out), "--count", "2", "--seconds", "4", "--videos", "1", "--kinds", "hammer"]
    assert main(call) == 0
    for number in range(2):
        truth = json.loads((out / f"{number:05d}.json").read_text(encoding="utf-8"))
        assert (out / f"{number:05d}.txt").read_text(encoding="utf-8").strip() == truth["caption"]
        assert (out / f"{number:05d}.png").is_file()
        track = read_soundtrack(out / f"{number:05d}.mp4")
        assert track is not None
        sound, rate, begin = track
        heard = onsets(sound.numpy(), rate).times + begin
        for onset in Scene.from_dict(truth["scene"]).parts[0].onsets:
            assert np.abs(heard - onset).min() < 0.04  # in the file, too
    call = ["dataset", str(out), "--count", "1", "--seconds", "2", "--videos", "0", "--no-pictures"]
    assert main([*call, "--first", "7", "--split", "held-out"]) == 0
    sound, rate = read_audio(out / "00007.wav")
    assert (tuple(sound.shape), rate) == ((2, 32000), 16000)


def test_the_help_names_both_commands() -> None:
    result = subprocess.run(
        [sys.executable, "-m", "pocket", "--help"], cwd=ROOT, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    assert "python -m pocket" in result.stdout
    assert {"dataset", "train"} <= set(re.findall(r"[a-z]+", result.stdout))


def test_the_command_refuses_a_file_and_an_unknown_kind(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    assert main(["dataset", str(tmp_path / "file"), "--count", "1"]) == 1
    assert "is a file" in capsys.readouterr().err
    assert main(["dataset", str(tmp_path / "x"), "--kinds", "tuba"]) == 1
    assert "'tuba'" in capsys.readouterr().err


def test_the_levels_of_words_are_far_apart() -> None:
    assert LOUDNESS_DBFS["loud"] - LOUDNESS_DBFS[None] == LOUDNESS_DBFS[None] - LOUDNESS_DBFS["quiet"] == 10
