"""Reads tables of captions: CSV, JSON lines, or one JSON value. Nothing is looked up on disk here."""

from __future__ import annotations

import csv
import io
import itertools
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from ...errors import InputError
from .texts import check_caption, clean_caption, read_text

TABLES = tuple(
    f"{stem}{suffix}"
    for suffix in (".csv", ".jsonl", ".tsv", ".json")
    for stem in (("metadata", "captions") if suffix == ".jsonl" else ("captions", "metadata"))
)
"""The names of tables; the first that a folder has is read."""

_FILE_COLUMNS = (
    "file",
    "file_name",
    "filename",
    "path",
    "audio",
    "file_path",
    "filepath",
    "audio_file_name",
    "audio_file",
    "audio_path",
    "audio_filepath",
    "video",
    "video_path",
)
_CAPTION_COLUMNS = ("caption", "captions", "text", "prompt", "description", "sentence")
_NUMBERED_CAPTION = re.compile(r"(?:caption|text)_?([0-9]{1,9})")  # such as caption_1 to caption_5
_DELIMITERS = ",;\t|"
_LONGEST_NAME = 4096  # characters, as on Linux
_LISTED, _SHOWN = 10, 40  # columns, and characters of each, in a message


@dataclass(frozen=True, kw_only=True)
class TableRow:
    """A row of a table.

    Attributes:
        place: "line 3" or "entry 3", for messages.
        file: the name or path in the table.
        captions: one line each; none if the cell is empty.
    """

    place: str
    file: str
    captions: tuple[str, ...]


def read_table(path: Path, names_a_file: Callable[[str], bool]) -> list[TableRow]:
    """Read a table, whose suffix says its kind.

    Args:
        path: the table.
        names_a_file: whether a cell names a file of the folder. It shows the delimiter of a CSV without a
            heading.

    Raises:
        InputError: the table is malformed, or lacks a column. The message names the line.
    """
    suffix = path.suffix.lower()
    if suffix == ".jsonl":
        rows = _read_json_lines(path)
    elif suffix == ".json":
        rows = _read_json(path)
    else:
        rows = _read_csv(path, names_a_file)
    return [_make_row(path, place, cells) for place, cells in rows]


def _make_row(path: Path, place: str, cells: Mapping[str, Any]) -> TableRow:
    """Find the file and its captions among the cells of a row."""
    cells = {_normalise(key): value for key, value in cells.items()}
    numbered = sorted((int(match[1]), key) for key in cells if (match := _NUMBERED_CAPTION.fullmatch(key)))
    caption_keys = [*(key for key in _CAPTION_COLUMNS if key in cells)][:1] + [key for _, key in numbered]
    files = [cells[key] for key in _FILE_COLUMNS if cells.get(key) is not None]
    file = files[0].get("path") if files and isinstance(files[0], dict) else (files or [None])[0]
    if files and caption_keys and not str(file or "").strip():
        raise InputError(f"{path.name}, {place} names no file. Name one, or delete the row.")
    if not file or not caption_keys:
        raise InputError(
            f"{path.name}, {place} has the columns {_list_columns(cells)}. Each line "
            "needs the columns file and caption."
        )
    captions: dict[str, None] = {}
    for key in caption_keys:
        for text in _list_texts(cells[key], path, place):
            caption = clean_caption(text)
            check_caption(caption, f"{path.name}, {place}")
            captions[caption] = None
    name = str(file).strip()
    if len(name) > _LONGEST_NAME:
        raise InputError(f"{path.name}, {place} names a file with {len(name)} characters. Shorten the name.")
    return TableRow(place=place, file=name, captions=tuple(text for text in captions if text))


def _list_texts(value: Any, path: Path, place: str) -> Iterator[str]:
    """Yield the texts of a cell, which in JSON may be a list."""
    if isinstance(value, list):
        for item in value:
            if isinstance(item, list):
                raise InputError(f"{path.name}, {place} has a list of captions in another. Use one list.")
            yield from _list_texts(item, path, place)
    elif isinstance(value, (str, int, float)) and not isinstance(value, bool):
        yield str(value)
    elif value is not None:
        raise InputError(
            f"{path.name}, {place} has a caption of type {type(value).__name__}. Give a text, or a list of "
            "texts of which each use draws one."
        )


