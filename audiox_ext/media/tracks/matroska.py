"""What FFmpeg and PyAV cannot do with Matroska and WebM files: read joined ones, set the shape of pictures.

FFmpeg reads at most two recordings that were joined end to end. `open_joined` shows it a single long one.

VP9 and AV1 do not say how wide a pixel is; the container does, by the size at which pictures are shown. The
header is changed in place: `reserve_room` asks FFmpeg to write a longer name for the video track, and
`set_display_size` gives that room to the size. Source: RFC 9559 (Matroska), RFC 8794 (EBML).
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

_EBML, _SEGMENT, _TRACKS, _TRACK, _VIDEO = 0x1A45DFA3, 0x18538067, 0x1654AE6B, 0xAE, 0xE0
_NAME, _WIDTH, _HEIGHT, _UNIT = 0x536E, 0x54B0, 0x54BA, 0x54B2
_CRC, _VOID = 0xBF, 0xEC
_ROOM = "\N{FIGURE SPACE}" * 12  # three bytes each: two sizes and longer lengths need at most 30
_HEADER = 1 << 20  # bytes; tracks stand near the beginning
_MAGIC = _EBML.to_bytes(4, "big")
_START = 1 << 12  # bytes within which the header of a file ends and its segment begins
_CHUNK = 1 << 22  # bytes that are searched at once
_MOST_RECORDINGS = 1000  # of a joined file; each costs time whenever the file is read


@dataclass(frozen=True)
class _Element:
    """An EBML element within a buffer: its identifier, where it begins, and where its content lies."""

    identifier: int
    start: int
    content: int
    end: int


def reserve_room(stream: Any) -> None:
    """Make room for the display size in a track that will be written to a Matroska file.

    Args:
        stream: The video track, before the file's header is written.
    """
    stream.metadata["title"] = stream.metadata.get("title", "") + _ROOM


def set_display_size(path: Path, width: int, height: int) -> None:
    """Set the size at which the video of a finished file is shown.

    Args:
        path: A file with one video track, for which `reserve_room` was called.
        width: Pixels, 1 or more.
        height: Pixels, 1 or more.
    """
    with path.open("r+b") as file:
        header = file.read(_HEADER)
        tracks = _find(header, _SEGMENT, _TRACKS)
        file.seek(tracks.start)
        file.write(_rewrite_tracks(header, tracks, width, height))


def open_joined(file: BinaryIO) -> _JoinedFile | None:
    """Open a file of several recordings that were joined end to end as a single recording.

    Args:
        file: A binary file; it is left at its beginning.

    Returns:
        The file as FFmpeg can read it; None if it needs no change.

    Raises:
        ValueError: There are too many recordings.
    """
    patches: dict[int, bytes] = {}
    for position, patch in _find_joints(file):
        if len(patches) == _MOST_RECORDINGS:
            raise ValueError(f"it joins more than {_MOST_RECORDINGS} recordings")
        patches[position] = patch
    file.seek(0)
    return _JoinedFile(file, patches) if patches else None


class _JoinedFile(io.RawIOBase):
    """A file of which some stretches are replaced by others of the same length."""

    def __init__(self, file: BinaryIO, patches: dict[int, bytes]) -> None:
        super().__init__()
        self._file, self._patches = file, patches

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def read(self, size: int = -1) -> bytes:
        start = self._file.tell()
        data = self._file.read(size)
        for position, patch in self._patches.items():
            first, last = max(start, position), min(start + len(data), position + len(patch))
            if first < last:
                piece = patch[first - position : last - position]
                data = data[: first - start] + piece + data[last - start :]
        return data


def _find_joints(file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """Where each recording but the first begins, and what hides that it is another."""
    size = file.seek(0, 2)
    position = 0
    while position < size:
        file.seek(position)
        start = file.read(_START)
        segment = _read_segment(start)
        if segment is None:
            return
        if position:
            yield position, _void(segment.start) + _void(segment.content - segment.start)
        length = segment.content - segment.start - 4
        if segment.end - segment.content == (1 << 7 * length) - 1:  # a live recording: its length is unknown
            position = _find_next(file, position + segment.content, size)
        else:
            position += segment.end


def _read_segment(data: bytes) -> _Element | None:
    """The segment at the beginning of a recording; None if there is none."""
    if not data.startswith(_MAGIC):
        return None
    elements = _children(data + bytes(16), 0, len(data))  # the last header may be cut off
    return elements[1] if len(elements) > 1 and elements[1].identifier == _SEGMENT else None


def _find_next(file: BinaryIO, position: int, size: int) -> int:
    """Where the next recording begins at or after a position; the size of the file if there is none."""
    while position < size:
        file.seek(position)
        data = file.read(_CHUNK + _START)
        found = data.find(_MAGIC)
        while 0 <= found < _CHUNK:
            if _read_segment(data[found : found + _START]) is not None:
                return position + found
            found = data.find(_MAGIC, found + 1)
        position += _CHUNK
    return size


def _rewrite_tracks(data: bytes, tracks: _Element, width: int, height: int) -> bytes:
    """The element with all tracks, of its old length."""
    children = []
    for child in _children(data, tracks.content, tracks.end):
        raw = data[child.start : child.end]
        if child.identifier == _TRACK and any(
            part.identifier == _VIDEO for part in _children(data, child.content, child.end)
        ):
            raw = _rewrite_track(data, child, width, height)
        if child.identifier != _CRC:
            children.append(raw)
    content = b"".join(children)
    old_length = tracks.end - tracks.content
    checksum = old_length - len(content) >= 6
    content += _void(old_length - len(content) - 6 * checksum)
    if checksum:
        content = _element(_CRC, zlib.crc32(content).to_bytes(4, "little")) + content
    return data[tracks.start : tracks.content] + content


def _rewrite_track(data: bytes, track: _Element, width: int, height: int) -> bytes:
    """The video track with its own name and the display size, of its old length."""
    children = []
    for child in _children(data, track.content, track.end):
        raw = data[child.start : child.end]
        if child.identifier == _NAME:
            name = data[child.content : child.end].decode().removesuffix(_ROOM)
            raw = _element(_NAME, name.encode()) if name else b""
        elif child.identifier == _VIDEO:
            kept = [
                data[part.start : part.end]
                for part in _children(data, child.content, child.end)
                if part.identifier not in (_WIDTH, _HEIGHT, _UNIT)
            ]
            size = [_element(_WIDTH, width.to_bytes(4, "big")), _element(_HEIGHT, height.to_bytes(4, "big"))]
            raw = _element(_VIDEO, b"".join(kept + size))
        children.append(raw)
    content = b"".join(children)
    return data[track.start : track.content] + content + _void(track.end - track.content - len(content))


def _find(data: bytes, *path: int) -> _Element:
    """The first element at a path of identifiers."""
    start, end = 0, len(data)
    for identifier in path:
        element = next(child for child in _children(data, start, end) if child.identifier == identifier)
        start, end = element.content, min(element.end, len(data))
    return element


def _children(data: bytes, position: int, end: int) -> list[_Element]:
    """The elements of a stretch of a buffer; the last may reach past it."""
    elements = []
    while position < min(end, len(data)):
        start = position
        length = 9 - data[position].bit_length()
        identifier = int.from_bytes(data[position : position + length], "big")
        position += length
        length = 9 - data[position].bit_length()
        size = int.from_bytes(data[position : position + length], "big") & ((1 << 7 * length) - 1)
        position += length
        elements.append(_Element(identifier, start, position, position + size))
        position += size
    return elements


def _element(identifier: int, content: bytes) -> bytes:
    """An element with a length of one, two or four bytes."""
    number = identifier.to_bytes((identifier.bit_length() + 7) // 8, "big")
    length = next(length for length in (1, 2, 4) if len(content) < (1 << 7 * length) - 1)
    return number + (len(content) | 1 << 7 * length).to_bytes(length, "big") + content


def _void(length: int) -> bytes:
    """An element that means nothing, of a length in bytes: 0, or 2 and more."""
    if length < 0 or length == 1:
        raise ValueError(f"A gap of {length} bytes cannot be filled.")
    if length == 0:
        return b""
    size = 1 if length < 128 else 4
    content = length - 1 - size
    return bytes([_VOID]) + (content | 1 << 7 * size).to_bytes(size, "big") + bytes(content)
