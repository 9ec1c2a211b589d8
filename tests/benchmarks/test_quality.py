"""What `benchmarks.quality` says of a model: data are right, noise is not, and audiox-pocket does what it is
asked for.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from audiox_ext.checkpoints.pretrained import get_pretrained_model
from audiox_ext.errors import InputError
from audiox_ext.model import AudioXModel
from audiox_ext.pipeline.settings import PRESETS
from benchmarks.quality.__main__ import UNTRAINED, main
from benchmarks.quality.evaluation import evaluate, evaluate_data
from benchmarks.quality.items import GROUPS, QualityItem, held_out_items, render_items, varied_items
from benchmarks.quality.report import QualityReport, Reference, format_table, measure_sounds, wilson_interval
from benchmarks.quality.sounds import Prompts, Sampling, build_untrained, generate_sounds
from pocket.captions.captions import is_held_out
from pocket.metrics.classifier import Classifier, train_classifier
from pocket.metrics.measures import Score
from pocket.world.scenes import Description
from tools.random_checkpoint import write_random_checkpoint

RATE, SAMPLES = 16000, 160_000
ROOT = Path(__file__).parents[2]
POCKET = ROOT / "audiox_ext" / "models" / "audiox-pocket"
# What the model that comes with the pack must get right, by measure.
THRESHOLDS = {"pitch class": 0.85, "count": 0.75, "register": 0.95, "onsets": 0.75}
# So few steps and items, by group, that the test takes about a minute on two cores.
CHEAP = Sampling.of_preset("fast")
ASKED = {"note": 12, "register": 16, "count": 24, "ball, with text": 6, "ball, video alone": 6}


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    return train_classifier(RATE, examples=12)


@pytest.fixture(scope="module")
def items() -> list[QualityItem]:
    return held_out_items(4)


@pytest.fixture(scope="module")
def reference(items: list[QualityItem], classifier: Classifier) -> Reference:
    return Reference.for_items(items, RATE, SAMPLES, classifier)


def noise(count: int) -> list[np.ndarray]:
    random = np.random.default_rng(0)
    return [0.05 * random.standard_normal((2, SAMPLES), dtype=np.float32) for _ in range(count)]


def asked_of_pocket(share: float = 1.0) -> list[QualityItem]:
    return [
        item
        for group, count in ASKED.items()
        for item in held_out_items(max(2, round(share * count)), groups=[group])
    ]


def by_threshold(report: QualityReport) -> dict[str, Score]:
    """The onsets of all videos together, which are measured apart."""
    onsets = [score for name, score in report.scores.items() if name.startswith("onsets")]
    right, total = sum(score.right for score in onsets), sum(score.total for score in onsets)
    return {**report.scores, "onsets": Score(right=right, total=total, error=None)}


@pytest.mark.slow
def test_audiox_pocket_does_what_it_is_asked_for(classifier: Classifier) -> None:
    model = get_pretrained_model(POCKET)[0]
    items = asked_of_pocket()
    reference = Reference.for_items(items, model.sample_rate, model.sample_size, classifier)
    scores = by_threshold(evaluate(model, items, CHEAP, reference=reference))
    for measure, least in THRESHOLDS.items():
        assert scores[measure].fraction >= least, f"{measure}: {scores[measure]}"


@pytest.mark.slow
def test_the_same_architecture_without_training_does_not(classifier: Classifier, tmp_path: Path) -> None:
    """It stays well below what is asked of the trained one: noise has some count, too."""
    config = json.loads((ROOT / "pocket" / "config.json").read_text(encoding="utf-8"))
    encoder = {"d_ff": 512, "d_kv": 64, "d_model": 128, "num_heads": 2, "num_layers": 4}
    folder = write_random_checkpoint(
        tmp_path / "pocket", config["model"], text_encoder=encoder, synchformer_depth=1
    )
    model = get_pretrained_model(folder)[0]
    items = asked_of_pocket(share=0.4)
    reference = Reference.for_items(items, model.sample_rate, model.sample_size, classifier)
    scores = by_threshold(evaluate(model, items, UNTRAINED, reference=reference))
    for measure, least in THRESHOLDS.items():
        score = scores[measure]
        assert score.fraction < least - 0.1, f"{measure}: {score}"


@pytest.mark.slow
def test_the_data_are_right_and_noise_is_not(items: list[QualityItem], reference: Reference) -> None:
    data = measure_sounds(items, render_items(items, RATE, SAMPLES), reference)
    hiss = measure_sounds(items, noise(len(items)), reference)
    assert data.mean >= 0.95
    assert hiss.mean <= 0.25
    assert hiss.spectral > 2 * data.spectral
    assert hiss.frechet > 3 * data.frechet
    for measure, least in THRESHOLDS.items():
        assert by_threshold(data)[measure].fraction >= max(0.9, least)
        assert by_threshold(hiss)[measure].fraction <= least - 0.2
    assert {name for name in data.scores if "(" not in name} == {
        "chord",
        "count",
        "direction",
        "kind",
        "loudness",
        "motion",
        "order",
        "pace",
        "pitch class",
        "register",
        "tempo",
    }


@pytest.mark.slow
def test_a_single_item_is_no_set(classifier: Classifier) -> None:
    with pytest.raises(InputError, match="A set of 1"):
        Reference.for_items(held_out_items(1, groups=["count"]), RATE, SAMPLES, classifier)


@pytest.mark.slow
def test_sounds_of_other_items_are_mostly_wrong(items: list[QualityItem], reference: Reference) -> None:
    """As good as data by every distance, and of no use: only what was asked tells it."""
    sounds = render_items(items, RATE, SAMPLES)
    right, swapped = (measure_sounds(items, those, reference) for those in (sounds, sounds[1:] + sounds[:1]))
    assert swapped.frechet == pytest.approx(right.frechet, rel=1e-6)
    assert swapped.mean < 0.6


def test_items_ask_for_values_in_turn_and_are_the_same_each_time() -> None:
    eight = held_out_items(8, groups=["count", "register"])
    counts = [item.scene.parts[0].description.count for item in eight if item.group == "count"]
    heights = [item.scene.parts[0].description.register for item in eight if item.group == "register"]
    assert counts == [1, 2, 3, 4] * 2
    assert heights == ["high", "low"] * 4
    assert held_out_items(8, groups=["count", "register"]) == eight
    assert held_out_items(3, groups=["count"]) == eight[:3]
    assert all(item.scene not in [i.scene for i in eight] for item in held_out_items(3, purpose=7))
    seeds = [item.seed for item in held_out_items(3)]
    assert len(set(seeds)) == len(seeds) == 3 * len(GROUPS)
    with pytest.raises(InputError, match="no group 'tuba'"):
        held_out_items(1, groups=["tuba"])


def test_words_are_held_out_and_videos_alone_have_none() -> None:
    for item in held_out_items(4):
        alone = "alone" in item.group
        assert bool(item.prompt) != alone
        assert alone or is_held_out(item.prompt), item.prompt
        assert not alone or item.scene.parts[0].description == Description()
        assert (item.scene.film is not None) == item.group.startswith(("ball", "hammer"))


def test_prompts_to_vary_leave_the_rest_open() -> None:
    for takes in varied_items(3, 4):
        assert len({item.prompt for item in takes}) == 1
        assert len({item.seed for item in takes}) == len({item.scene.seed for item in takes}) == 4
        assert all(item.scene.parts[0].description == Description() for item in takes)
    with pytest.raises(InputError, match="prompts to vary"):
        varied_items(100, 2)


@pytest.mark.parametrize(
    ("right", "total", "low", "high"),
    [(8, 10, 0.4902, 0.9433), (0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (263, 300, 0.8347, 0.9092)],
)
def test_wilson_interval(right: int, total: int, low: float, high: float) -> None:
    """Against published values and the formula's known ends, z^2 / (n + z^2) for none of n."""
    assert wilson_interval(right, total) == pytest.approx((low, high), abs=2e-4)


