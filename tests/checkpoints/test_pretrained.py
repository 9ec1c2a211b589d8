"""Finding, checking and loading checkpoints: layouts, the licence gate, and errors."""

from __future__ import annotations

import json
import pickle
import shutil
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from golden_cases import golden_path

from audiox_ext.checkpoints import catalog
from audiox_ext.checkpoints import pretrained as pretrained_module
from audiox_ext.checkpoints.catalog import ModelFolders, find_synchformer, find_text_encoder, list_models
from audiox_ext.checkpoints.encoders import load_synchformer
from audiox_ext.checkpoints.inspection import describe, inspect_checkpoint
from audiox_ext.checkpoints.pretrained import get_pretrained_model
from audiox_ext.checkpoints.state_dict import read_tensors
from audiox_ext.errors import CheckpointError, ConfigError, InputError, LicenseError, ModelNotFoundError
from audiox_ext.license import is_non_commercial
from audiox_ext.networks.operations import PlainOperations


@pytest.fixture
def copy_of(tmp_path: Path) -> Callable[[str], Path]:
    """A copy of a golden checkpoint that a test may change."""

    def copy(kind: str) -> Path:
        keep_out = shutil.ignore_patterns("cases.*")
        return Path(shutil.copytree(golden_path(kind), tmp_path / "audiox" / kind, ignore=keep_out))

    return copy


def folders(root: Path) -> ModelFolders:
    return ModelFolders(
        audiox=(root,), synchformer=(root,), text_encoders=(root / "text_encoders",), bundled=()
    )


def read_copies(path: Path, *nested: Any) -> dict[str, torch.Tensor]:
    """Read copies of tensors, so that the test may overwrite the file."""
    return {key: value.clone() for key, value in read_tensors(path, *nested).items()}


def hub_listing(folder: Path) -> Any:
    """The hub client's listing of a repository with the files of a folder."""
    names = [str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()]
    return types.SimpleNamespace(siblings=[types.SimpleNamespace(rfilename=name) for name in names])


