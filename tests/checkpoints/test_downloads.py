"""Downloading a published model: which files, into which folder, and without a network."""

from __future__ import annotations

import shutil
import types
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from checkpoint_copies import folders
from unprivileged import read_only_folder

from audiox_ext.checkpoints import catalog
from audiox_ext.checkpoints import pretrained as pretrained_module
from audiox_ext.checkpoints.catalog import list_models
from audiox_ext.checkpoints.pretrained import get_pretrained_model
from audiox_ext.errors import LicenseError, ModelNotFoundError


def hub_listing(folder: Path) -> Any:
    """The hub client's listing of a repository with the files of a folder."""
    names = [str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()]
    return types.SimpleNamespace(siblings=[types.SimpleNamespace(rfilename=name) for name in names])


def test_with_the_opt_in_the_published_files_are_downloaded(
    copy_of: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = copy_of("maf")
    requests: list[tuple[str, Any, Path]] = []

    def fetch(repository: str, patterns: Any, folder: Path) -> Path:
        requests.append((repository, patterns, folder))
        return Path(shutil.copytree(source, folder))

    monkeypatch.setattr(pretrained_module, "download_repository", fetch)
    root = tmp_path / "models"
    model, _ = get_pretrained_model("AudioX-MAF", accept_cc_by_nc=True, folders=folders(root))
    assert requests[0][0] == "HKUSTAudio/AudioX-MAF"
    assert "model.ckpt" in requests[0][1]
    assert model.folder == root / "AudioX-MAF"
    get_pretrained_model("AudioX-MAF", accept_cc_by_nc=True, folders=folders(root))
    assert len(requests) == 1


def test_without_network_the_error_names_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    def unreachable(repository: str) -> Any:
        raise ConnectionError("Name or service not known")

    monkeypatch.setattr(huggingface_hub, "model_info", unreachable)
    with pytest.raises(
        ModelNotFoundError, match=r"(?s)could not be downloaded.*huggingface.co/HKUSTAudio/AudioX-Turbo"
    ):
        get_pretrained_model("AudioX-Turbo", accept_cc_by_nc=True, folders=folders(tmp_path))
    with pytest.raises(ModelNotFoundError, match="downloads are off"):
        get_pretrained_model("AudioX-Turbo", accept_cc_by_nc=True, folders=folders(tmp_path), download=False)


def test_an_interrupted_download_resumes(
    copy_of: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub

    source, calls = copy_of("maf"), []

    def download(repo_id: str, allow_patterns: list[str], local_dir: str) -> str:
        calls.append(repo_id)
        target = Path(local_dir)
        shutil.copy(source / "config.json", target)
        if len(calls) == 1:
            raise ConnectionError("cable pulled")
        shutil.copytree(source, target, dirs_exist_ok=True)
        return local_dir

    monkeypatch.setattr(huggingface_hub, "model_info", lambda name: hub_listing(source))
    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    model_folders = folders(tmp_path / "models")
    with pytest.raises(ModelNotFoundError, match="cable pulled"):
        get_pretrained_model("AudioX-MAF", accept_cc_by_nc=True, folders=model_folders)
    with pytest.raises(LicenseError):
        get_pretrained_model("AudioX-MAF", folders=model_folders)
    assert len(calls) == 1
    for _ in range(2):
        get_pretrained_model("AudioX-MAF", accept_cc_by_nc=True, folders=model_folders)
    assert calls == ["HKUSTAudio/AudioX-MAF"] * 2


def test_safetensors_are_preferred_to_pickles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    source, requests = tmp_path / "hub", []
    source.mkdir()
    for name in ("config.json", "model.ckpt", "model.safetensors", "VAE.ckpt", "README.md"):
        (source / name).touch()
    (source / "synchformer_state_dict.pth").touch()

    def download(repo_id: str, allow_patterns: list[str], local_dir: str) -> str:
        requests.extend(allow_patterns)
        shutil.copytree(source, local_dir, dirs_exist_ok=True)
        return local_dir

    monkeypatch.setattr(huggingface_hub, "model_info", lambda name: hub_listing(source))
    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    catalog.download_repository("a/b", ("*.json", "model.*", "VAE.ckpt", "synchformer*"), tmp_path / "m")
    assert sorted(requests) == ["VAE.ckpt", "config.json", "model.safetensors", "synchformer_state_dict.pth"]
    with pytest.raises(ModelNotFoundError, match="has no files of an AudioX model"):
        catalog.download_repository("a/b", ("*.onnx",), tmp_path / "n")


def test_a_short_name_means_the_published_model_alone(
    copy_of: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = copy_of("maf")
    root = tmp_path / "models"

    def fetch(repository: str, patterns: Any, folder: Path) -> Path:
        return Path(shutil.copytree(source, folder))

    monkeypatch.setattr(pretrained_module, "download_repository", fetch)
    for name, expected in (("evil/AudioX-MAF", "evil--AudioX-MAF"), ("HKUSTAudio/AudioX-MAF", "AudioX-MAF")):
        model, _ = get_pretrained_model(name, accept_cc_by_nc=True, folders=folders(root))
        assert model.folder == root / expected
    assert list_models(folders(root))[:2] == ["AudioX-MAF", "evil--AudioX-MAF"]


def test_files_added_by_hand_after_a_failed_download_load(
    copy_of: Any, tmp_path: Path, monkeypatch: Any
) -> None:
    import huggingface_hub

    def unreachable(repository: str) -> Any:
        raise ConnectionError("no route")

    monkeypatch.setattr(huggingface_hub, "model_info", unreachable)
    root = tmp_path / "models"
    with pytest.raises(ModelNotFoundError, match="no route"):
        get_pretrained_model("AudioX-MAF", accept_cc_by_nc=True, folders=folders(root))
    shutil.copytree(copy_of("maf"), root / "AudioX-MAF", dirs_exist_ok=True)
    get_pretrained_model("AudioX-MAF", accept_cc_by_nc=True, folders=folders(root))
    assert not [path for path in (root / "AudioX-MAF").iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize(
    ("kind", "status", "message"),
    [
        ("HfHubHTTPError", 401, r"refuses access to a/b \(HTTP 401\).*private or gated.*`hf auth login`"),
        ("RepositoryNotFoundError", 401, r"\(HTTP 401\).*Check the name.*`hf auth login`"),
        ("HfHubHTTPError", 403, r"\(HTTP 403\).*https://huggingface\.co/a/b.*token that may read it"),
        ("GatedRepoError", 403, r"https://huggingface\.co/a/b needs a login\. Accept its terms"),
        ("RepositoryNotFoundError", 404, r"There is no repository a/b on the Hugging Face hub"),
        ("HfHubHTTPError", 500, r"a/b could not be downloaded \(Server Error\)\. Check the network"),
    ],
)
def test_a_refused_download_says_how_to_get_access(
    kind: str, status: int, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub

    error = getattr(huggingface_hub.errors, kind)
    response = SimpleNamespace(status_code=status, headers={}, request=None)

    def refuse(name: str) -> None:
        raise error("Server Error\nmore", response=response)

    monkeypatch.setattr(huggingface_hub, "model_info", refuse)
    with pytest.raises(ModelNotFoundError, match=message):
        catalog.download_repository("a/b", ("*",), tmp_path / "m")


def test_a_download_into_a_read_only_folder_blames_the_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub, "model_info", lambda name: pytest.fail("the hub was asked"))
    with (
        read_only_folder() as folder,
        pytest.raises(ModelNotFoundError, match=r"\(Permission denied\)\. Choose another folder"),
    ):
        catalog.download_repository("a/b", ("*",), folder / "m")
