"""A user's folder of sounds: its files and their captions. Nothing is decoded here.

A caption comes from a table (captions.csv or metadata.jsonl with the columns file and caption), from a text
file beside the sound (rain.txt or rain.wav.txt beside rain.wav), or else from the file's name.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import InputError
from ..media.audio_video import AUDIO_SUFFIXES
from ..media.muxing import VIDEO_SUFFIXES
from ..utf8 import escape_surrogates
from .captions.names import FolderNames
from .captions.tables import TABLES, read_table
from .captions.texts import check_caption, clean_caption, read_text

_SOUNDS = {*AUDIO_SUFFIXES, ".aac", ".ac3", ".aif", ".aiff", ".au", ".caf", ".mka", ".oga", ".wma", ".wv"}
_VIDEOS = {*VIDEO_SUFFIXES, ".3gp", ".avi", ".flv", ".mpeg", ".mpg", ".mts", ".ogv", ".ts", ".wmv"}
_CAPTION_SUFFIXES = (".txt", ".caption")
_OF_THE_SYSTEM = {"desktop.ini", "thumbs.db"}
_LISTED = 5  # names in a sentence; the rest are counted


@dataclass(frozen=True, kw_only=True)
class CaptionedFile:
    """A sound or video with its caption.

    Attributes:
        path: path of the file.
        name: name within the folder, such as dogs/bark.wav.
        caption: one line.
        other_captions: more captions of the same sound. Each use draws one of all.
    """

    path: Path
    name: str
    caption: str
    other_captions: tuple[str, ...] = ()

    @property
    def captions(self) -> tuple[str, ...]:
        """All captions, one or more."""
        return (self.caption, *self.other_captions)

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
        notes: sentences for the user: whose captions are missing, and what is not used.
    """

    folder: Path
    files: tuple[CaptionedFile, ...]
    notes: tuple[str, ...]


def read_audio_folder(
    folder: Path, default_caption: str = "", check_readable: Callable[[Path], None] = lambda path: None
) -> AudioFolder:
    """List the sounds and videos directly in a folder, and those that its table names.

    Args:
        folder: folder to read.
        default_caption: caption for files without one; "" takes the words of their names.
        check_readable: called with the folder and every link in it; raises `InputError` to refuse it.

    Raises:
        InputError: the folder does not exist or holds no sound, its table cannot be read, or a file has
            neither a caption nor words in its name.
    """
    check_readable(folder)
    if not folder.is_dir():
        raise InputError(f"There is no folder {folder}. Name a folder of sounds, each with its caption.")
    names = FolderNames(folder, _is_media, check_readable)
    try:
        entries = sorted(path for path in folder.iterdir() if _is_visible(path))
    except OSError as error:
        raise InputError(
            f"{folder} cannot be read ({error.strerror}). Allow it, or choose another."
        ) from None
    for path in entries:
        names.check_link(path)
    table = _read_table(folder, names)
    paths = {path.name: path for path in entries if _is_media(path)}
    paths |= {name: folder / name for name in table.captions}
    if not paths:
        raise InputError(
            f"{folder} holds no sound and no video. Put files such as rain.wav into it, each with its "
            "caption in a text file such as rain.txt. Files in subfolders are used only if captions.csv "
            "names them."
        )
    sidecars = {name: _find_sidecars(path, names) for name, path in paths.items()}
    default = clean_caption(default_caption)
    files, uncaptioned = [], []
    for name, path in sorted(paths.items()):
        captions = table.captions.get(name) or _read_sidecars(sidecars[name])
        if not captions:
            captions = (default or extract_words(path.stem),)
            uncaptioned.append((name, captions[0]))
        files.append(CaptionedFile(path=path, name=name, caption=captions[0], other_captions=captions[1:]))
    notes = [
        *table.notes,
        *_describe_uncaptioned(uncaptioned, len(files), default),
        *_describe_several(files),
        *_describe_unused(entries, paths, table, sidecars),
    ]
    return AudioFolder(folder=folder, files=tuple(files), notes=tuple(map(escape_surrogates, notes)))


def extract_words(stem: str) -> str:
    """Return the words in a file's name, such as "dog bark" for DogBark_02; "" if it has none."""
    spaced = re.sub(r"([a-z])([A-Z])", r"\1 \2", unicodedata.normalize("NFC", stem))
    return " ".join(re.findall(r"[^\W\d_]+(?:'[^\W\d_]+)?", spaced)).lower()


def list_some(items: list[str]) -> str:
    """Join the first five items for a sentence, and count the rest."""
    more = f" and {len(items) - _LISTED} more" if len(items) > _LISTED else ""
    return ", ".join(items[:_LISTED]) + more