def test_wilson_interval_holds_the_share_as_often_as_it_says() -> None:
    random = np.random.default_rng(1)
    for share in (0.5, 0.85, 0.95):
        drawn = random.binomial(40, share, size=2000)
        inside = [low <= share <= high for low, high in (wilson_interval(int(right), 40) for right in drawn)]
        assert 0.92 <= np.mean(inside) <= 0.98
    assert wilson_interval(0, 0) == (0, 1)


def example_report(**changes: object) -> QualityReport:
    scores = {
        "count": Score(right=9, total=12, error=0.5),
        "onsets (ball)": Score(right=3, total=4, error=None),
    }
    values = {"items": 3, "scores": scores, "spectral": 1.5, "frechet": 2.25, **changes}
    return QualityReport(**values)


def test_the_table_says_shares_intervals_and_costs() -> None:
    report = example_report(seconds=1.25, evaluations=100.0, diversity=0.5)
    text = format_table(
        {"model": report, "data": example_report(scores={"count": Score(right=12, total=12, error=0)})}
    )
    lines = text.splitlines()
    assert lines[0] == "| measure | model | data |"
    assert (
        lines[2] == "| count | 75 % (47 to 91), 9 of 12, off by 0.5 | 100 % (76 to 100), 12 of 12, off by 0 |"
    )
    assert lines[3] == "| onsets (ball) | 75 % (30 to 95), 3 of 4 |  |"
    assert lines[4] == "| mean of these | 75.0 % | 100.0 % |"
    assert "| seconds per sound | 1.25 |  |" in lines
    assert "| network evaluations per sound | 100 |  |" in lines
    assert all(line.count("|") == 4 for line in lines)