def weights_of(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {key: value for key, value in model.state_dict().items() if "text_encoder" not in key}


def assert_same_weights(first: torch.nn.Module, second: torch.nn.Module) -> None:
    a, b = weights_of(first), weights_of(second)
    assert a.keys() == b.keys()
    assert all(torch.equal(a[key], b[key]) for key in a)


# What is accepted


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_ckpt_is_read_as_the_safetensors(wrapped: bool, copy_of: Any, golden_model: Any) -> None:
    folder = copy_of("maf")
    state = read_copies(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save({"state_dict": state, "step": 3} if wrapped else state, folder / "model.ckpt")
    assert_same_weights(get_pretrained_model(folder, accept_cc_by_nc=True)[0], golden_model("maf"))


def test_an_unusual_file_name_is_found(copy_of: Any) -> None:
    folder = copy_of("base")
    (folder / "model.safetensors").rename(folder / "my_finetune.safetensors")
    get_pretrained_model(folder, accept_cc_by_nc=True)


@pytest.mark.parametrize("prefix", ["", "module.", "model.", "student.", "student.model."])
@pytest.mark.parametrize("container", [None, "state_dict", "model", "student", "student_state_dict"])
def test_student_keys_in_every_form(
    prefix: str, container: str | None, copy_of: Any, golden_model: Any
) -> None:
    folder = copy_of("turbo")
    path = folder / "audiox_turbo" / "audiox_turbo.ckpt"
    state = read_copies(path, ("state_dict", "model", "student", "student_state_dict"))
    state = {prefix + key.removeprefix("student."): value for key, value in state.items()}
    torch.save(state if container is None else {container: state, "epoch": 1}, path)
    assert_same_weights(get_pretrained_model(folder, accept_cc_by_nc=True)[0], golden_model("turbo"))


def test_the_autoencoder_file_fills_only_what_is_missing(copy_of: Any, golden_model: Any) -> None:
    folder = copy_of("mmdit")
    state = read_copies(folder / "model.safetensors")
    inner = "pretransform.model."
    vae = {key.removeprefix(inner): value.clone() for key, value in state.items() if key.startswith(inner)}
    rest = {key: value for key, value in state.items() if not key.startswith(inner + "decoder")}
    (folder / "model.safetensors").unlink()
    torch.save(rest, folder / "model.ckpt")
    torch.save(vae, folder / "VAE.ckpt")
    assert_same_weights(get_pretrained_model(folder, accept_cc_by_nc=True)[0], golden_model("mmdit"))


def test_a_student_without_configuration_gets_the_bundled_one(copy_of: Any) -> None:
    folder = copy_of("turbo")
    (folder / "config.json").unlink()
    # The tiny golden weights cannot fit the full-size configuration, so the error shows which one is used.
    with pytest.raises(CheckpointError, match=r"weight_v: file \(8, 4, 7\), model \(2048, 64, 7\)"):
        get_pretrained_model(folder, accept_cc_by_nc=True)


def test_models_are_found_by_name_and_path(copy_of: Any, tmp_path: Path) -> None:
    folder = copy_of("maf")
    where = folders(tmp_path / "audiox")
    for name in ("maf", str(folder), folder):
        model, config = get_pretrained_model(name, accept_cc_by_nc=True, folders=where)
        assert model.folder == folder
        assert config["sample_rate"] == 8000
    assert list_models(where)[:2] == ["maf", "AudioX"]


def test_precision_applies_to_the_network_alone(copy_of: Any) -> None:
    model, _ = get_pretrained_model(copy_of("maf"), accept_cc_by_nc=True, precision="bf16")
    dtypes = {
        value.dtype for key, value in model.network.state_dict().items() if "timestep_features" not in key
    }
    assert dtypes == {torch.bfloat16}
    assert {value.dtype for value in model.pretransform.state_dict().values()} == {torch.float32}


@pytest.mark.parametrize("amx", [False, True, None])
def test_auto_is_bf16_on_a_processor_with_units_for_it(
    amx: bool | None, copy_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    if amx is None:  # torch cannot tell
        monkeypatch.delattr(torch.cpu, "_is_amx_tile_supported", raising=False)
    else:
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx, raising=False)
    model, _ = get_pretrained_model(copy_of("maf"), accept_cc_by_nc=True, precision="auto")
    assert model.network.compute_dtype == (torch.bfloat16 if amx else torch.float32)


@pytest.mark.parametrize("form", ["safetensors", "ckpt"])
def test_a_random_checkpoint_in_published_form_loads(form: Any, tmp_path: Path) -> None:
    from tools.random_checkpoint import build_tiny_config, write_random_checkpoint

    encoder = {"d_ff": 32, "d_kv": 16, "d_model": 64, "num_heads": 2, "num_layers": 1}
    write_random_checkpoint(
        tmp_path / "m", build_tiny_config("maf"), form=form, text_encoder=encoder, synchformer_depth=1
    )
    get_pretrained_model(tmp_path / "m")


# The licence


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (None, True),
        ("", True),
        ("cc-by-nc-4.0", True),
        ("CC BY-NC 4.0", True),
        ("CC_BY_NC_SA", True),
        ("non-commercial", True),
        ("MIT", False),
        ("apache-2.0", False),
        ("CC-BY-4.0", False),
        ("cc by sa 4.0", False),
        ("other", True),
        ("unknown", True),
        ("research-only", True),
        ("CC-BYNC-4.0", True),
    ],
)
def test_only_free_licences_need_no_opt_in(name: str | None, expected: bool) -> None:
    assert is_non_commercial(name) == expected


def test_weights_of_unknown_origin_need_the_opt_in(copy_of: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = copy_of("maf")
    with pytest.raises(
        LicenseError, match=r"(?s)forbids commercial use.*accept_cc_by_nc.*SelVA.*Nothing was loaded"
    ):
        get_pretrained_model(folder)
    monkeypatch.setenv("AUDIOX_ACCEPT_CC_BY_NC", "0")
    with pytest.raises(LicenseError):
        get_pretrained_model(folder)
    monkeypatch.setenv("AUDIOX_ACCEPT_CC_BY_NC", "1")
    get_pretrained_model(folder)


def test_the_licence_decides_not_the_folders_name(copy_of: Any) -> None:
    folder = copy_of("maf")
    folder = folder.rename(folder.parent / "AudioX-MAF")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "license": "MIT"}))
    get_pretrained_model(folder)
    (folder / "config.json").write_text(json.dumps({**config, "license": "cc-by-nc-4.0"}))
    with pytest.raises(LicenseError):
        get_pretrained_model(folder)


