"""Checks of the fingerprints by which ComfyUI decides whether to load a model again."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from in_comfyui import BASE, EXTRACTOR, PACK, load, pack, run, video  # isort: split

import nodes as comfy_nodes


def check_equal_loaders_share_a_model() -> None:
    first = load("tiny-maf")
    assert load("tiny-maf") is first
    assert load("tiny-maf", accept=True) is not first
    weights = BASE / "models" / "audiox" / "tiny-maf" / "model.safetensors"
    os.utime(weights, ns=(1, 1))
    assert load("tiny-maf") is not first, "the file has changed"


def loader_fingerprint(name: str) -> Any:
    """The fingerprint of a loader of this model."""
    node = comfy_nodes.NODE_CLASS_MAPPINGS["AudioXLoadModel"]
    return node.fingerprint_inputs(model=name, precision="auto", engine="native", accept_cc_by_nc=True)


def extractor_fingerprint() -> Any:
    """The fingerprint of an extractor, whose linked inputs are None."""
    node = comfy_nodes.NODE_CLASS_MAPPINGS["AudioXExtractFeatures"]
    return node.fingerprint_inputs(video=None, model=None, **EXTRACTOR)


def check_only_files_that_are_read_change_a_fingerprint() -> None:
    folder = BASE / "models" / "audiox" / "tiny-maf"
    before = loader_fingerprint("tiny-maf")
    beside = [folder / ".DS_Store", folder / ".cache" / "huggingface" / "model.lock", folder / "notes.txt"]
    for path in beside:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
        assert loader_fingerprint("tiny-maf") == before, path.name
        path.unlink()
    read = [
        "config.json",
        "model.safetensors",
        "text_encoder/model.safetensors",
        "text_encoder/tokenizer.json",
    ]
    for name in read:
        os.utime(folder / name, ns=(2, 2))
        assert loader_fingerprint("tiny-maf") != before, name
        before = loader_fingerprint("tiny-maf")
    assert loader_fingerprint("no such model") == loader_fingerprint("no such model")


def check_a_fetched_model_is_not_loaded_again() -> None:
    models = BASE / "models" / "audiox"
    with hidden_synchformers(), fetching(models / "tiny-maf"):
        pack("nodes.shared.state").FINGERPRINTS._has_features_without_sync = False
        before = loader_fingerprint("AudioX-MAF"), extractor_fingerprint()
        handle = load("AudioX-MAF", accept=True)
        assert (models / "AudioX-MAF" / "synchformer_state_dict.safetensors").is_file()
        assert (loader_fingerprint("AudioX-MAF"), extractor_fingerprint()) == before
        assert load("AudioX-MAF", accept=True) is handle
        for name in ("model.safetensors", "synchformer_state_dict.safetensors"):
            os.utime(models / "AudioX-MAF" / name, ns=(3, 3))
        assert loader_fingerprint("AudioX-MAF") != before[0]
        assert extractor_fingerprint() != before[1]


def check_features_without_sync_are_made_anew_once_a_fetch_brings_the_weights() -> None:
    with hidden_synchformers(), fetching(BASE / "models" / "audiox" / "tiny-maf"):
        before = extractor_fingerprint()
        assert run("AudioXExtractFeatures", video=video(), **EXTRACTOR)[0].sync is None
        handle = load("AudioX-MAF", accept=True)
        assert extractor_fingerprint() != before
        assert run("AudioXExtractFeatures", video=video(), model=handle, **EXTRACTOR)[0].sync is not None


@contextlib.contextmanager
def fetching(source: Path) -> Any:
    """Replace the hub by a local model; downloaded files are deleted at the end."""
    import huggingface_hub

    targets: list[str] = []

    def download(repo_id: str, local_dir: str, **settings: Any) -> str:
        shutil.copytree(source, local_dir, dirs_exist_ok=True)
        for path in Path(local_dir).glob("*.hidden"):
            path.rename(path.with_suffix(".safetensors"))
        targets.append(local_dir)
        return local_dir

    def listing(repo_id: str) -> Any:
        names = (path for path in source.rglob("*") if path.is_file() and path.suffix != ".hidden")
        return SimpleNamespace(
            siblings=[SimpleNamespace(rfilename=str(path.relative_to(source))) for path in names]
        )

    originals = huggingface_hub.snapshot_download, huggingface_hub.model_info
    huggingface_hub.snapshot_download, huggingface_hub.model_info = download, listing
    try:
        yield
    finally:
        huggingface_hub.snapshot_download, huggingface_hub.model_info = originals
        for target in targets:
            shutil.rmtree(target)
    assert len(targets) == 1, "fetched once"


@contextlib.contextmanager
def hidden_synchformers() -> Any:
    """Hide Synchformer's weights for a while, also those of the pack's own model."""
    roots = (BASE / "models" / "audiox", PACK / "audiox_ext" / "models")
    for place in (path for root in roots for path in list(root.glob("*/synchformer*"))):
        place.rename(place.with_suffix(".hidden") if place.is_file() else place.with_name("hidden"))
    try:
        yield
    finally:
        for place in (path for root in roots for path in list(root.glob("*/*hidden*"))):
            place.rename(
                place.with_suffix(".safetensors") if place.is_file() else place.with_name("synchformer")
            )