def _list_columns(cells: Mapping[str, Any]) -> str:
    """List the first names of columns for a message."""
    names = [name[:_SHOWN] for name in itertools.islice(cells, _LISTED)]
    return ", ".join(names + ["..."] * (len(cells) > _LISTED)) or "none"


@lru_cache(maxsize=1000)
def _normalise(column: str) -> str:
    return re.sub(r"[\s-]+", "_", column.strip().lower())


def _read_csv(path: Path, names_a_file: Callable[[str], bool]) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield (place, row by column). Without a heading, the columns are file and caption."""
    text = read_text(path)
    delimiter, has_heading = _choose_delimiter(text, names_a_file)
    heading = ["file", "caption"]
    reader = _open_csv(text, delimiter)
    is_first = True
    try:
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            if is_first and has_heading:
                heading = [_normalise(cell) for cell in cells]
            elif has_heading and any(cell.strip() for cell in cells[len(heading) :]):
                raise InputError(
                    f"{path.name}, line {reader.line_num} has {len(cells)} cells, but the heading has "
                    f'{len(heading)}. Put a caption that contains "{delimiter}" into quotation marks.'
                )
            else:
                padding = [""] * (len(heading) - len(cells)) if has_heading else []
                yield f"line {reader.line_num}", dict(zip(heading, cells + padding, strict=False))
            is_first = False
    except csv.Error as error:  # among them a cell of more than 131072 characters
        raise InputError(
            f"{path.name}, line {reader.line_num} cannot be read ({error}). Close every quotation mark, and "
            "double those inside a caption."
        ) from None


def _open_csv(text: str, delimiter: str) -> Any:
    """Return a reader of rows. Cells may contain line breaks inside quotation marks."""
    lines = io.StringIO(text, newline="")
    if delimiter == "|":  # such tables quote nothing
        return csv.reader(lines, delimiter=delimiter, quoting=csv.QUOTE_NONE)
    return csv.reader(lines, delimiter=delimiter, skipinitialspace=True, strict=True)


def _choose_delimiter(text: str, names_a_file: Callable[[str], bool]) -> tuple[str, bool]:
    """Return (delimiter, whether the first row is a heading), from the cells of the first row."""
    firsts: dict[str, list[str]] = {}
    for delimiter in _DELIMITERS:
        try:
            rows = (row for row in _open_csv(text, delimiter) if any(cell.strip() for cell in row))
            firsts[delimiter] = next(rows, [])
        except csv.Error:
            firsts[delimiter] = []
    for delimiter, cells in firsts.items():
        names = {_normalise(cell) for cell in cells}
        if len(cells) > 1 and names & set(_FILE_COLUMNS):
            return delimiter, True
    for delimiter, cells in firsts.items():
        if len(cells) > 1 and names_a_file(cells[0]):
            return delimiter, False
    return max(_DELIMITERS, key=lambda delimiter: len(firsts[delimiter])), False


def _read_json_lines(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    # Only a line feed ends a line: str.splitlines would also split at U+2028, which may stand in a text.
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if line.strip():
            row = _parse_json(line, f"{path.name}, line {number}")
            yield f"line {number}", row if isinstance(row, dict) else {}


def _read_json(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the rows of a list of objects, or of an object with captions by file."""
    content = _parse_json(read_text(path), path.name)
    if isinstance(content, dict):
        content = [
            value if isinstance(value, dict) and "file" in value else {"file": name, **_as_cells(value)}
            for name, value in content.items()
        ]
    if not isinstance(content, list):
        raise InputError(f"{path.name} holds no list. Write a list of objects with file and caption.")
    for number, row in enumerate(content, start=1):
        yield f"entry {number}", row if isinstance(row, dict) else {}


def _as_cells(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {"caption": value}


def _parse_json(text: str, place: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{place} is not valid JSON ({error}).") from None
