"""The model that is part of the package: found without a download, listed, shipped whole, and with its own
Synchformer.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from audio_requests import audio_request
from safetensors.torch import load_file, save_file
from videos import frame_times, write_video

from audiox_ext.checkpoints import catalog
from audiox_ext.checkpoints.catalog import BUNDLED, DEFAULT_MODEL, PUBLISHED, ModelFolders, list_models
from audiox_ext.checkpoints.config_parser import parse_config
from audiox_ext.checkpoints.encoders import find_synchformer_for
from audiox_ext.checkpoints.inspection import inspect_checkpoint
from audiox_ext.checkpoints.pretrained import find_stored_model, get_pretrained_model
from audiox_ext.cli.main import main as command_line
from audiox_ext.conditioning.feature_cache import read_features
from audiox_ext.conditioning.video_features import VideoFeatures
from audiox_ext.errors import ConfigError, InputError, LicenseError, ModelNotFoundError
from audiox_ext.pipeline.make_audio import make_audio

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[1]
LARGEST = 40_000_000  # bytes, which everyone who installs the pack downloads
FILES = {
    "README.md",
    "config.json",
    "model.safetensors",
    "synchformer_state_dict.safetensors",
    "text_encoder/config.json",
    "text_encoder/model.safetensors",
    "text_encoder/tokenizer.json",
}


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any download is a failure."""

    def refuse(*arguments: object, **options: object) -> None:
        raise AssertionError("There was a download.")

    monkeypatch.setattr(catalog, "download_repository", refuse)
    monkeypatch.setattr("audiox_ext.checkpoints.pretrained.download_repository", refuse)


@pytest.fixture
def fresh(tmp_path: Path, tiny_folder: Callable[[str], Path]) -> ModelFolders:
    """A machine without any model but the one that is part of the package, here a tiny one."""
    shutil.copytree(tiny_folder("maf"), tmp_path / "package" / DEFAULT_MODEL)
    return ModelFolders(audiox=(tmp_path / "audiox",), bundled=(tmp_path / "package",))


def install(folders: ModelFolders, name: str, tiny: Path) -> Path:
    return Path(shutil.copytree(tiny, folders.audiox[0] / name))


def test_on_a_fresh_machine_it_comes_first_and_loads_without_an_opt_in(fresh: ModelFolders) -> None:
    assert list_models(fresh) == [DEFAULT_MODEL, *PUBLISHED]
    model, config = get_pretrained_model(DEFAULT_MODEL, folders=fresh, allow_paths=False)
    assert model.folder == fresh.bundled[0] / DEFAULT_MODEL
    assert config["license"] == "MIT"


def test_the_users_own_models_come_first_and_win_over_its_name(fresh: ModelFolders, tiny_folder: Any) -> None:
    install(fresh, "my-model", tiny_folder("maf"))
    assert list_models(fresh)[:2] == ["my-model", DEFAULT_MODEL]
    own = install(fresh, DEFAULT_MODEL, tiny_folder("maf"))
    assert list_models(fresh) == [DEFAULT_MODEL, "my-model", *PUBLISHED]
    assert find_stored_model(DEFAULT_MODEL, fresh).folder == own


def test_a_bundled_model_that_is_not_free_needs_consent(fresh: ModelFolders) -> None:
    path = fresh.bundled[0] / DEFAULT_MODEL / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"license": "cc-by-nc-4.0"}))
    with pytest.raises(LicenseError, match=r"CC-BY-NC-4\.0 forbids"):
        get_pretrained_model(DEFAULT_MODEL, folders=fresh)


def test_a_checkout_without_its_weights_does_not_offer_it(fresh: ModelFolders) -> None:
    (fresh.bundled[0] / DEFAULT_MODEL / "model.safetensors").unlink()
    assert list_models(fresh) == list(PUBLISHED)
    with pytest.raises(ModelNotFoundError, match="There is no model 'audiox-pocket'"):
        get_pretrained_model(DEFAULT_MODEL, folders=fresh)


# Synchformer


def widen(source: Path, target: Path) -> None:
    """Weights twice as wide, as of another model."""
    state = load_file(source)
    key = "vfeat_extractor.patch_embed_3d.proj.weight"
    state[key] = torch.cat([state[key], state[key]])
    target.parent.mkdir(parents=True, exist_ok=True)
    save_file(state, target)


def test_its_own_synchformer_is_used_whatever_else_is_there(fresh: ModelFolders, tmp_path: Path) -> None:
    folder = fresh.bundled[0] / DEFAULT_MODEL
    own = folder / "synchformer_state_dict.safetensors"
    shared = tmp_path / "selva" / own.name
    widen(own, shared)
    folders = ModelFolders(audiox=fresh.audiox, synchformer=(shared.parent,), bundled=fresh.bundled)
    stored = find_stored_model(DEFAULT_MODEL, folders)
    assert find_synchformer_for(stored, folders, stored.folder) == own
    assert inspect_checkpoint(DEFAULT_MODEL, folders)["synchformer"] == str(own)


def test_weights_of_another_width_are_skipped(fresh: ModelFolders, tiny_folder: Any, tmp_path: Path) -> None:
    folder = install(fresh, "my-model", tiny_folder("maf"))
    own = folder / "synchformer_state_dict.safetensors"
    shared = tmp_path / "selva" / own.name
    widen(own, shared)
    own.unlink()
    folders = ModelFolders(audiox=fresh.audiox, synchformer=(shared.parent,), bundled=fresh.bundled)
    stored = find_stored_model("my-model", folders)
    fitting = fresh.bundled[0] / DEFAULT_MODEL / own.name
    assert find_synchformer_for(stored, folders, folder) == fitting
    fitting.unlink()
    assert find_synchformer_for(stored, folders, folder) is None


