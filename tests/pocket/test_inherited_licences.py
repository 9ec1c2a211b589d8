"""Whatever is made from weights inherits their licence, in every command and node that writes weights."""

from __future__ import annotations

import argparse
import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from quick_finetuning import needs_training
from safetensors.torch import save_file
from training_miniature import miniature_values
from training_runs import copy_trained, needs_lightning
from user_sounds import write_sounds

from audiox_ext.checkpoints.catalog import find_files
from audiox_ext.checkpoints.config_parser import read_model_config
from audiox_ext.checkpoints.pretrained import get_pretrained_model
from audiox_ext.checkpoints.state_dict import read_tensors
from audiox_ext.checkpoints.untrusted.headers import read_license
from audiox_ext.cli import main as engine
from audiox_ext.errors import LicenseError
from audiox_ext.license import find_strictest, is_non_commercial
from pocket import __main__ as pocket
from tools.random_checkpoint import write_tiny_checkpoint

ROOT = Path(__file__).parents[2]
STRICT = "cc-by-nc-4.0"
WRITE_NO_WEIGHTS = {
    "audiox_ext generate",
    "audiox_ext edit",
    "audiox_ext extend",
    "audiox_ext extract",
    "audiox_ext inspect",
    "audiox_ext view",
    "audiox_ext level",
    "pocket dataset",
}
# Each command with each option that names a model. The sync encoder is trained from nothing.
WRITERS = {
    ("audiox_ext convert", "model"),
    ("audiox_ext train lora", "model"),
    ("audiox_ext train finetune", "model"),
    ("pocket train autoencoder", "initial_model"),
    ("pocket train sync", ""),
    ("pocket train diffusion", "initial_model"),
    ("pocket train diffusion", "teacher"),
}
NODES_THAT_WRITE_NO_WEIGHTS = {
    "AudioXLoadModel",
    "AudioXLoadLora",
    "AudioXExtractFeatures",
    "AudioXSample",
    "AudioXEditRegion",
    "AudioXExtend",
    "AudioXLoudness",
    "AudioXChooseVariation",
    "AudioXVideoSound",
    "AudioXView",
}
NODES_BY_COMMAND = {"AudioXTrainLora": "train_lora"}  # the function that the command calls, too
MODEL_OPTIONS = {"model", "initial_model", "teacher"}


def walk(parser: argparse.ArgumentParser, name: str) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """All commands of a parser without commands of their own."""
    groups = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    if not groups:
        yield name, parser
    for group in groups:
        for word, command in group.choices.items():
            yield from walk(command, f"{name} {word}")


def test_every_command_that_writes_weights_is_tested() -> None:
    writers = set()
    for name, parser in (*walk(engine.build_parser(), "audiox_ext"), *walk(pocket.build_parser(), "pocket")):
        if name in WRITE_NO_WEIGHTS:
            continue
        options = {
            action.dest
            for action in parser._actions
            if action.dest in MODEL_OPTIONS or action.metavar == "MODEL"
        }
        writers |= {(name, option) for option in options or {""}}
    assert writers == WRITERS


def test_every_node_that_writes_weights_is_tested() -> None:
    sources = [path.read_text(encoding="utf-8") for path in (ROOT / "nodes").glob("*.py")]
    ids = {name: text for text in sources for name in re.findall(r'node_id="(\w+)"', text)}
    assert ids.keys() == NODES_THAT_WRITE_NO_WEIGHTS | NODES_BY_COMMAND.keys()
    for name, function in NODES_BY_COMMAND.items():
        assert f"result = {function}(" in ids[name]


def make_strict(path: Path) -> Path:
    """Let the header of a weights file name a strict licence."""
    state = {key: tensor.clone() for key, tensor in read_tensors(path).items()}
    save_file(state, path, {"format": "pt", "license": STRICT})
    return path


@pytest.fixture
def strict_model(tmp_path: Path) -> Path:
    """A model whose config.json says MIT, and whose weights say otherwise."""
    folder = write_tiny_checkpoint(tmp_path / "strict", "base")
    make_strict(folder / "model.safetensors")
    assert json.loads((folder / "config.json").read_text())["license"] == "MIT"
    return folder


def license_of(folder: Path) -> str | None:
    """The licence of a model in a folder, which is in both of its files."""
    name = read_model_config(find_files(folder))["license"]
    assert json.loads((folder / "config.json").read_text())["license"] == name
    assert read_license(folder / "model.safetensors") == name
    return name


def test_the_stricter_of_config_and_header_counts(strict_model: Path) -> None:
    with pytest.raises(LicenseError, match=r"their licence is cc-by-nc-4\.0"):
        get_pretrained_model(strict_model)
    model, config = get_pretrained_model(strict_model, accept_cc_by_nc=True)
    assert config["license"] == model.config.license == STRICT


@pytest.mark.parametrize("header", [{}, {"license": "unknown"}, {"license": ""}, {"license": "MIT"}])
def test_a_header_without_a_strict_licence_changes_nothing(header: dict[str, str], tmp_path: Path) -> None:
    folder = write_tiny_checkpoint(tmp_path / "model", "base")
    path = folder / "model.safetensors"
    save_file({key: value.clone() for key, value in read_tensors(path).items()}, path, header)
    assert get_pretrained_model(folder)[1]["license"] == "MIT"
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "license": None}))
    with pytest.raises(LicenseError):
        get_pretrained_model(folder)


