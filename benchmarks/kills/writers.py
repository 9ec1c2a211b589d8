"""Everything that writes files: how to run it, what it needs, and what must be there in the end."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from audiox_ext.cli.main import main as audiox
from audiox_ext.conditioning.feature_cache import FeatureCache, read_features
from audiox_ext.media.audio_video import write_audio
from pocket.__main__ import main as pocket
from tests.training_miniature import miniature_values
from tests.user_sounds import tone, write_sounds
from tools.random_checkpoint import write_tiny_checkpoint

ROOT = Path(__file__).parents[2]
_WITHOUT_LENGTH = (
    *("--prompt", "a high beep twice", "--steps", "2", "--device", "cpu", "--offline"),
    "--force",  # a batch that was killed may have written some of its files
)
_QUICK = (*_WITHOUT_LENGTH, "--seconds", "2")
_TRAINING = (
    *("--steps", "8", "--batch-size", "2", "--warmup-steps", "2", "--validate-every", "4", "--patience", "0"),
    *("--checkpoint-every", "1", "--preview-every", "0", "--preview-steps", "2", "--device", "cpu"),
)
_RUN = {
    "workers": 0,
    "checkpoint_every": 1,
    "validate_every": 4,
    "warmup_steps": 2,
    "batch_size": 2,
    "steps": 6,
}


@dataclass(frozen=True, kw_only=True)
class Writer:
    """One thing that writes files.

    Attributes:
        name: Its name in the report.
        run: Writes into the folder that it is given. Receives the materials as well. Returns an exit status.
        results: Names of the files, or patterns, that must have the same bytes after every run.
        prepare: Puts an earlier result into the folder before each run.
    """

    name: str
    run: Callable[[Path, Path], int]
    results: tuple[str, ...]
    prepare: Callable[[Path, Path], None] | None = field(default=None)


def write_materials(folder: Path) -> None:
    """Write what the writers read: a film, a sound, a folder of sounds, two models and training files.

    Args:
        folder: Folder to write to.
    """
    shutil.copy(ROOT / "examples" / "pocket_film.mp4", folder / "film.mp4")
    write_audio(folder / "track.wav", tone(440, 4.0), 16000)
    write_sounds(folder / "sounds", seconds=2.0)
    write_tiny_checkpoint(folder / "model", "maf", seed=0)
    write_tiny_checkpoint(folder / "other", "maf", seed=7)
    values: dict[str, Any] = miniature_values()
    for part in ("autoencoder", "sync", "diffusion"):
        values[part] = values[part] | _RUN
    (folder / "training.json").write_text(json.dumps(values), encoding="utf-8")
    _extract(folder, folder)


def read_earlier_parts(materials: Path) -> None:
    """Train the parts of the miniature that its diffusion needs, once for all trials.

    Args:
        materials: Folder of the materials.
    """
    for part in ("autoencoder", "sync"):
        _train_pocket(part)(materials / "parts", materials)


def _command(*words: str) -> Callable[[Path, Path], int]:
    """Make a function that runs a command; {out} and {in} stand for the two folders."""

    def run(folder: Path, materials: Path) -> int:
        names: Mapping[str, str] = {"out": str(folder), "in": str(materials)}
        return audiox([word.format_map(names) for word in words])

    return run


_extract = _command(
    "extract", "--video", "{in}/film.mp4", "--model", "audiox-pocket", "-o", "{out}/film.safetensors"
)


def _train_pocket(part: str) -> Callable[[Path, Path], int]:
    """Make a function that trains a part of the miniature."""

    def run(folder: Path, materials: Path) -> int:
        config = str(materials / "training.json")
        return pocket(["train", part, config, "--output", str(folder), "--device", "cpu"])

    return run


def _copy_parts(folder: Path, materials: Path) -> None:
    """Copy the trained parts that the diffusion needs."""
    shutil.copytree(materials / "parts", folder, dirs_exist_ok=True)


def _copy_other_model(folder: Path, materials: Path) -> None:
    """Put another model where a model is to be written."""
    shutil.copytree(materials / "other", folder / "model")


def _fill_cache(folder: Path, materials: Path) -> int:
    """Store features in a cache again and again."""
    features = read_features(materials / "film.safetensors")
    cache = FeatureCache(folder)
    for number in range(20):
        cache.put(f"entry-{number}", features)
    return 0 if all(cache.get(f"entry-{number}") is not None for number in range(20)) else 1


def _write_sounds(folder: Path, materials: Path) -> int:
    """Write sounds in the formats whose bytes are the same each time."""
    waveform = tone(440, 20.0)
    for suffix in ("wav", "flac", "mp3", "m4a"):  # an Ogg stream has a random number
        write_audio(folder / f"tone.{suffix}", waveform, 16000)
    return 0


WRITERS = (
    Writer(name="write_audio", run=_write_sounds, results=("tone.*",)),
    Writer(
        name="generate",
        run=_command("generate", *_QUICK, "--batch", "3", "-o", "{out}/beep.flac"),
        results=("beep*.flac",),
    ),
    Writer(
        name="generate film",
        run=_command("generate", *_WITHOUT_LENGTH, "--video", "{in}/film.mp4", "-o", "{out}/film.mp4"),
        results=("film.mp4",),
    ),
    Writer(
        name="edit",
        run=_command("edit", "{in}/track.wav", "--region", "1-2", *_WITHOUT_LENGTH, "-o", "{out}/edit.wav"),
        results=("edit.wav",),
    ),
    Writer(
        name="extend",
        run=_command("extend", "{in}/track.wav", *_QUICK, "-o", "{out}/longer.wav"),
        results=("longer.wav",),
    ),
    Writer(
        name="level",
        run=_command("level", "{in}/track.wav", "--loudness", "-20", "-o", "{out}/level.wav"),
        results=("level.wav",),
    ),
    Writer(
        name="view", run=_command("view", "{in}/track.wav", "-o", "{out}/view.png"), results=("view.png",)
    ),
    Writer(
        name="extract",
        run=_extract,
        results=("film.safetensors",),
    ),
    Writer(name="feature cache", run=_fill_cache, results=("entry-*.safetensors",)),
    Writer(
        name="convert",
        run=_command("convert", "{in}/model", "-o", "{out}/model"),
        results=("model/*.*", "model/text_encoder/*"),
    ),
    Writer(
        name="convert --force",
        run=_command("convert", "{in}/model", "-o", "{out}/model", "--force"),
        results=("model/*.*", "model/text_encoder/*"),
        prepare=_copy_other_model,
    ),
    Writer(
        name="train lora",
        run=_command(
            "train", "lora", "{in}/model", "{in}/sounds", "--output", "{out}", "--name", "mine", *_TRAINING
        ),
        results=("mine.safetensors",),
    ),
    Writer(
        name="train finetune",
        run=_command("train", "finetune", "{in}/model", "{in}/sounds", "--output", "{out}", *_TRAINING),
        results=("model/*.*", "model/text_encoder/*"),
    ),
    Writer(
        name="pocket autoencoder",
        run=_train_pocket("autoencoder"),
        results=("autoencoder/autoencoder.safetensors",),
    ),
    Writer(name="pocket sync", run=_train_pocket("sync"), results=("sync/*.safetensors",)),
    Writer(
        name="pocket diffusion",
        run=_train_pocket("diffusion"),
        results=("model/*.*", "model/text_encoder/*"),
        prepare=_copy_parts,
    ),
)
