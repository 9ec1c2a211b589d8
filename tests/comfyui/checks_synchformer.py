"""Checks of when Synchformer is loaded, freed, needed or replaced by the cache."""

from __future__ import annotations

import time
import weakref
from pathlib import Path

from checks_fingerprints import extractor_fingerprint, hidden_synchformers
from in_comfyui import BASE, EXTRACTOR, load, message, pack, run, sample, video  # isort: split

import folder_paths
import torch


def check_synchformer_lives_no_longer_than_its_model() -> None:
    encoder, store = pack("nodes.shared.sync_encoder"), pack("nodes.shared.state").SYNCHFORMERS
    path = BASE / "models" / "audiox" / "tiny-maf" / "synchformer_state_dict.safetensors"
    frames, loads, original = torch.zeros(1, 32, 3, 224, 224), [], encoder.load_synchformer_weights
    encoder.load_synchformer_weights = lambda path, accepted: loads.append(path) or original(path, accepted)
    try:
        with torch.inference_mode():
            store.make_encoder(path, "alone", None)(frames)
            assert len(store._by_fingerprint) == 0, "without a model it goes at once"
            handle = load("tiny-maf", precision="bf16")
            for _ in range(2):
                store.make_encoder(path, "owned", handle)(frames)
            store.make_encoder(path, "owned", None)(frames)
        assert len(loads) == 2
        reference = weakref.ref(store._by_owner[handle].network)
        del handle
        assert reference() is None
    finally:
        encoder.load_synchformer_weights = original


def check_features_come_from_the_disk_the_second_time() -> None:
    encoder, store = pack("nodes.shared.sync_encoder"), pack("nodes.shared.state").SYNCHFORMERS
    model = load("tiny-maf")
    settings = EXTRACTOR | {"start": 0.25}
    first = run("AudioXExtractFeatures", video=video(), model=model, **settings)[0]
    files = list(
        (Path(folder_paths.get_user_directory()) / "audiox_cache" / "features").glob("*.safetensors")
    )
    assert files
    store._by_owner.clear()
    original, encoder.load_synchformer_weights = encoder.load_synchformer_weights, None
    try:
        start = time.perf_counter()
        second = run("AudioXExtractFeatures", video=video(), model=model, **settings)[0]
        assert time.perf_counter() - start < 1
    finally:
        encoder.load_synchformer_weights = original
    assert torch.equal(first.sync, second.sync)
    assert torch.equal(first.frames, second.frames)


def check_synchformer_is_wanted_only_where_it_is_used() -> None:
    with hidden_synchformers():
        without = extractor_fingerprint()
        features = run("AudioXExtractFeatures", video=video(), **EXTRACTOR)[0]
        assert features.sync is None
        text = message(
            lambda: run("AudioXExtractFeatures", video=video(), model=load("tiny-maf"), **EXTRACTOR)
        )
        assert "No Synchformer weights" in text
        assert "tiny-maf" in text
        text = message(lambda: sample(load("tiny-maf"), features=features))
        assert "Synchformer" in text
        assert sample(load("tiny-base"), features=features).isfinite().all()
    assert extractor_fingerprint() != without, "weights that were added count"