@dataclass(kw_only=True)
class _Table:
    """The table of a folder, if it has one.

    Attributes:
        name: name of the table; "" without one.
        captions: captions by the name of the file.
        notes: sentences about rows that are not used.
    """

    name: str = ""
    captions: dict[str, tuple[str, ...]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def _is_media(path: Path) -> bool:
    return path.suffix.lower() in _SOUNDS | _VIDEOS and path.is_file()


def _is_visible(path: Path) -> bool:
    return not path.name.startswith(".") and path.name.lower() not in _OF_THE_SYSTEM


def _read_table(folder: Path, names: FolderNames) -> _Table:
    """Read the first table of a folder."""
    matches = (names.match(folder, name) for name in TABLES)
    tables = [folder / name for name in dict.fromkeys(matches) if name and (folder / name).is_file()]
    if not tables:
        return _Table()
    path = tables[0]
    table = _Table(name=path.name)
    if len(tables) > 1:
        others = " or ".join(other.name for other in tables[1:])
        table.notes.append(f"Captions are read from {path.name}, not from {others}.")
    captions: dict[str, dict[str, None]] = {}  # dictionaries keep an order, and find repetitions at once
    missing, repeated = [], []
    for row in read_table(path, lambda cell: _names_a_file(names, cell)):
        try:
            file = names.find(row.file)
        except InputError as error:
            raise InputError(f"{path.name}, {row.place} {error}") from None
        if file is None:
            missing.append(row.file)
            continue
        name = file.relative_to(folder).as_posix()
        known = captions.setdefault(name, {})
        if known and all(caption in known for caption in row.captions):
            repeated.append(f"{name} ({row.place})")
        known.update(dict.fromkeys(row.captions))
    table.captions = {name: tuple(texts) for name, texts in captions.items()}
    if missing:
        table.notes.append(f"The table names {len(missing)} files that do not exist: {list_some(missing)}.")
    if repeated:
        table.notes.append(f"{len(repeated)} rows of {path.name} repeat others: {list_some(repeated)}.")
    return table


def _names_a_file(names: FolderNames, cell: str) -> bool:
    try:
        return names.find(cell.strip()) is not None
    except InputError:
        return False


def _find_sidecars(path: Path, names: FolderNames) -> list[Path]:
    """List the caption files beside a sound; the first that is not empty counts."""
    stems = (path.name, path.stem)
    matches = (names.match(path.parent, stem + suffix) for stem in stems for suffix in _CAPTION_SUFFIXES)
    sidecars = [path.parent / name for name in dict.fromkeys(matches) if name]
    for sidecar in sidecars:
        names.check_link(sidecar)
    return [sidecar for sidecar in sidecars if sidecar.is_file()]


def _read_sidecars(sidecars: Iterable[Path]) -> tuple[str, ...]:
    for path in sidecars:
        caption = clean_caption(read_text(path))
        if caption:
            check_caption(caption, path.name)
            return (caption,)
    return ()


def _describe_uncaptioned(uncaptioned: list[tuple[str, str]], count: int, default: str) -> list[str]:
    """Say which files have no caption. Raises `InputError` if their names have no words either."""
    wordless = [name for name, caption in uncaptioned if not caption]
    if wordless:
        raise InputError(
            f"{len(wordless)} files have no caption, and no words in their names: {list_some(wordless)}. "
            f"Describe the sound in {Path(wordless[0]).stem}.txt, or give one caption for all of them."
        )
    if not uncaptioned:
        return []
    examples = list_some([f'{name}: "{caption}"' for name, caption in uncaptioned])
    source = "the default caption" if default else "the words of the file's name"
    return [f"{len(uncaptioned)} of {count} files have no caption; {source} is used: {examples}."]


def _describe_several(files: list[CaptionedFile]) -> list[str]:
    several = [f"{file.name} ({len(file.captions)})" for file in files if file.other_captions]
    if not several:
        return []
    return [f"{len(several)} files have several captions, of which each use draws one: {list_some(several)}."]


def _describe_unused(
    entries: list[Path], paths: Mapping[str, Path], table: _Table, sidecars: Mapping[str, list[Path]]
) -> list[str]:
    """Say what in the folder is not used, and why."""
    from_table = {path for name, files in sidecars.items() if table.captions.get(name) for path in files}
    read = {files[0] for name, files in sidecars.items() if files and not table.captions.get(name)}
    used = set(paths.values())
    spare = {path for files in sidecars.values() for path in files} - read - from_table
    subfolders, lonely, unknown = [], [], []
    for path in entries:
        if path.is_dir():
            subfolders += [path.name] if _holds_media(path, used) else []
        elif path in used or path in read | from_table | spare or path.name.lower() in TABLES:
            continue
        elif path.suffix.lower() in _CAPTION_SUFFIXES:
            lonely.append(path.name)
        else:
            unknown.append(path.name)
    return [
        f"{reason}: {list_some(sorted(items))}."
        for reason, items in (
            (f"Not read, because {table.name} has captions for their sounds", _names(from_table - read)),
            ("Not read, because their sounds have another caption file", _names(spare)),
            ("Not read, because no sound has their name", lonely),
            ("Not used, because they are neither sounds nor videos nor captions", unknown),
            ("Not used, because no table names the sounds in these subfolders", subfolders),
        )
        if items
    ]


def _holds_media(folder: Path, used: set[Path]) -> bool:
    """Whether a subfolder holds a sound or video that is not used."""
    try:
        return any(_is_media(path) and path not in used for path in folder.iterdir())
    except OSError:
        return False


def _names(paths: Iterable[Path]) -> list[str]:
    return [path.name for path in paths]
