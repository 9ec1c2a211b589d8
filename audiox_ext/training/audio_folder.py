"""A user's folder of sounds: its files and their captions. Nothing is decoded here.

A caption comes from a table (captions.csv or metadata.jsonl with the columns file and caption), from a text
file beside the sound (rain.txt beside rain.wav), or else from the file's name.
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
_LISTED = 5  # names in a sentence; the rest are counted


@dataclass(frozen=True, kw_only=True)
class CaptionedFile:
    """A sound or video with its caption.

    Attributes:
        path: path of the file.
        name: name within the folder, such as dogs/bark.wav.
        caption: one line.
    """

    path: Path
    name: str
    caption: str

    @property
    def may_be_video(self) -> bool:
        """Whether the file has a video's suffix. It may still hold no pictures."""
        return self.path.suffix.lower() in _VIDEOS


@dataclass(frozen=True, kw_only=True)
class AudioFolder:
    """The sounds of a folder.

    Attributes:
        folder: folder of the sounds.
        files: sorted by name.
        notes: sentences about the captions, for the user.
    """

    folder: Path
    files: tuple[CaptionedFile, ...]
    notes: tuple[str, ...]


def read_audio_folder(folder: Path, default_caption: str = "") -> AudioFolder:
    """List the sounds and videos directly in a folder, and those that its table names.

    Args:
        folder: folder to read.
        default_caption: caption for files without one; "" takes the words of their names.

    Raises:
        InputError: the folder does not exist or holds no sound, its table cannot be read, or a file has
            neither a caption nor words in its name.
    """
    if not folder.is_dir():
        raise InputError(f"There is no folder {folder}. Name a folder of sounds, each with its caption.")
    table, notes = _read_table(folder)
    paths = {path.name: path for path in folder.iterdir() if _is_media(path)}
    paths |= {name: folder / name for name in table if (folder / name).is_file()}
    missing = sorted(table.keys() - paths.keys())
    if missing:
        notes.append(f"The table names {len(missing)} files that do not exist: {list_some(missing)}.")
    if not paths:
        raise InputError(
            f"{folder} holds no sound and no video. Put files such as rain.wav into it, each with its "
            "caption in a text file such as rain.txt. Files in subfolders are used only if captions.csv "
            "names them."
        )
    files, uncaptioned = [], []
    for name, path in sorted(paths.items()):
        caption = _join_lines(table.get(name, "")) or _read_caption(path)
        if not caption:
            caption = _join_lines(default_caption) or extract_words(path.stem)
            uncaptioned.append((name, caption))
        files.append(CaptionedFile(path=path, name=name, caption=caption))
    wordless = [name for name, caption in uncaptioned if not caption]
    if wordless:
        raise InputError(
            f"{len(wordless)} files have no caption, and no words in their names: {list_some(wordless)}. "
            f"Describe the sound in {Path(wordless[0]).stem}.txt, or give one caption for all of them."
        )
    if uncaptioned:
        examples = list_some([f'{name}: "{caption}"' for name, caption in uncaptioned])
        source = "the default caption" if _join_lines(default_caption) else "the words of the file's name"
        notes.append(
            f"{len(uncaptioned)} of {len(files)} files have no caption; {source} is used: {examples}."
        )
    return AudioFolder(folder=folder, files=tuple(files), notes=tuple(notes))


def extract_words(stem: str) -> str:
    """Return the words in a file's name, such as "dog bark" for DogBark_02; "" if it has none."""
    spaced = re.sub(r"([a-z])([A-Z])", r"\1 \2", stem)
    return " ".join(re.findall(r"[^\W\d_]+(?:'[^\W\d_]+)?", spaced)).lower()


def list_some(items: list[str]) -> str:
    """Join the first five items for a sentence, and count the rest."""
    more = f" and {len(items) - _LISTED} more" if len(items) > _LISTED else ""
    return ", ".join(items[:_LISTED]) + more


def _is_media(path: Path) -> bool:
    is_known = path.suffix.lower() in _SOUNDS | _VIDEOS
    return is_known and not path.name.startswith(".") and path.is_file()


def _read_caption(path: Path) -> str:
    """Return the text file's content beside a sound; "" if there is none."""
    file = path.with_suffix(".txt")
    return _join_lines(_read_text(file)) if file.is_file() else ""


def _join_lines(text: str) -> str:
    return " ".join(text.split())


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read as UTF-8 text ({error}). Save it as UTF-8.") from None


def _read_table(folder: Path) -> tuple[dict[str, str], list[str]]:
    """Return (caption by file name, notes); both are empty without a table."""
    tables = [folder / name for name in TABLES if (folder / name).is_file()]
    if not tables:
        return {}, []
    path = tables[0]
    notes = [f"Captions are read from {path.name}, not from {tables[1].name}."] if len(tables) > 1 else []
    rows = _read_csv(path) if path.suffix == ".csv" else _read_json_lines(path)
    captions: dict[str, str] = {}
    for line, row in rows:
        name, caption = (_find_column(row, columns) for columns in (_FILE_COLUMNS, _CAPTION_COLUMNS))
        if name is None or caption is None:
            raise InputError(
                f"{path.name}, line {line} has the columns {', '.join(map(str, row)) or 'none'}. Each line "
                "needs the columns file and caption."
            )
        relative = Path(name)
        if relative.is_absolute() or ".." in relative.parts:
            raise InputError(
                f"{path.name}, line {line} names {name}, which lies outside {folder}. Copy the file into it."
            )
        captions[relative.as_posix()] = caption
    return captions, notes


def _find_column(row: Mapping[str, Any], names: tuple[str, ...]) -> str | None:
    return next((str(row[name]) for name in names if row.get(name) is not None), None)


def _read_csv(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Yield (line, row by column). Without a heading, the columns are file and caption."""
    lines = _read_text(path).splitlines()
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


def _read_json_lines(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    for number, line in enumerate(_read_text(path).splitlines(), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise InputError(f"{path.name}, line {number} is not valid JSON ({error}).") from None
        yield number, row if isinstance(row, dict) else {}