def test_nothing_is_downloaded_without_the_opt_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    requests: list[str] = []
    monkeypatch.setattr(
        pretrained_module, "download_repository", lambda repository, *_: requests.append(repository)
    )
    for name in ("AudioX-Turbo", "HKUSTAudio/AudioX", "someone/unknown"):
        with pytest.raises(LicenseError):
            get_pretrained_model(name, folders=folders(tmp_path))
    assert requests == []
    assert list(tmp_path.iterdir()) == []


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
    where = folders(tmp_path / "models")
    with pytest.raises(ModelNotFoundError, match="cable pulled"):
        get_pretrained_model("AudioX-MAF", accept_cc_by_nc=True, folders=where)
    with pytest.raises(LicenseError):
        get_pretrained_model("AudioX-MAF", folders=where)
    assert len(calls) == 1
    for _ in range(2):
        get_pretrained_model("AudioX-MAF", accept_cc_by_nc=True, folders=where)
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


# What is refused


class _Dangerous:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (Path.touch, (self.path,))


def test_a_malicious_pickle_does_not_run(copy_of: Any, tmp_path: Path) -> None:
    folder = copy_of("maf")
    (folder / "model.safetensors").unlink()
    touched = tmp_path / "touched"
    torch.save({"state_dict": _Dangerous(touched)}, folder / "model.ckpt")
    with pytest.raises(CheckpointError, match="could run code"):
        get_pretrained_model(folder, accept_cc_by_nc=True)
    (folder / "model.ckpt").write_bytes(pickle.dumps(_Dangerous(touched)))
    with pytest.raises(CheckpointError):
        get_pretrained_model(folder, accept_cc_by_nc=True)
    assert not touched.exists()


@pytest.mark.parametrize("suffix", ["safetensors", "ckpt"])
@pytest.mark.parametrize("fraction", [0.0, 0.01, 0.9])
def test_a_truncated_checkpoint_is_reported(suffix: str, fraction: float, copy_of: Any) -> None:
    folder = copy_of("base")
    path = folder / "model.safetensors"
    if suffix == "ckpt":
        state = read_copies(path)
        path.unlink()
        path = folder / "model.ckpt"
        torch.save(state, path)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * fraction)])
    with pytest.raises(CheckpointError, match="damaged"):
        get_pretrained_model(folder, accept_cc_by_nc=True)


def test_a_checkpoint_of_another_model_is_reported(copy_of: Any) -> None:
    folder, other = copy_of("maf"), copy_of("mmdit")
    shutil.copy(other / "model.safetensors", folder / "model.safetensors")
    with pytest.raises(CheckpointError) as caught:
        get_pretrained_model(folder, accept_cc_by_nc=True)
    message = str(caught.value)
    assert "does not fit its config.json" in message
    for word in ("missing (", "unexpected (", "and ", "more"):
        assert word in message
    assert len(message) < 4000


def test_each_kind_of_difference_is_named(copy_of: Any) -> None:
    from safetensors.torch import save_file

    folder = copy_of("maf")
    state = read_copies(folder / "model.safetensors")
    lost = state.pop("maf_block.norm1.weight")
    state["maf_block.norm9.weight"] = lost
    state["model.model.preprocess_conv.weight"] = torch.zeros(4, 5, 1)
    save_file(state, folder / "model.safetensors")
    with pytest.raises(CheckpointError) as caught:
        get_pretrained_model(folder, accept_cc_by_nc=True)
    message = str(caught.value)
    assert "missing (1): maf_block.norm1.weight" in message
    assert "unexpected (1): maf_block.norm9.weight" in message
    assert "model.model.preprocess_conv.weight: file (4, 5, 1), model (4, 4, 1)" in message