@pytest.mark.parametrize("name", ["text_encoder/model.safetensors", "synchformer_state_dict.safetensors"])
def test_encoders_in_the_folder_count(name: str, tmp_path: Path) -> None:
    folder = write_tiny_checkpoint(tmp_path / "model", "maf")
    make_strict(folder / name)
    with pytest.raises(LicenseError):
        get_pretrained_model(folder)


@pytest.mark.parametrize("value", ["false", "no", "true", 1, 1.0, float("nan"), [True], None, False])
def test_nothing_but_true_is_consent(value: object, strict_model: Path) -> None:
    with pytest.raises(LicenseError):
        get_pretrained_model(strict_model, accept_cc_by_nc=value)  # type: ignore[arg-type]


def test_a_misunderstood_consent_is_named(strict_model: Path) -> None:
    with pytest.raises(LicenseError, match="accept_cc_by_nc is 'false', which is not consent: only True is"):
        get_pretrained_model(strict_model, accept_cc_by_nc="false")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("licenses", "expected"),
    [
        (["MIT"], "MIT"),
        (["MIT", "cc-by-sa-4.0", "CC0-1.0"], "cc-by-sa-4.0"),
        (["MIT", STRICT], STRICT),
        (["MIT", None], None),
        ([None, STRICT, "unknown"], STRICT),
        ([STRICT, "research-only", "CC BY-NC 4.0"], "CC BY-NC 4.0 AND research-only"),
        ([], None),
    ],
)
def test_the_strictest_licence(licenses: list[str | None], expected: str | None) -> None:
    assert find_strictest(licenses) == expected
    assert is_non_commercial(find_strictest(licenses)) == any(map(is_non_commercial, licenses or [None]))


def test_convert_inherits(strict_model: Path, tmp_path: Path) -> None:
    assert engine.main(["convert", str(strict_model), "-o", str(tmp_path / "new")]) == 1
    assert engine.main(["convert", str(strict_model), "-o", str(tmp_path / "new"), "--accept-cc-by-nc"]) == 0
    assert license_of(tmp_path / "new") == STRICT


TRAINING = (
    "--steps 1 --batch-size 1 --preview-every 0 --preview-steps 1 --patience 0 --device cpu --accept-cc-by-nc"
)


@pytest.mark.slow
@needs_training
def test_train_lora_inherits(strict_model: Path, tmp_path: Path) -> None:
    sounds, out = write_sounds(tmp_path / "sounds", 2), tmp_path / "out"
    arguments = ["train", "lora", str(strict_model), str(sounds), "--output", str(out), *TRAINING.split()]
    assert engine.main(arguments) == 0
    assert read_license(out / "out.safetensors") == STRICT


@needs_training
def test_train_finetune_inherits(strict_model: Path, tmp_path: Path) -> None:
    sounds, out = write_sounds(tmp_path / "sounds", 2), tmp_path / "out"
    arguments = ["train", "finetune", str(strict_model), str(sounds), "--output", str(out), *TRAINING.split()]
    assert engine.main(arguments) == 0
    assert license_of(out / "model") == STRICT


@pytest.fixture
def train_pocket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Run a training of the miniature, with consent from the environment."""
    monkeypatch.setenv("AUDIOX_ACCEPT_CC_BY_NC", "1")
    (tmp_path / "miniature.json").write_text(json.dumps(miniature_values()))

    def train(part: str, *arguments: str) -> Path:
        out = tmp_path / "out"
        command = ["train", part, str(tmp_path / "miniature.json"), "--output", str(out), "--device", "cpu"]
        assert pocket.main([*command, *arguments]) == 0
        return out

    return train


def copy_strict(trained: Path, tmp_path: Path) -> str:
    """A copy of the trained miniature, whose weights name a strict licence."""
    folder = Path(shutil.copytree(trained / "model", tmp_path / "strict-miniature"))
    make_strict(folder / "model.safetensors")
    return str(folder)


@pytest.mark.slow
@needs_lightning
@pytest.mark.parametrize("option", ["--initial-model", "--teacher"])
def test_the_diffusion_inherits(
    option: str, trained: Path, tmp_path: Path, train_pocket: Callable[..., Path]
) -> None:
    copy_trained(trained, tmp_path / "out")
    assert license_of(train_pocket("diffusion", option, copy_strict(trained, tmp_path)) / "model") == STRICT


@pytest.mark.slow
@needs_lightning
def test_the_diffusion_inherits_from_its_autoencoder(
    trained: Path, tmp_path: Path, train_pocket: Callable[..., Path]
) -> None:
    copy_trained(trained, tmp_path / "out")
    shutil.rmtree(tmp_path / "out" / "autoencoder")
    out = train_pocket("autoencoder", "--initial-model", copy_strict(trained, tmp_path / "a"))
    assert read_license(out / "autoencoder" / "autoencoder.safetensors") == STRICT
    assert license_of(train_pocket("diffusion") / "model") == STRICT


@needs_lightning
def test_a_sync_encoder_has_the_licence_of_the_training_file(trained: Path) -> None:
    assert read_license(trained / "sync" / "synchformer.safetensors") == "MIT"
    assert license_of(trained / "model") == "MIT"
