"""A user's own sounds in a folder: which files there are, and what is said of each. Nothing is decoded here.

A caption stands in a table (captions.csv or metadata.jsonl: file, caption), in a text file beside the sound
(rain.wav, rain.txt), or else in the file's name.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..media.audio_video import AUDIO_SUFFIXES
from ..media.muxing import VIDEO_SUFFIXES

TABLES = ("captions.csv", "metadata.csv", "metadata.jsonl", "captions.jsonl")
_SOUNDS = {*AUDIO_SUFFIXES, ".aac", ".ac3", ".aif", ".aiff", ".au", ".caf", ".mka", ".oga", ".wma", ".wv"}
_VIDEOS = {*VIDEO_SUFFIXES, ".3gp", ".avi", ".flv", ".mpeg", ".mpg", ".mts", ".ogv", ".ts", ".wmv"}
_FILE_COLUMNS = ("file", "file_name", "filename", "path", "audio")
_CAPTION_COLUMNS = ("caption", "text", "prompt", "description")
_SHOWN = 5  # of many, in a sentence


@dataclass(frozen=True, kw_only=True)
class CaptionedFile:
    """name: within the folder, such as dogs/bark.wav."""

    path: Path
    name: str
    caption: str

    @property
    def may_be_video(self) -> bool:
        """By its suffix; there may yet be no pictures in it."""
        return self.path.suffix.lower() in _VIDEOS


@dataclass(frozen=True, kw_only=True)
class UserFolder:
    """files: sorted by name. notes: lines for the user, about captions."""

    folder: Path
    files: tuple[CaptionedFile, ...]
    notes: tuple[str, ...]


def read_folder(folder: Path, default_caption: str = "") -> UserFolder:
    """The sounds and videos that lie directly in a folder, and those that its table names.

    default_caption: for files of which nothing is said; without one the words of their names are taken.
    Raises `InputError` for a folder that is missing or holds none, for a table that cannot be read, and
    for files about which not even their names say anything.
    """
    if not folder.is_dir():
        raise InputError(f"There is no folder {folder}. Give one that holds sounds, each with its caption.")
    table, notes = _read_table(folder)
    found = {path.name: path for path in folder.iterdir() if _is_media(path)}
    found |= {name: folder / name for name in table if (folder / name).is_file()}
    missing = sorted(table.keys() - found.keys())
    if missing:
        notes.append(f"The table names {len(missing)} files that are not there: {some(missing)}.")
    if not found:
        raise InputError(
            f"{folder} holds no sound and no video. Put files such as rain.wav there, and beside each its "
            "caption, rain.txt; subfolders are looked into only for what captions.csv names."
        )
    files, guessed = [], []
    for name, path in sorted(found.items()):
        caption = _joined(table.get(name, "")) or _beside(path)
        if not caption:
            caption = _joined(default_caption) or words_of(path.stem)
            guessed.append((name, caption))
        files.append(CaptionedFile(path=path, name=name, caption=caption))
    nameless = [name for name, caption in guessed if not caption]
    if nameless:
        raise InputError(
            f"{len(nameless)} files have no caption, and no words in their names: {some(nameless)}. Write "
            f"what is heard into {Path(nameless[0]).stem}.txt, or give a caption for all that have none."
        )
    if guessed:
        examples = some([f'{name}: "{caption}"' for name, caption in guessed])
        source = "the given caption" if _joined(default_caption) else "the words of the file's name"
        notes.append(f"{len(guessed)} of {len(files)} files have no caption; {source} is used: {examples}.")
    return UserFolder(folder=folder, files=tuple(files), notes=tuple(notes))


def words_of(stem: str) -> str:
    """The words in a file's name without its suffix: DogBark_02 -> dog bark; "" where it has none."""
    apart = re.sub(r"([a-z])([A-Z])", r"\1 \2", stem)
    return " ".join(re.findall(r"[^\W\d_]+(?:'[^\W\d_]+)?", apart)).lower()


def _is_media(path: Path) -> bool:
    known = path.suffix.lower() in _SOUNDS | _VIDEOS
    return known and not path.name.startswith(".") and path.is_file()


def _beside(path: Path) -> str:
    text = path.with_suffix(".txt")
    return _joined(_text_of(text)) if text.is_file() else ""


def _joined(text: str) -> str:
    """On one line, without spaces around it."""
    return " ".join(text.split())


def _text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read as UTF-8 text ({error}). Save it as UTF-8.") from None


def _read_table(folder: Path) -> tuple[dict[str, str], list[str]]:
    """(caption by file name, notes); empty where there is no table."""
    tables = [folder / name for name in TABLES if (folder / name).is_file()]
    if not tables:
        return {}, []
    path = tables[0]
    notes = [f"Captions are read from {path.name}, not from {tables[1].name}."] if len(tables) > 1 else []
    rows = _csv_rows(path) if path.suffix == ".csv" else _json_rows(path)
    captions: dict[str, str] = {}
    for line, row in rows:
        name, caption = (_column(row, columns) for columns in (_FILE_COLUMNS, _CAPTION_COLUMNS))
        if name is None or caption is None:
            raise InputError(
                f"{path.name}, line {line}: a file and its caption are wanted, under the names file and "
                f"caption; it holds {', '.join(map(str, row)) or 'nothing'}."
            )
        inside = Path(name)
        if inside.is_absolute() or ".." in inside.parts:
            raise InputError(f"{path.name}, line {line}: {name} lies outside of {folder}. Copy it there.")
        captions[inside.as_posix()] = caption
    return captions, notes


def _column(row: Mapping[str, Any], names: tuple[str, ...]) -> str | None:
    return next((str(row[name]) for name in names if row.get(name) is not None), None)


def _csv_rows(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """(line, row by column). Without a heading the columns are file and caption."""
    lines = _text_of(path).splitlines()
    first = lines[0] if lines else ""
    delimiter = max(",;\t", key=first.count)
    reader = csv.reader(lines, delimiter=delimiter)
    heading: list[str] | None = None
    for cells in reader:
        if not any(cell.strip() for cell in cells):
            continue
        if heading is None:
            heading = [cell.strip().lower() for cell in cells]
            if set(heading) & set(_FILE_COLUMNS):
                continue
            heading = ["file", "caption"]
        yield reader.line_num, dict(zip(heading, (cell.strip() for cell in cells), strict=False))


def _json_rows(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    for number, line in enumerate(_text_of(path).splitlines(), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise InputError(f"{path.name}, line {number} is no JSON ({error}).") from None
        yield number, row if isinstance(row, dict) else {}


def some(items: list[str]) -> str:
    """The first few of many, for a sentence."""
    more = f" and {len(items) - _SHOWN} more" if len(items) > _SHOWN else ""
    return ", ".join(items[:_SHOWN]) + more
