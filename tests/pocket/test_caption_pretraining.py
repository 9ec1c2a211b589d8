"""What captions ask, as numbers, and learnt from captions alone."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import torch
from training_miniature import miniature_values

from audiox_ext.networks.autoencoder.autoencoder import Autoencoder
from pocket.training_file import parse_training_config
from pocket.world.dataset import Dataset
from pocket.world.kinds import KINDS, NOTES
from pocket.world.scenes import ARRANGEMENTS

MISSING = importlib.util.find_spec("lightning") is None
pytestmark = pytest.mark.skipif(MISSING, reason="NO LIGHTNING: pip install .[train] to test the training")


def test_every_scene_has_answers_and_what_is_asked_can_be_read_from_them() -> None:
    from pocket.diffusion.caption_pretraining import SIZES, answers

    dataset = Dataset("training", film_fraction=0.2, then_fraction=0.3, with_fraction=0.2)
    seen = set()
    for number in range(300):
        scene = dataset.scene(number)
        found = answers(scene)
        assert all(0 <= answer < size for answer, size in zip(found, SIZES, strict=True))
        assert ARRANGEMENTS[found[0]] == scene.arrangement
        first = scene.parts[0]
        assert list(KINDS)[found[1] - 1] == first.kind
        note = found[3]
        assert (NOTES[note - 1] if note else None) == first.description.note
        seen.add(tuple(found))
    assert len(seen) > 200


@pytest.mark.slow
def test_words_become_a_code_that_tells_what_they_ask(tmp_path: Path) -> None:
    from pocket.diffusion.caption_pretraining import captions_and_labels, pretrain_on_captions
    from pocket.diffusion.text_encoder import make_tokenizer
    from pocket.diffusion.training_module import DiffusionTraining
    from pocket.sync.training_module import build_synchformer

    values: dict[str, Any] = miniature_values()
    values["data"] |= {
        "kinds": ["beep", "rain", "bell"],
        "film_fraction": 0,
        "then_fraction": 0,
        "with_fraction": 0,
    }
    values["diffusion"]["caption_steps"] = 150
    config = parse_training_config(values, Path())
    data = config.dataset("training", film_fraction=0, length=5000)
    tokenizer = make_tokenizer((data.caption(i) for i in range(1000)), config.text_encoder.vocabulary)
    torch.manual_seed(0)
    autoencoder = Autoencoder(config.model.autoencoder).state_dict()
    module = DiffusionTraining(config, autoencoder, build_synchformer(config), tokenizer)
    trained = [name for name, value in module.named_parameters() if value.requires_grad]
    network = {key: value.clone() for key, value in module.network.state_dict().items()}
    lines: list[str] = []
    questions = pretrain_on_captions(module, data, tmp_path, "cpu", lines.append)
    assert lines
    assert [name for name, value in module.named_parameters() if value.requires_grad] == trained
    held_out = config.dataset("held out", film_fraction=0, length=200)
    captions, wanted = captions_and_labels(held_out, range(200))
    with torch.no_grad():
        told = questions(module.text_context(captions, torch.Generator().manual_seed(0)))
    right = (told[1].argmax(-1) == wanted[:, 1]).float().mean()
    assert right > 0.8  # of three kinds, in wordings that were kept back
    for key, value in module.network.state_dict().items():
        assert torch.equal(value, network[key]), key
