"""Good files with random damage. The same seed makes the same damage, from the same files."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bad_case import Case, Place
from bad_inputs.headers import make_text_encoder, read_features_file, read_lora_file
from bad_inputs.pictures import read_mask, read_picture
from bad_inputs.sounds import read
from bad_inputs.videos import extract
from model_files import load_model, load_sync, make_model

_EDGE = 4096  # bytes at each end, where headers and indexes are
# Numbers at the ends of their types, in both byte orders.
_NUMBERS = tuple(
    value.to_bytes(size, order)  # type: ignore[arg-type]
    for size in (1, 2, 4, 8)
    for value in (0, 1, 2 ** (8 * size) - 1, 2 ** (8 * size - 1), 2 ** (8 * size - 1) - 1)
    for order in ("little", "big")
)

Make = Callable[[Place, bytes], Any]


def _as_file(name: str) -> Make:
    """Write the damaged file under this name."""
    return lambda place, data: place.write(name, data)


def _as_model(name: str) -> Make:
    """Write the damaged weights of a model."""
    return lambda place, data: make_model(place, data, name)


def _read_film(path: Path) -> Any:
    """Read pictures and sound of a film."""
    from audiox_ext.media.audio_video import read_soundtrack

    features = extract(path)
    read_soundtrack(path)
    return features


def _read_captions(path: Path) -> Any:
    from audiox_ext.training.audio_folder import read_audio_folder

    (path.parent / "rain.wav").write_bytes(b"a sound")
    return read_audio_folder(path.parent)


def _make_config(place: Place, data: bytes) -> Path:
    from bad_inputs.configs import make_config

    return make_config(place, data)


# The good file, where it goes, and who reads it.
TARGETS: tuple[tuple[str, Make, Callable[[Any], Any]], ...] = (
    *((f"good.{suffix}", _as_file(f"bad.{suffix}"), read) for suffix in ("wav", "flac", "ogg", "mp3", "m4a")),
    *(
        (f"good.{suffix}", _as_file(f"bad.{suffix}"), _read_film)
        for suffix in ("mp4", "mkv", "webm", "ts", "avi")
    ),
    *((f"moving.{suffix}", _as_file(f"bad.{suffix}"), extract) for suffix in ("gif", "webp", "png")),
    *(
        (f"good.{suffix}", _as_file(f"bad.{suffix}"), read_picture)
        for suffix in ("png", "jpg", "webp", "gif", "bmp", "tif")
    ),
    ("good.png", _as_file("bad.png"), read_mask),
    ("model/model.safetensors", _as_model("model.safetensors"), load_model),
    ("model.ckpt", _as_model("model.ckpt"), load_model),
    ("model/text_encoder/model.safetensors", make_text_encoder, load_model),
    ("model/config.json", _make_config, load_model),
    ("with_sync/synchformer_state_dict.safetensors", _as_file("bad.safetensors"), load_sync),
    ("lora.safetensors", _as_file("bad.safetensors"), read_lora_file),
    ("features.safetensors", _as_file("bad.safetensors"), read_features_file),
    ("captions.csv", _as_file("sounds/captions.csv"), _read_captions),
    ("captions.jsonl", _as_file("sounds/captions.jsonl"), _read_captions),
)


class MutatedFiles:
    """The cases by their seed."""

    def __getitem__(self, seed: int) -> Case:
        """The case of a seed."""
        source, make, call = TARGETS[seed % len(TARGETS)]
        return Case(
            f"{source}, seed {seed}",
            lambda place: make(place, damage(place.sample(source), seed)),
            call,
            ".",
            kind="mutated file",
            may_work=True,
        )


def damage(data: bytes, seed: int) -> bytes:
    """Damage a file in one to four places."""
    chance = random.Random(seed)
    content = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 4))):
        if content:
            chance.choice(_DAMAGES)(content, chance)
    return bytes(content)


def _choose_place(content: bytearray, chance: random.Random) -> int:
    """Mostly near the ends, where headers and indexes are."""
    kind = chance.random()
    if kind < 0.5:
        return chance.randrange(min(len(content), _EDGE))
    if kind < 0.75:
        return max(0, len(content) - 1 - chance.randrange(_EDGE))
    return chance.randrange(len(content))


def _flip_bits(content: bytearray, chance: random.Random) -> None:
    for _ in range(chance.choice((1, 8, 64))):
        content[_choose_place(content, chance)] ^= 1 << chance.randrange(8)


def _write_number(content: bytearray, chance: random.Random) -> None:
    at, number = _choose_place(content, chance), chance.choice(_NUMBERS)
    content[at : at + len(number)] = number


def _truncate(content: bytearray, chance: random.Random) -> None:
    del content[_choose_place(content, chance) :]


def _repeat_block(content: bytearray, chance: random.Random) -> None:
    at, size = _choose_place(content, chance), chance.choice((1, 16, 512, 4096))
    content[at:at] = content[at : at + size] * chance.choice((1, 2, 16))


def _remove_block(content: bytearray, chance: random.Random) -> None:
    at = _choose_place(content, chance)
    del content[at : at + chance.choice((1, 4, 16, 512))]


def _swap_blocks(content: bytearray, chance: random.Random) -> None:
    first, second = sorted((_choose_place(content, chance), _choose_place(content, chance)))
    size = chance.choice((1, 4, 8, 64))
    if second + size <= len(content) and first + size <= second:
        block = content[first : first + size]
        content[first : first + size] = content[second : second + size]
        content[second : second + size] = block


def _zero_block(content: bytearray, chance: random.Random) -> None:
    at, size = _choose_place(content, chance), chance.choice((4, 64, 1024))
    size = min(size, len(content) - at)
    content[at : at + size] = bytes(size)


def _change_digit(content: bytearray, chance: random.Random) -> None:
    """Change a number that stands in text."""
    at = _choose_place(content, chance)
    digits = [index for index in range(at, min(at + 200, len(content))) if 48 <= content[index] <= 57]
    if digits:
        content[digits[0] : digits[0] + 1] = chance.choice(
            (b"-1", b"99999999999999999999", b"NaN", b"0", b"1e999")
        )


_DAMAGES = (
    _flip_bits,
    _write_number,
    _write_number,
    _truncate,
    _repeat_block,
    _remove_block,
    _swap_blocks,
    _zero_block,
    _change_digit,
)