def test_a_report_survives_json() -> None:
    report = example_report(diversity=0.3)
    assert QualityReport.from_dict(json.loads(json.dumps(report.as_dict()))) == report


def test_presets_are_sampled_as_they_are_in_the_engine() -> None:
    for name, preset in PRESETS.items():
        arguments = Sampling.of_preset(name).arguments()
        assert (arguments["steps"], arguments["sampler_type"]) == (preset.steps, preset.sampler)
        assert arguments["schedule"] == preset.schedule
    with pytest.raises(InputError, match="no preset 'perfect'"):
        Sampling.of_preset("perfect")


@pytest.fixture(scope="module")
def tiny(tiny_folder: Callable[[str], Path]) -> AudioXModel:
    return get_pretrained_model(tiny_folder("maf"))[0]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sampling", "evaluations"),
    [
        (Sampling(steps=4, cfg_scale=1.0), 4),
        (Sampling(steps=4, cfg_scale=3.0), 8),
        (Sampling(steps=4, cfg_scale=3.0, guidance_interval=(0.0, 0.5)), 6),
        (Sampling(steps=4, cfg_scale=3.0, sampler_type="k-heun"), 14),
    ],
)
def test_evaluations_are_counted_for_each_sound(
    tiny: AudioXModel, sampling: Sampling, evaluations: float
) -> None:
    prompts = Prompts.of(tiny, held_out_items(3, groups=["count"]))
    assert generate_sounds(tiny, prompts, sampling, batch=2).evaluations == pytest.approx(evaluations)


def test_a_pass_with_old_blocks_counts_as_its_first_block(
    tiny: AudioXModel, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "audiox_ext.sampling.windows")
    prompts = Prompts.of(tiny, held_out_items(2, groups=["count"]))
    sampling = Sampling(steps=40, cfg_scale=2.0, reuse_threshold=0.5)
    evaluations = generate_sounds(tiny, prompts, sampling).evaluations
    (reused,) = re.findall(r"(\d+) of 40 passes", caplog.text)
    assert int(reused) > 0
    assert evaluations == pytest.approx(80 - int(reused))  # one of two blocks, of a pair