def test_a_folder_without_weights(copy_of: Any) -> None:
    folder = copy_of("maf")
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelNotFoundError, match="has no weights"):
        get_pretrained_model(folder, accept_cc_by_nc=True)
    (folder / "model.ckpt.incomplete").touch()
    with pytest.raises(ModelNotFoundError, match="download was left unfinished"):
        get_pretrained_model(folder, accept_cc_by_nc=True)


def test_a_folder_without_configuration(copy_of: Any) -> None:
    folder = copy_of("maf")
    (folder / "config.json").unlink()
    with pytest.raises(ConfigError, match=r"config\.json is missing"):
        get_pretrained_model(folder, accept_cc_by_nc=True)


@pytest.mark.parametrize("name", ["../secret", "a/../../b", "/etc", "..", ".hidden", "a/b/c", "", "a b"])
def test_names_with_path_tricks(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not a model name"):
        get_pretrained_model(name, accept_cc_by_nc=True, folders=folders(tmp_path), allow_paths=False)


def test_every_listed_folder_can_be_loaded(copy_of: Any, tmp_path: Path) -> None:
    copy_of("base").rename(tmp_path / "audiox" / "My model (v2)")
    where = folders(tmp_path / "audiox")
    name = list_models(where)[0]
    model, _ = get_pretrained_model(name, accept_cc_by_nc=True, folders=where, allow_paths=False)
    assert model.folder is not None
    assert model.folder.name == name == "My model (v2)"


def test_an_unknown_short_name_lists_the_models(copy_of: Any, tmp_path: Path) -> None:
    copy_of("maf")
    with pytest.raises(ModelNotFoundError, match=r"no model 'AudioY'.*maf, AudioX"):
        get_pretrained_model("AudioY", accept_cc_by_nc=True, folders=folders(tmp_path / "audiox"))


def test_a_missing_text_encoder_is_reported_with_its_place(copy_of: Any) -> None:
    folder = copy_of("maf")
    shutil.rmtree(folder / "text_encoder")
    with pytest.raises(ModelNotFoundError, match="text encoder text_encoder is missing"):
        get_pretrained_model(folder, accept_cc_by_nc=True)


def test_a_text_encoder_of_another_size(copy_of: Any) -> None:
    folder = copy_of("maf")
    config = json.loads((folder / "text_encoder" / "config.json").read_text())
    (folder / "text_encoder" / "config.json").write_text(json.dumps({**config, "d_ff": 128}))
    with pytest.raises(CheckpointError, match=r"does not fit the config\.json of the T5 encoder"):
        get_pretrained_model(folder, accept_cc_by_nc=True)


@pytest.mark.parametrize("name", ["/etc/t5", "../../t5"])
def test_a_text_encoder_name_cannot_leave_the_folder(name: str, copy_of: Any) -> None:
    folder = copy_of("maf")
    config = json.loads((folder / "config.json").read_text())
    config["model"]["conditioning"]["configs"][1]["config"]["t5_model_name"] = name
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match="t5_model_name"):
        get_pretrained_model(folder, accept_cc_by_nc=True)


# Companions and inspection


def test_text_encoders_are_found_in_the_shared_places(tmp_path: Path) -> None:
    shared, tokenizer = tmp_path / "text_encoders", tmp_path / "tok" / "tokenizer.json"
    where = ModelFolders(audiox=(tmp_path,), text_encoders=(shared,), t5_tokenizer=tokenizer)
    assert find_text_encoder("t5-base", where, None) is None
    shared.mkdir()
    (shared / "t5_base.safetensors").touch()
    assert find_text_encoder("t5-base", where, None) == (shared / "t5_base.safetensors", tokenizer)
    (shared / "t5-base").mkdir()
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        (shared / "t5-base" / name).touch()
    expected = (shared / "t5-base", shared / "t5-base" / "tokenizer.json")
    assert find_text_encoder("t5-base", where, None) == expected
    assert find_text_encoder("google-t5/t5-base", where, None) == expected


