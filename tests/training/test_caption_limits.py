"""Tables and caption files that are too large or nested too deeply: a sentence, in little time."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest

from audiox_ext.errors import InputError
from audiox_ext.training.audio_folder import read_audio_folder
from audiox_ext.training.captions import texts


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "rain.wav").write_bytes(b"RIFF")
    return tmp_path


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        (
            "captions.csv",
            "file,caption\nrain.wav," + "x" * 200_000,
            "line 2 cannot be read (field larger than",
        ),
        (
            "captions.csv",
            "file,caption\nrain.wav," + "x" * 20_000,
            "line 2 has a caption of 20000 characters",
        ),
        ("captions.csv", '"' * 1_000_000, "line 1 cannot be read"),
        ("captions.csv", "a" * 5000 + ".wav,rain", "line 1 names a file with 5004 characters"),
        ("captions.json", "[" * 100_000, "captions.json is not valid JSON"),
        ("captions.json", '{"a":' * 100_000, "captions.json is not valid JSON"),
        (
            "captions.json",
            '[{"file":"rain.wav","caption":' + "[" * 900 + '"x"' + "]" * 900 + "}]",
            "entry 1 has a list of captions in another",
        ),
        ("captions.json", '[{"file":"rain.wav","caption":' + "9" * 5000 + "}]", "is not valid JSON"),
        ("captions.json", '[{"file":"rain.wav","caption_' + "9" * 5000 + '":"x"}]', "has the columns file, "),
        ("captions.json", "[{" + ",".join(f'"c{i}":1' for i in range(9000)) + "}]", "c8, c9, ...."),
        ("metadata.jsonl", "[" * 100_000, "metadata.jsonl, line 1 is not valid JSON"),
        ("rain.txt", "x" * 200_000, "rain.txt has a caption of 200000 characters"),
    ],
    ids=lambda value: value[:12],
)
def test_what_is_too_large_or_too_deep_is_a_short_sentence(
    name: str, text: str, sentence: str, folder: Path
) -> None:
    (folder / name).write_text(text, encoding="utf-8")
    started = time.monotonic()
    with pytest.raises(InputError, match=re.escape(sentence)) as info:
        read_audio_folder(folder)
    assert time.monotonic() - started < 2
    assert len(str(info.value)) < 500


def test_only_the_beginning_of_a_huge_file_is_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (folder / "rain.txt").open("wb") as file:
        file.truncate(10**12)  # a sparse file
    with pytest.raises(InputError, match="is larger than 64 MB"):
        read_audio_folder(folder)


@pytest.mark.slow
@pytest.mark.parametrize("row", ["rain.wav,{}\n", "{},rain\n", "rain{},rain\n"])
def test_the_time_of_a_table_grows_with_its_length(row: str, folder: Path) -> None:
    """Many captions of one file, and many missing files."""
    for number in range(2000):
        (folder / f"other-{number}.txt").touch()

    def measure(rows: int) -> float:
        lines = "".join(row.format(number) for number in range(rows))
        (folder / "captions.csv").write_text("file,caption\nrain.wav,rain\n" + lines)
        started = time.process_time()
        read_audio_folder(folder)
        return time.process_time() - started

    measure(100)  # imports
    assert measure(40_000) < 6 * measure(10_000) + 0.5


def test_a_caption_of_the_longest_length_is_read(folder: Path) -> None:
    (folder / "rain.txt").write_text("x" * texts._LONGEST_CAPTION)
    assert len(read_audio_folder(folder).files[0].caption) == texts._LONGEST_CAPTION