def test_a_sound_depends_on_its_seed_and_not_on_the_batch(tiny: AudioXModel) -> None:
    prompts = Prompts.of(tiny, held_out_items(3, groups=["count"]))
    few = Sampling(steps=2, cfg_scale=2.0)
    together, alone = (generate_sounds(tiny, prompts, few, batch=batch).sounds for batch in (3, 1))
    others = generate_sounds(tiny, prompts, few, seed=1).sounds
    for one, same, other in zip(together, alone, others, strict=True):
        assert one.shape == (2, tiny.sample_size)
        assert np.allclose(one, same, atol=1e-4 * np.abs(one).max())
        assert not np.allclose(one, other, atol=0.1 * np.abs(one).max())


def test_what_is_not_a_number_becomes_silence(tiny_folder: Callable[[str], Path]) -> None:
    model = get_pretrained_model(tiny_folder("maf"))[0]
    with torch.no_grad():
        next(model.pretransform.model["decoder"].parameters()).fill_(float("nan"))
    prompts = Prompts.of(model, held_out_items(1, groups=["count"]))
    assert not generate_sounds(model, prompts, Sampling(steps=1, cfg_scale=1.0)).sounds[0].any()


@pytest.mark.slow
def test_a_model_is_measured_with_its_videos(
    tiny: AudioXModel, tiny_folder: Callable[[str], Path], classifier: Classifier, tmp_path: Path
) -> None:
    items = held_out_items(1, groups=["count", "ball, video alone"])
    reference = Reference.for_items(items, tiny.sample_rate, tiny.sample_size, classifier)
    varied = varied_items(1, 2)
    few = Sampling(steps=2, cfg_scale=2.0)
    report = evaluate(tiny, items, few, reference=reference, varied=varied)
    assert report.items == 2
    assert {"count", "onsets (ball, video alone)", "kind (ball, video alone)"} <= set(report.scores)
    assert report.seconds is not None
    assert report.evaluations == 4
    data = evaluate_data(tiny, items, reference=reference, varied=varied)
    assert data.diversity is not None
    assert report.diversity is not None
    assert data.mean > report.mean
    coded = evaluate_data(tiny, items, reference=reference, through_codec=True)
    assert coded.spectral > data.spectral  # its autoencoder knows nothing
    other = build_untrained(tiny, tmp_path)
    own, its = (next(model.network.parameters()) for model in (tiny, other))
    assert own.shape == its.shape


def test_a_video_needs_the_sync_encoder(
    tiny_folder: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUDIOX_MODELS", str(tmp_path))
    model = get_pretrained_model(tiny_folder("maf"))[0]
    model.folder = tmp_path
    with pytest.raises(InputError, match="synchformer_state_dict"):
        Prompts.of(model, held_out_items(1, groups=["ball, with text"]))


def test_the_video_is_seen_at_its_times(tiny: AudioXModel) -> None:
    item = held_out_items(1, groups=["ball, with text"])[0]
    (prompt,) = Prompts.of(tiny, [item]).conditioning(0, 1)
    frames = prompt["video_prompt"]["video_tensors"]
    assert frames.shape == (1, round(tiny.conditioning_seconds * tiny.video_fps), 3, 224, 224)
    from pocket.world.animations import render_film

    picture = render_film(item.scene, fps=25.0)[7 * 5]  # second 1.4
    assert np.abs(frames[0, 7].permute(1, 2, 0).numpy() - picture).max() <= 1


@pytest.mark.slow
@pytest.mark.usefixtures("quick_classifier")
def test_the_command_prints_a_table_and_writes_json(
    tiny_folder: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "quality.json"
    call = [str(tiny_folder("maf")), "--groups", "count", "--items", "2", "--steps", "1", "--no-diversity"]
    assert main([*call, "--json", str(out)]) == 0
    assert capsys.readouterr().out.startswith("| measure | maf | data | untrained |")
    reports = json.loads(out.read_text(encoding="utf-8"))["reports"]
    assert QualityReport.from_dict(reports["data"]).scores["count"].fraction == 1


def test_the_command_says_what_is_wrong(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main([str(tmp_path / "nowhere")]) == 1
    assert "nowhere" in capsys.readouterr().err
    assert main(["audiox-pocket", "--items", "0"]) == 1
    assert "--items is 0" in capsys.readouterr().err
