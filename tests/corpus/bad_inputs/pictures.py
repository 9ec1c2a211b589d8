"""Pictures: bombs, damage, formats that run programs, and folders without pictures."""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from bad_case import Case, Place

UNREADABLE = (
    r"(?i)cannot be (read|decoded)|no images|no frame|too (large|many)|pixels|damaged|empty|decompress"
)


def _chunk(name: bytes, content: bytes) -> bytes:
    """A chunk of a PNG."""
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def build_png(
    width: int, height: int, data: bytes, *, depth: int = 8, colour: int = 0, more: bytes = b""
) -> bytes:
    """A PNG of any claimed size."""
    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    chunks = (_chunk(b"IHDR", head), more, _chunk(b"IDAT", data), _chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def _bomb(side: int) -> bytes:
    """A PNG of black pixels, one bit each."""
    size = (side // 8 + 2) * side
    packer, parts = zlib.compressobj(1), []
    for _ in range(size >> 20):
        parts.append(packer.compress(bytes(1 << 20)))
    return build_png(side, side, b"".join([*parts, packer.flush()]), depth=1)


def _bmp(width: int, height: int) -> bytes:
    head = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 54 + 100, 0, 0, 54) + head + bytes(100)


def _tiff(width: int, height: int) -> bytes:
    """A TIFF of any claimed size, whose strip lies beyond the file."""
    tags = [
        (256, 4, width),
        (257, 4, height),
        (258, 3, 8),
        (259, 3, 1),
        (262, 3, 1),
        (273, 4, 200),
        (277, 3, 1),
        (278, 4, height),
        (279, 4, min(2**32 - 1, width * height)),
    ]
    entries = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags)
    return b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", len(tags)) + entries + bytes(4)


def _postscript(place: Place) -> bytes:
    """PostScript, which Pillow gives to Ghostscript."""
    return (
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n"
        + f"({place.canary}) (w) file closefile showpage\n%%EOF\n".encode()
    )


FILES: dict[str, tuple[str, Callable[[Place], bytes]]] = {
    "PNG, bomb of 40000 x 40000 pixels": (".png", lambda p: _bomb(40000)),
    "PNG, bomb of 2^31 pixels a side": (
        ".png",
        lambda p: build_png(2**31 - 1, 2**31 - 1, zlib.compress(bytes(100))),
    ),
    "PNG of 0 pixels": (".png", lambda p: build_png(0, 0, zlib.compress(b""))),
    "PNG, half of it": (".png", lambda p: p.sample("good.png")[:60]),
    "PNG, magic number alone": (".png", lambda p: b"\x89PNG\r\n\x1a\n"),
    "PNG, too little data": (".png", lambda p: build_png(100, 100, zlib.compress(bytes(10)))),
    "PNG, no deflated data": (".png", lambda p: build_png(100, 100, b"x" * 100)),
    "PNG of 3 bits": (".png", lambda p: build_png(10, 10, zlib.compress(bytes(200)), depth=3)),
    "PNG, text of 100 MB": (
        ".png",
        lambda p: build_png(
            8,
            8,
            zlib.compress(bytes(72)),
            more=_chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(100 << 20), 1)),
        ),
    ),
    "PNG, wrong checksums": (
        ".png",
        lambda p: p.sample("good.png")[:29] + bytes(4) + p.sample("good.png")[33:],
    ),
    "JPEG, half of it": (".jpg", lambda p: p.sample("good.jpg")[:300]),
    "JPEG, magic number alone": (".jpg", lambda p: b"\xff\xd8\xff"),
    "JPEG of 65535 x 65535 pixels": (
        ".jpg",
        lambda p: b"\xff\xd8\xff\xc0\0\x0b\x08\xff\xff\xff\xff\1\1\x11\0\xff\xda\0\x08\1\1\0\0\x3f\0\xff\xd9",
    ),
    "WebP, half of it": (".webp", lambda p: p.sample("good.webp")[:30]),
    "WebP of 16383 x 16383 pixels": (
        ".webp",
        lambda p: b"RIFF\x16\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0" + b"\xfe\x3f\0" * 2,
    ),
    "GIF, half of it": (".gif", lambda p: p.sample("good.gif")[:15]),
    "BMP of 60000 x 60000 pixels": (".bmp", lambda p: _bmp(60000, 60000)),
    "BMP of -2^31 pixels": (".bmp", lambda p: _bmp(-(2**31), -(2**31))),
    "BMP, header alone": (".bmp", lambda p: b"BM"),
    "TIFF of 2^31 pixels a side": (".tif", lambda p: _tiff(2**31 - 1, 2**31 - 1)),
    "TIFF beyond the file": (".tif", lambda p: _tiff(100, 100)),
    "TIFF, a loop of pages": (".tif", lambda p: b"II*\0\x08\0\0\0\0\0\x08\0\0\0"),
    "PostScript as .png": (".png", _postscript),
    "PostScript as .jpg": (".jpg", _postscript),
    "text": (".png", lambda p: b"no picture, just words " * 50),
    "empty": (".png", lambda p: b""),
    "a sound": (".png", lambda p: p.sample("good.wav")),
    "a drawing": (
        ".png",
        lambda p: b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>',
    ),
}


def read_picture(path: Path) -> Any:
    from audiox_ext.media.images import read_images

    return read_images(path)


def read_mask(path: Path) -> Any:
    from audiox_ext.media.images import read_masks

    return read_masks(path)


def _make_folder(kind: str) -> Callable[[Place], Path]:
    """Make a folder without readable pictures."""

    def make(place: Place) -> Path:
        folder = place.own / "pictures"
        folder.mkdir()
        if kind == "hidden pictures alone":
            (folder / ".hidden.png").write_bytes(place.sample("good.png"))
        elif kind == "text alone":
            (folder / "notes.txt").write_text("notes")
        elif kind == "a pipe":
            os.mkfifo(folder / "a.png")
        elif kind == "folders alone":
            (folder / "a.png").mkdir()
        elif kind == "a damaged one among good ones":
            for name in ("1.png", "2.png"):
                (folder / name).write_bytes(place.sample("good.png"))
            (folder / "3.png").write_bytes(b"x")
        elif kind == "a link to itself":
            (folder / "a.png").symlink_to(folder / "a.png")
        return folder

    return make


def list_cases() -> list[Case]:
    """All cases of this module."""
    folders = (
        "nothing",
        "hidden pictures alone",
        "text alone",
        "a pipe",
        "folders alone",
        "a damaged one among good ones",
        "a link to itself",
    )
    groups = {
        "picture": [
            Case(name, lambda p, s=suffix, make=make: p.write(f"bad{s}", make(p)), read_picture, UNREADABLE)
            for name, (suffix, make) in FILES.items()
        ],
        "mask": [
            Case(name, lambda p, s=suffix, make=make: p.write(f"bad{s}", make(p)), read_mask, UNREADABLE)
            for name, (suffix, make) in list(FILES.items())[::4]
        ],
        "folder of pictures": [
            Case(f"{kind}", _make_folder(kind), read_picture, r"(?i)no images|cannot be read")
            for kind in folders
        ],
    }
    return [replace(case, kind=kind) for kind, cases in groups.items() for case in cases]