def test_features_of_another_width_are_refused_with_a_fix(fresh: ModelFolders) -> None:
    model, _ = get_pretrained_model(DEFAULT_MODEL, folders=fresh)
    frames = torch.ones(50, 3, 224, 224, dtype=torch.uint8)
    foreign = VideoFeatures(frames=frames, sync=torch.zeros(1, 240, 768), duration=10, fps=25)
    with pytest.raises(
        InputError, match=r"\(1, 240, 768\), but this model takes \(1, 240, 64\).*connect the model"
    ):
        make_audio(model, audio_request(features=foreign, steps=1), device="cpu")


def test_extract_fits_the_model(fresh: ModelFolders, tiny_folder: Any, tmp_path: Path) -> None:
    folder = install(fresh, "my-model", tiny_folder("maf"))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"video_fps": 4}))
    write_video(tmp_path / "video.mp4", frame_times(20, 10))
    out = tmp_path / "features.safetensors"
    common = ["extract", "--models", fresh.audiox[0], "--video", tmp_path / "video.mp4", "-o", out]
    assert command_line([str(word) for word in (*common, "--model", "my-model")]) == 0
    features = read_features(out)
    assert len(features.frames) == 40  # 10 s
    assert features.sync is not None
    assert features.sync.shape == (1, 240, 64)


# Its own settings


def test_a_configuration_may_have_its_own_settings(tiny_folder: Any) -> None:
    config = json.loads((tiny_folder("maf") / "config.json").read_text())
    assert parse_config(config).sampling.steps == 250
    own = parse_config(config | {"sampling": {"steps": 40, "cfg_scale": 3, "sampler_type": "unipc"}}).sampling
    assert (own.steps, own.cfg_scale, own.sampler_type, own.sigma_max) == (40, 3, "unipc", 500)
    for wrong in (
        {"steps": 0},
        {"cfg_scale": 0.5},
        {"sampler_type": "magic"},
        {"sigma_min": 2.0, "sigma_max": 1.0},
        [],
    ):
        with pytest.raises(ConfigError, match="sampling"):
            parse_config(config | {"sampling": wrong})


def test_zero_means_the_models_own_settings(fresh: ModelFolders) -> None:
    path = fresh.bundled[0] / DEFAULT_MODEL / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"sampling": {"steps": 3, "cfg_scale": 2}}))
    model, _ = get_pretrained_model(DEFAULT_MODEL, folders=fresh)
    seen = []
    own = make_audio(model, audio_request(prompt="rain"), device="cpu", callback=seen.append)
    assert [info.steps for info in seen] == [3, 3, 3]
    request = audio_request(prompt="rain", steps=3, cfg=2)
    assert torch.equal(own, make_audio(model, request, device="cpu"))


# The shipped files


def test_git_takes_its_weights_and_no_others() -> None:
    def is_ignored(path: str) -> bool:
        call = ["git", "-C", str(ROOT), "check-ignore", "-q", "--no-index", path]
        return subprocess.run(call, capture_output=True).returncode == 0

    if subprocess.run(["git", "-C", str(ROOT), "rev-parse"], capture_output=True).returncode != 0:
        pytest.skip("NOT A GIT CHECKOUT")
    assert not is_ignored(f"audiox_ext/models/{DEFAULT_MODEL}/model.safetensors")
    assert is_ignored("audiox_ext/model.safetensors")
    assert is_ignored("models/audiox/AudioX-MAF/model.ckpt")


def test_the_installed_package_holds_every_file_of_it(fresh: ModelFolders) -> None:
    data = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    patterns = [pattern.removeprefix("models/") for pattern in data["audiox_ext"]]
    root = fresh.bundled[0]
    packaged = {path for pattern in patterns for path in root.glob(pattern) if path.is_file()}
    assert packaged == {path for path in root.rglob("*") if path.is_file()}


@pytest.fixture
def shipped() -> Path:
    """The model's folder in this checkout."""
    return BUNDLED / DEFAULT_MODEL


def test_it_is_whole_small_and_free(shipped: Path) -> None:
    files = {str(path.relative_to(shipped).as_posix()) for path in shipped.rglob("*") if path.is_file()}
    assert files >= FILES
    assert files <= FILES | {"text_encoder/tokenizer_config.json"}
    assert sum(path.stat().st_size for path in shipped.rglob("*") if path.is_file()) <= LARGEST
    report = inspect_checkpoint(DEFAULT_MODEL)
    assert report["complete"]
    assert (report["license"], report["needs_opt_in"]) == ("MIT", False)
    assert (report["sample_rate"], report["seconds"], report["fusion"]) == (16000, 9.984, True)
    assert report["synchformer"] == str(shipped / "synchformer_state_dict.safetensors")
    assert report["text_encoder"] == str(shipped / "text_encoder")


def test_it_loads_at_once_with_no_model_on_the_machine(shipped: Path, tmp_path: Path) -> None:
    nothing = ModelFolders(audiox=(tmp_path,))
    model, _ = get_pretrained_model(list_models(nothing)[0], folders=nothing)
    assert model.folder == shipped
    assert model.native_seconds == pytest.approx(9.984)
