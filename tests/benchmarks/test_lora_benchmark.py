"""What `benchmarks.lora` teaches and asks, and that it does so from end to end."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest

from audiox_ext.checkpoints.pretrained import get_pretrained_model
from benchmarks.lora import KIND, frog_items, main, write_clips
from pocket.metrics.classifier import train_classifier
from pocket.synth.rendering import render

trains = pytest.mark.skipif(
    find_spec("lightning") is None or find_spec("peft") is None,
    reason="NO LIGHTNING OR PEFT: pip install .[train] to test the training",
)


@pytest.mark.slow
def test_frogs_are_asked_for_in_words_that_are_not_trained_on(
    tiny_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    model = get_pretrained_model(tiny_folder("maf"))[0]
    folder = write_clips(tmp_path / "clips", model, 5, [KIND])
    files = {path: path.stat().st_mtime_ns for path in folder.glob("*.wav")}
    assert len(files) == 5
    assert write_clips(folder, model, 5, [KIND]) == folder
    assert {path: path.stat().st_mtime_ns for path in folder.glob("*.wav")} == files
    taught = {path.with_suffix(".txt").read_text(encoding="utf-8").strip().lower() for path in files}
    items = frog_items(12, model.conditioning_seconds)
    assert not taught & {item.prompt.lower() for item in items}
    assert len({item.seed for item in items}) == 12
    classifier = train_classifier(16000, examples=12)
    recognised = [classifier.classify(render(item.scene, 16000), 16000) for item in items]
    assert recognised.count(KIND) >= 11


@trains
@pytest.mark.slow
@pytest.mark.usefixtures("quick_classifier")
def test_it_trains_and_compares(
    tiny_folder: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    few = [
        "--clips",
        "2",
        "--preserve",
        "2",
        "--steps",
        "2",
        "--batch-size",
        "4",
        "--frogs",
        "2",
        "--items",
        "2",
    ]
    model = str(tiny_folder("maf"))
    assert main([model, "--output", str(tmp_path), "--groups", "count", *few]) == 0
    output = capsys.readouterr().out
    assert "of the frogs without the LoRA and" in output
    assert "| measure | without | with the LoRA |" in output
    report = json.loads((tmp_path / "lora.json").read_text(encoding="utf-8"))
    assert len(report["frogs"]) == len(report["rest"]) == 2
    assert (tmp_path / f"{KIND}.safetensors").is_file()
    assert main([model, "--output", str(tmp_path), "--frogs", "1"]) == 1
    assert "must be at least 2" in capsys.readouterr().err
