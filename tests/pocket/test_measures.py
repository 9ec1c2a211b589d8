"""Measures agree with the scene of a synthesised sound, and reject wrong sounds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest

from audiox_ext.errors import InputError
from pocket.metrics import analysis
from pocket.metrics.classifier import Classifier, fit_classifier, train_classifier
from pocket.metrics.distances import (
    diversity,
    embed_sounds,
    frechet_distance,
    spectral_distance,
    spectral_statistics,
)
from pocket.metrics.measures import Finding, judge, scores
from pocket.metrics.sound_features import extract_features, feature_count
from pocket.synth.rendering import render
from pocket.world.animations import FILM_KINDS
from pocket.world.dataset import SPLITS, Dataset
from pocket.world.kinds import KINDS, KNOWN_KINDS, NOISES, pitch_class
from pocket.world.random_scenes import draw_scene
from pocket.world.scenes import Description, Scene

RATE = 16000
# The share that is right of what the generator made, and what a model that makes noise may get by luck.
LIMITS = {
    "pitch class": (0.98, 0.25),
    "register": (0.99, 0.75),
    "chord": (0.95, 0.2),
    "motion": (0.98, 0.75),
    "loudness": (0.97, 0.1),
    "direction": (0.99, 0.1),
    "count": (0.95, 0.4),
    "pace": (0.97, 0.6),
    "tempo": (0.95, 0.15),
}
# The kinds that are asked for with these words.
ASKED_OF: dict[str, tuple[str, ...]] = {
    "pitch class": ("tone", "beep", "bell"),
    "register": ("tone", "beep", "bell", "melody", "engine"),
    "chord": ("chord",),
    "motion": ("sweep", "melody", "engine"),
    "loudness": KNOWN_KINDS,
    "direction": KNOWN_KINDS,
    "count": ("beep", "bell", "click", "knock", "birds", "lamp", "hammer", "ball", "frog"),
    "pace": ("drums", "clock", "footsteps", "siren", "wheel"),
    "tempo": ("drums", "clock"),
}


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    return train_classifier(RATE, examples=12)


def held_out(kinds: Sequence[str], count: int, *, measure: str = "", film: bool = False) -> list[Scene]:
    """So many scenes of these kinds in turn; with a measure only those that ask for it."""
    attribute = {"pitch class": "note", "chord": "quality", "direction": "side"}.get(measure, measure)
    found: list[Scene] = []
    seed = SPLITS["held out"].start
    while len(found) < count:
        scene = draw_scene(seed, kinds=[kinds[len(found) % len(kinds)]], film=film)
        seed += 1
        if not attribute or getattr(scene.parts[0].description, attribute) is not None:
            found.append(scene)
    return found


def noise(seed: int = 0, seconds: float = 10.0) -> np.ndarray:
    """White: what an untrained model is taken for."""
    samples = round(seconds * RATE)
    return 0.05 * np.random.default_rng(seed).standard_normal((2, samples), dtype=np.float32)


def only(measure: str, findings: Sequence[Finding]) -> list[Finding]:
    return [finding for finding in findings if finding.measure == measure]


@pytest.mark.slow
@pytest.mark.parametrize("measure", LIMITS)
def test_what_was_asked_is_measured_and_noise_does_not_have_it(measure: str) -> None:
    right, lucky, hiss = [], [], noise()
    for scene in held_out(ASKED_OF[measure], 48, measure=measure):
        right += only(measure, judge(scene, render(scene, RATE), RATE))
        lucky += only(measure, judge(scene, hiss, RATE))
    at_least, at_most = LIMITS[measure]
    share = scores(right)[measure].fraction
    assert share >= at_least, [finding for finding in right if not finding.right]
    assert scores(lucky)[measure].fraction <= at_most


@pytest.mark.slow
@pytest.mark.parametrize("measure", ["pitch class", "count", "tempo", "register"])
def test_measures_bear_noise_such_as_models_leave(measure: str) -> None:
    findings = []
    for number, scene in enumerate(held_out(ASKED_OF[measure], 24, measure=measure)):
        sound = render(scene, RATE)
        hiss = noise(number) * (float(np.abs(sound).max()) * 20 * 10 ** (-45 / 20))  # 45 dB below the peak
        findings += only(measure, judge(scene, sound + hiss, RATE))
    assert scores(findings)[measure].fraction >= 0.9, [finding for finding in findings if not finding.right]


@pytest.mark.slow
def test_kinds_are_told_apart(classifier: Classifier) -> None:
    """Nine in ten, of seeds that it was not fitted to; of the noises alone as well."""
    drawn = held_out(tuple(KINDS), 6 * len(KINDS))
    right = [classifier.classify(render(scene, RATE), RATE) == scene.kinds[0] for scene in drawn]
    assert np.mean(right) >= 0.9
    right = [
        classifier.classify(render(scene, RATE), RATE, NOISES) == scene.kinds[0]
        for scene in held_out(NOISES, 30)
    ]
    assert np.mean(right) >= 0.95
    guesses = {classifier.classify(noise(seed), RATE) for seed in range(4)}
    assert guesses == {"white noise"}  # so that all else is wrong for a model that makes noise


@pytest.mark.slow
def test_kinds_are_told_apart_after_a_codec_that_the_classifier_knows() -> None:
    """Hardly fewer than before it; by one that has never heard what it does, hardly half of them."""
    kinds = ("beep", "click", "clock", "footsteps", "knock", "rain", "siren", "surf")

    def hissing(sound: np.ndarray) -> np.ndarray:
        return sound + 2 * float(np.abs(sound).max()) * noise(0)[:, : sound.shape[1]]

    deaf, used_to_it = (
        train_classifier(RATE, examples=12, kinds=kinds, codec=codec) for codec in (None, hissing)
    )
    sounds = [(scene.kinds[0], render(scene, RATE)) for scene in held_out(kinds, 32)]

    def right(classifier: Classifier, codec: Callable[[np.ndarray], np.ndarray] = lambda x: x) -> float:
        return float(np.mean([classifier.classify(codec(sound), RATE) == kind for kind, sound in sounds]))

    assert right(deaf, hissing) < 0.6
    assert right(used_to_it, hissing) >= 0.75
    assert right(used_to_it) >= 0.9


@pytest.mark.slow
def test_the_order_of_two_sounds_is_heard(classifier: Classifier) -> None:
    right = wrong = 0
    for seed in range(24):
        scene = draw_scene(SPLITS["held out"].start + seed, kinds=list(KNOWN_KINDS), arrangement="then")
        sound = render(scene, RATE)
        middle = sound.shape[1] // 2
        swapped = np.concatenate([sound[:, middle:], sound[:, :middle]], axis=1)
        right += judge(scene, sound, RATE, classifier)[0].right
        wrong += judge(scene, swapped, RATE, classifier)[0].right
    assert right >= 23
    assert wrong <= 1


@pytest.mark.slow
def test_onsets_are_those_of_the_picture() -> None:
    findings, late, lucky = [], [], []
    for scene in held_out(FILM_KINDS, 24, film=True):
        sound = render(scene, RATE)
        findings += only("onsets", judge(scene, sound, RATE, onset_tolerance=0.04))
        delayed = np.roll(sound, round(0.13 * RATE), axis=1)
        late += only("onsets", judge(scene, delayed, RATE, onset_tolerance=0.08))
        lucky += only("onsets", judge(scene, noise(), RATE))
    score = scores(findings)["onsets"]
    assert score.fraction >= 0.95
    assert score.error is not None
    assert score.error < 0.005
    assert scores(late)["onsets"].fraction < 0.2
    assert scores(lucky)["onsets"].fraction < 0.1


def test_wrong_sounds_are_found_out() -> None:
    """Each is the right one but for one thing."""
    scene = held_out(["beep"], 1, measure="count")[0]
    part = scene.parts[0]
    scene = replace(
        scene,
        parts=(
            replace(
                part,
                description=Description(count=2, side="left", loudness="loud", note="A", register="high"),
            ),
        ),
    )
    high = tuple(
        replace(event, onset=onset, pitch=880.0, end_pitch=880.0, duration=0.3, pan=-0.8, gain=0.0)
        for event, onset in zip((part.events[0],) * 2, (1.0, 2.2), strict=True)
    )
    part = replace(scene.parts[0], events=high, peak_rms_dbfs=-13.0)
    right = render(replace(scene, parts=(part,)), RATE)
    assert all(finding.right for finding in judge(scene, right, RATE))

    def heard(sound: np.ndarray) -> set[str]:
        return {finding.measure for finding in judge(scene, sound, RATE) if not finding.right}

    lower = tuple(replace(event, pitch=220.0, end_pitch=220.0) for event in high)
    other = tuple(replace(event, pitch=932.33, end_pitch=932.33) for event in high)
    more = (*high, replace(high[0], onset=4.0))
    assert heard(right[::-1]) == {"direction"}
    assert heard(right * 10 ** (-20 / 20)) == {"loudness"}
    for events, wrong in ((lower, "register"), (other, "pitch class"), (more, "count"), (high[:1], "count")):
        changed = render(replace(scene, parts=(replace(part, events=events),)), RATE)
        assert heard(changed) == {wrong}
    silence = np.zeros_like(right)
    assert heard(silence) == {"count", "direction", "loudness", "pitch class", "register"}


@pytest.mark.slow
def test_two_sounds_at_once_are_not_judged(classifier: Classifier) -> None:
    scene = draw_scene(1, kinds=["rain", "bell"], arrangement="with")
    assert judge(scene, render(scene, RATE), RATE, classifier) == ()


@pytest.mark.parametrize("rate", [8000, 22050, 44100])
def test_measures_do_not_depend_on_the_rate(rate: int) -> None:
    for name in ("bell", "drums", "tone"):
        scene = held_out([name], 1)[0]
        sound = render(scene, rate)
        heard = analysis.onsets(sound, rate).times
        for onset in scene.parts[0].onsets:
            assert np.abs(heard - onset).min() < 0.02
        if name != "drums":
            found = analysis.pitch(sound, rate, 100, 1800)
            assert found is not None
            assert pitch_class(found) == pitch_class(scene.parts[0].events[0].pitch)


def test_tempo_survives_a_beat_that_is_missing() -> None:
    sound = np.zeros(10 * RATE, dtype=np.float32)
    for beat in range(18):
        if beat not in (4, 9):
            place = round((0.3 + beat * 0.5) * RATE)
            sound[place : place + 800] = noise(beat, 0.05)[0] * np.exp(-np.arange(800) / 100)
    assert analysis.tempo(sound, RATE) == pytest.approx(120, rel=0.01)
    assert analysis.tempo(sound[: RATE // 2], RATE) is None


@pytest.mark.slow
def test_silence_is_measured_without_trouble(classifier: Classifier) -> None:
    silence = np.zeros((2, RATE), dtype=np.float32)
    assert analysis.onsets(silence, RATE).times.size == 0
    assert analysis.count_events(silence, RATE) == 0
    assert analysis.pitch(silence, RATE) is None
    assert analysis.pitch_slope(silence, RATE) is None
    assert analysis.chord(silence, RATE) is None
    assert analysis.swings_per_minute(silence, RATE) is None
    assert analysis.peak_rms_dbfs(silence, RATE) == -np.inf
    assert analysis.stereo_balance(silence) == 0
    assert extract_features(silence, RATE).shape == (feature_count(),)
    assert classifier.classify(silence, RATE) in KINDS


def test_features_do_not_depend_on_the_level() -> None:
    sound = render(held_out(["rain"], 1)[0], RATE)
    assert np.allclose(extract_features(sound, RATE), extract_features(0.1 * sound, RATE), atol=1e-3)
    assert len(extract_features(sound, RATE)) == feature_count()


@pytest.mark.slow
def test_distances_order_sets_as_they_should(classifier: Classifier) -> None:
    """Data are nearer to other data than duller data, and those nearer than noise."""
    dataset = Dataset("held out", rate=RATE, film_fraction=0.0, with_fraction=0.0, then_fraction=0.0)
    sounds = [render(dataset.scene(index), RATE) for index in range(80)]
    some, others = sounds[:40], sounds[40:]
    dull = [np.cumsum(sound - sound.mean(axis=1, keepdims=True), axis=1) * 0.2 for sound in some]
    sets = {"data": some, "dull": dull, "noise": [noise(seed) for seed in range(40)]}
    told = spectral_statistics(others, RATE)
    spectral = {name: spectral_distance(spectral_statistics(s, RATE), told) for name, s in sets.items()}
    assert spectral["data"] < 0.6 * spectral["dull"]
    assert spectral["data"] < 0.4 * spectral["noise"]
    aim = embed_sounds(others, RATE, classifier)
    frechet = {name: frechet_distance(embed_sounds(s, RATE, classifier), aim) for name, s in sets.items()}
    assert frechet["data"] < 0.6 * frechet["dull"]
    assert frechet["data"] < 0.2 * frechet["noise"]
    assert frechet_distance(aim, aim) == pytest.approx(0, abs=1e-6)


def test_frechet_distance_of_known_distributions() -> None:
    """|m|^2 + tr(A + B - 2 sqrt(AB)), by dimension: 1 apart, deviations 1 and 3, gives 1 + (3 - 1)^2."""
    random = np.random.default_rng(0)
    one = random.standard_normal((200_000, 2))
    other = 3 * random.standard_normal((200_000, 2)) + 1
    assert frechet_distance(one, other) == pytest.approx(5.0, rel=0.02)


@pytest.mark.slow
def test_diversity_is_nothing_for_equal_sounds(classifier: Classifier) -> None:
    sounds = [render(scene, RATE) for scene in held_out(["bell"], 4)]
    assert diversity([sounds[0]] * 3, RATE, classifier) == 0
    assert diversity(sounds, RATE, classifier) > 0.3
    with pytest.raises(InputError, match="at least 2"):
        diversity(sounds[:1], RATE, classifier)
    with pytest.raises(InputError, match="empty"):
        embed_sounds([], RATE, classifier)


def test_discriminants_separate_what_can_be_separated() -> None:
    random = np.random.default_rng(0)
    labels = np.repeat(np.arange(3), 50)
    vectors = random.standard_normal((150, 5)) + 8 * np.eye(5)[labels]
    classifier = fit_classifier(vectors, labels, ("a", "b", "c"))
    guesses = classifier.log_probabilities(vectors).argmax(axis=1)
    assert (guesses == labels).all()
    assert np.allclose(np.exp(classifier.log_probabilities(vectors)).sum(axis=1), 1)
    assert np.allclose(classifier.embed(vectors).std(axis=0) > 1, True)
