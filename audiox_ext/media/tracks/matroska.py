"""Sets the shape of the pictures in a Matroska or WebM file, which PyAV cannot do.

VP9 and AV1 do not say how wide a pixel is; the container does, by the size at which pictures are shown. The
header is changed in place: `reserve_room` asks FFmpeg to write a longer name for the video track, and
`set_display_size` gives that room to the size. Source: RFC 9559 (Matroska), RFC 8794 (EBML).
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_SEGMENT, _TRACKS, _TRACK, _VIDEO = 0x18538067, 0x1654AE6B, 0xAE, 0xE0
_NAME, _WIDTH, _HEIGHT, _UNIT = 0x536E, 0x54B0, 0x54BA, 0x54B2
_CRC, _VOID = 0xBF, 0xEC
_ROOM = "\N{FIGURE SPACE}" * 12  # three bytes each: two sizes and longer lengths need at most 30
_HEADER = 1 << 20  # bytes; tracks stand near the beginning


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
        raise ValueError(f"There is no room of {length} bytes.")
    if length == 0:
        return b""
    size = 1 if length < 128 else 4
    content = length - 1 - size
    return bytes([_VOID]) + (content | 1 << 7 * size).to_bytes(size, "big") + bytes(content)