def test_synchformer_is_found_beside_the_model_first(tmp_path: Path) -> None:
    other, model = tmp_path / "selva", tmp_path / "audiox" / "one"
    for folder in (other, model):
        folder.mkdir(parents=True)
    where = ModelFolders(audiox=(tmp_path / "audiox",), synchformer=(other,), bundled=())
    assert find_synchformer(where, model) is None
    (other / "synchformer_state_dict.pth").touch()
    assert find_synchformer(where, model) == other / "synchformer_state_dict.pth"
    (model / "synchformer").mkdir()
    (model / "synchformer" / "synchformer_state_dict.pth").touch()
    assert find_synchformer(where, model) == model / "synchformer" / "synchformer_state_dict.pth"


def test_synchformer_of_a_tiny_checkpoint_loads_in_float32(tiny_folder: Any) -> None:
    synchformer = load_synchformer(tiny_folder("maf") / "synchformer_state_dict.safetensors")
    assert next(synchformer.parameters()).dtype == torch.float32


@pytest.mark.parametrize("kind", ["base", "maf", "mmdit", "turbo"])
def test_inspect_reports_a_complete_model(kind: str, tiny_folder: Any) -> None:
    report = inspect_checkpoint(str(tiny_folder(kind)))
    assert report["complete"], report
    assert report["network"] == ("mmdit" if kind in ("mmdit", "turbo") else "dit")
    assert "complete" in describe(report)


def test_inspect_reports_what_is_missing(copy_of: Any) -> None:
    folder = copy_of("maf")
    shutil.rmtree(folder / "text_encoder")
    report = inspect_checkpoint(str(folder), folders(folder.parent))
    assert not report["complete"]
    assert len(report["missing_files"]) == 2
    assert "not complete" in describe(report)


# Eight bits

EIGHT_BITS: dict[str, Any] = {
    "operations": PlainOperations,
    "dtype": torch.bfloat16,
    "block_dtype": torch.float8_e4m3fn,
}


def test_weights_in_eight_bits_are_rounded_to_the_nearest(copy_of: Any) -> None:
    model, _ = get_pretrained_model(copy_of("mmdit"), accept_cc_by_nc=True, **EIGHT_BITS)
    full = read_tensors(golden_path("mmdit") / "model.safetensors")
    matrices = 0
    for key, weight in model.network.named_parameters():
        inside = key.startswith("transformer.layers.") and weight.dim() > 1
        assert (weight.dtype == torch.float8_e4m3fn) == inside, key
        if inside:
            stored = full[f"model.model.{key}"]
            assert torch.equal(weight.float(), stored.to(torch.float8_e4m3fn).float()), key
            matrices += 1
    assert matrices


def test_values_beyond_eight_bits_are_an_error(copy_of: Any) -> None:
    folder = copy_of("maf")
    state = read_copies(folder / "model.safetensors")
    key = "model.model.transformer.layers.0.ff.ff.2.weight"
    state[key][0, 0] = -448.0
    (folder / "model.safetensors").unlink()
    torch.save(state, folder / "model.ckpt")
    get_pretrained_model(folder, accept_cc_by_nc=True, **EIGHT_BITS)
    state[key][0, 0] = -512.0
    torch.save(state, folder / "new.ckpt")
    (folder / "new.ckpt").replace(folder / "model.ckpt")
    with pytest.raises(CheckpointError, match=rf"{key} holds a value beyond 448, which fp8 cannot hold"):
        get_pretrained_model(folder, accept_cc_by_nc=True, **EIGHT_BITS)
    get_pretrained_model(folder, accept_cc_by_nc=True, precision="bf16")


def test_eight_bits_need_layers_that_cast(copy_of: Any) -> None:
    folder, eight_bits = copy_of("maf"), torch.float8_e4m3fn
    with pytest.raises(InputError, match=r"fp8 works only in ComfyUI.*Choose auto, fp32, bf16 or fp16"):
        get_pretrained_model(folder, accept_cc_by_nc=True, precision="fp8")
    with pytest.raises(InputError, match=r"torch\.float8_e4m3fn, but .*ComfyUI's"):
        get_pretrained_model(folder, accept_cc_by_nc=True, block_dtype=eight_bits)
