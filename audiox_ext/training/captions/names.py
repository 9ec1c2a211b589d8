"""Finds the files that a table or a caption file means, although systems spell names differently.

macOS decomposes accents (NFD), Windows ignores case and separates folders by backslashes, and tables are
written on one system and read on another.
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path, PurePath, PureWindowsPath

from ...errors import InputError
from ...utf8 import escape_surrogates

_PATH_MARKS = ("/", "\\", ":", "..")  # a name without these lies in the folder itself


class FolderNames:
    """The names in a folder and its subfolders; each folder is listed once."""

    def __init__(
        self, folder: Path, is_media: Callable[[Path], bool], check_readable: Callable[[Path], None]
    ) -> None:
        """Start with nothing listed.

        Args:
            folder: the folder.
            is_media: whether a path is a sound or video, which a table may name without suffix.
            check_readable: raises `InputError` for a path that must not be read.
        """
        self._folder, self._is_media, self._check_readable = folder, is_media, check_readable
        self._listings: dict[Path, dict[str, list[str]]] = {}
        self._results: dict[str, Path | None] = {}
        self._stems: dict[Path, dict[str, list[str]]] = {}

    def check_link(self, path: Path) -> None:
        """Raise `InputError` for a link that leads to a place that must not be read, which may not exist."""
        if path.is_symlink():
            self._check_readable(path)

    def find(self, name: str) -> Path | None:
        """Return the file that a table means, None if there is none.

        Args:
            name: a path relative to the folder, or a whole path into it, with slashes or backslashes.

        Raises:
            InputError: the path leads outside the folder.
        """
        if name not in self._results:
            self._results[name] = self._search(name)
        return self._results[name]

    def _search(self, name: str) -> Path | None:
        spellings = dict.fromkeys((name, name.replace("\\", "/")))
        leads_outside = True
        for spelling in spellings:
            parts = self._relative_parts(spelling)
            if parts is not None:
                leads_outside = False
                path = self._descend(parts)
                if path is not None:
                    return path
        path = self._find_moved(name)
        if path is None and leads_outside:
            raise InputError(
                f"names {escape_surrogates(name)}, which lies outside {self._folder}. Copy the file into it."
            )
        return path

    def match(self, folder: Path, name: str) -> str | None:
        """Return the name of a file as it is spelled in a folder, None if there is none.

        An equal spelling goes before one with other Unicode forms, and that before one with other case.
        """
        candidates = self._list(folder).get(_fold(name), [])
        for is_equal in (lambda other: other == name, lambda other: _compose(other) == _compose(name)):
            matches = [candidate for candidate in candidates if is_equal(candidate)]
            if matches:
                return matches[0]
        return candidates[0] if len(candidates) == 1 else None

    def _relative_parts(self, spelling: str) -> Sequence[str] | None:
        """Return the parts of a path below the folder, None if it leads outside."""
        if not any(mark in spelling for mark in _PATH_MARKS):
            return (spelling,)
        if os.path.isabs(spelling):
            roots: Iterable[Path] = (self._folder.absolute(), self._folder.resolve())
        else:
            roots, spelling = (self._folder.absolute(),), str(self._folder.absolute() / spelling)
        path = PurePath(os.path.normpath(spelling))
        for root in roots:
            if path.is_relative_to(os.path.normpath(root)):
                return path.relative_to(os.path.normpath(root)).parts
        return None

    def _find_moved(self, name: str) -> Path | None:
        """Find the file of a whole path from another system, where the folder had the same name."""
        path = PureWindowsPath(name)  # it understands slashes, too
        if not (path.is_absolute() or name.startswith("/")):
            return None
        own = _fold(self._folder.resolve().name)
        places = [index for index, part in enumerate(path.parts) if _fold(part) == own]
        return self._descend(path.parts[places[-1] + 1 :]) if places else None

    def _descend(self, parts: Sequence[str]) -> Path | None:
        place = self._folder
        for part in parts[:-1]:
            match = self.match(place, part)
            if match is None:
                return None
            place = place / match
            self.check_link(place)
        if not parts:
            return None
        match = self.match(place, parts[-1]) or self._match_stem(place, parts[-1])
        if match is None:
            return None
        self.check_link(place / match)
        return place / match if (place / match).is_file() else None

    def _match_stem(self, folder: Path, stem: str) -> str | None:
        """Return the only sound or video of this name without suffix."""
        if folder not in self._stems:
            stems: dict[str, list[str]] = {}
            for names in self._list(folder).values():
                for name in names:
                    stems.setdefault(_fold(Path(name).stem), []).append(name)
            self._stems[folder] = stems
        matches = [name for name in self._stems[folder].get(_fold(stem), []) if self._is_media(folder / name)]
        return matches[0] if len(matches) == 1 else None

    def _list(self, folder: Path) -> dict[str, list[str]]:
        """Return the names in a folder by their folded form, none if it is not a folder."""
        if folder not in self._listings:
            listing: dict[str, list[str]] = {}
            for name in sorted(os.listdir(folder)) if folder.is_dir() else []:
                listing.setdefault(_fold(name), []).append(name)
            self._listings[folder] = listing
        return self._listings[folder]


def _compose(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _fold(name: str) -> str:
    return _compose(_compose(name).casefold())
