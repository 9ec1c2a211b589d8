"""Sound files: headers that lie, damage, and paths that lead to no file."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from bad_case import Case, Place, run_command

UNREADABLE = (
    r"(?i)cannot be (read|decoded)|no audio|empty|damaged|too (long|large)|Hz|channels|NaN|sample rate"
)


def build_wav(
    data: bytes = bytes(400),
    *,
    kind: int = 1,
    channels: int = 1,
    rate: int = 16000,
    bits: int = 16,
    align: int | None = None,
    size: int | None = None,
) -> bytes:
    """A WAVE file with any header."""
    block = channels * bits // 8 if align is None else align
    form = struct.pack("<HHIIHH", kind, channels, rate, (rate * block) & 0xFFFFFFFF, block & 0xFFFF, bits)
    body = b"WAVEfmt " + struct.pack("<I", 16) + form
    body += b"data" + struct.pack("<I", len(data) if size is None else size) + data
    return b"RIFF" + struct.pack("<I", len(body) & 0xFFFFFFFF) + body


def build_silent_flac(seconds: int, rate: int = 48000) -> bytes:
    """Silence in FLAC: 16 bytes for each 65535 samples, in frames of constant value."""
    block = 65535
    info = struct.pack(">HH", block, block) + bytes(6)
    total = seconds * rate
    info += ((rate << 44) | (1 << 41) | (15 << 36) | total).to_bytes(8, "big") + bytes(16)
    frames = [b"fLaC" + bytes([0x80]) + len(info).to_bytes(3, "big") + info]
    for number in range(-(-total // block)):
        head = b"\xff\xf8\x7a\x18" + _utf8_number(number) + struct.pack(">H", block - 1)
        head += bytes([_crc(head, 8, 0x07)])
        frame = head + bytes(6)  # two constant channels
        frames.append(frame + _crc(frame, 16, 0x8005).to_bytes(2, "big"))
    return b"".join(frames)


def _utf8_number(number: int) -> bytes:
    """The number of a frame."""
    return chr(number).encode("utf-8", "surrogatepass")


def _crc(data: bytes, bits: int, polynomial: int) -> int:
    """The checksum of a frame."""
    value, top, mask = 0, 1 << (bits - 1), (1 << bits) - 1
    for byte in data:
        value ^= byte << (bits - 8)
        for _ in range(8):
            value = ((value << 1) ^ polynomial if value & top else value << 1) & mask
    return value


FLOATS = struct.pack("<100f", *[float("nan")] * 100)
INFINITE = struct.pack("<100f", *[float("inf")] * 100)
WAVES: dict[str, Callable[[], bytes]] = {
    "empty": lambda: b"",
    "one byte": lambda: b"R",
    "RIFF alone": lambda: b"RIFF",
    "no chunks": lambda: b"RIFF\x04\0\0\0WAVE",
    "half of the format": lambda: build_wav()[:24],
    "no data": lambda: build_wav()[:36],
    "no samples": lambda: build_wav(b""),
    "0 channels": lambda: build_wav(channels=0),
    "65535 channels": lambda: build_wav(channels=65535),
    "300 channels": lambda: build_wav(bytes(60000), channels=300),
    "0 Hz": lambda: build_wav(rate=0),
    "4294967295 Hz": lambda: build_wav(rate=2**32 - 1),
    "2147483647 Hz": lambda: build_wav(rate=2**31 - 1),
    "0 bits": lambda: build_wav(bits=0),
    "65535 bits": lambda: build_wav(bits=65535),
    "blocks of 0 bytes": lambda: build_wav(bits=0, align=0),
    "an unknown codec": lambda: build_wav(kind=0xABCD),
    "a codec that is text": lambda: build_wav(kind=0x7374),
    "NaN": lambda: build_wav(FLOATS, kind=3, bits=32),
    "infinite values": lambda: build_wav(INFINITE, kind=3, bits=32),
    "text": lambda: b"no sound, just words " * 100,
    "zeros": lambda: bytes(5000),
    "a web page": lambda: b"<!DOCTYPE html><html><body>Not found</body></html>" * 10,
}
OTHER_FORMATS: dict[str, tuple[str, Callable[[Place], bytes]]] = {
    "FLAC, magic number alone": (".flac", lambda p: b"fLaC"),
    "FLAC, header alone": (".flac", lambda p: p.sample("good.flac")[:60]),
    "FLAC of 0 Hz": (".flac", lambda p: b"fLaC\x80\0\0\x22" + bytes(34)),
    "FLAC, zeros after the header": (".flac", lambda p: p.sample("good.flac")[:42] + bytes(5000)),
    "FLAC, 3 hours of silence": (".flac", lambda p: build_silent_flac(3 * 3600)),
    "OGG, one page": (".ogg", lambda p: p.sample("good.ogg")[:100]),
    "OGG, magic number alone": (".ogg", lambda p: b"OggS"),
    "OGG, pages of nothing": (".ogg", lambda p: (b"OggS\0" + bytes(22)) * 200),
    "OGG of 0 channels": (
        ".ogg",
        lambda p: p.sample("good.ogg").replace(b"OpusHead\x01\x02", b"OpusHead\x01\x00"),
    ),
    "MP3, tag alone": (".mp3", lambda p: b"ID3\4\0\0\x7f\x7f\x7f\x7f"),
    "MP3, tag of 256 MB": (".mp3", lambda p: b"ID3\4\0\0\x7f\x7f\x7f\x7f" + bytes(2000)),
    "MP3, junk": (".mp3", lambda p: b"\xff\xfb\x90\x64" * 3),
    "AAC, junk": (".aac", lambda p: b"\xff\xf1\x50\x80" * 3),
    "M4A without its index": (
        ".m4a",
        lambda p: p.sample("good.m4a")[: len(p.sample("good.m4a")) // 2].replace(b"moov", b"free"),
    ),
    "M4A, boxes of 2^64 bytes": (".m4a", lambda p: b"\0\0\0\1moov" + b"\xff" * 8 + bytes(100)),
    "M4A, boxes in boxes": (".m4a", lambda p: b"\0\0\xff\xffmoov" * 4000),
    "AIFF, half of the header": (".aiff", lambda p: b"FORM\0\0\0\x20AIFFCOMM\0\0\0\x12\0\0"),
    "AIFF, 0 channels": (
        ".aiff",
        lambda p: (
            b"FORM\0\0\0\x2eAIFFCOMM\0\0\0\x12\0\0\0\0\0\x10\0\x10" + bytes(10) + b"SSND\0\0\0\x08" + bytes(8)
        ),
    ),
    "AU, 0 channels": (".au", lambda p: b".snd" + struct.pack(">5I", 24, 100, 3, 16000, 0) + bytes(100)),
    "AU, 4 billion channels": (
        ".au",
        lambda p: b".snd" + struct.pack(">5I", 24, 100, 3, 16000, 2**32 - 1) + bytes(100),
    ),
    "CAF, header alone": (".caf", lambda p: b"caff\0\1\0\0"),
    "WavPack, header alone": (".wv", lambda p: b"wvpk" + bytes(28)),
    "ASF, header alone": (".wma", lambda p: bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c") + b"\xff" * 30),
    "RF64, sizes of 2^64": (".wav", lambda p: b"RF64\xff\xff\xff\xffWAVEds64\x1c\0\0\0" + b"\xff" * 28),
    "a picture": (".wav", lambda p: p.sample("good.png")),
    "a film without sound": (".mp4", lambda p: p.sample("silent.mp4")),
}
PATHS = (
    "no file",
    "a folder",
    "a pipe",
    "a socket",
    "a device",
    "a link to itself",
    "a link to nothing",
    "a name with a NUL",
    "a name of 300 letters",
    "an address",
    "a protocol of FFmpeg",
    "a generator of FFmpeg",
    "standard input",
    "an empty path",
)


def make_path(kind: str) -> Callable[[Place], Any]:
    """Make a path that leads to no sound file."""

    def make(place: Place) -> Any:
        path = place.put_oddity(place.own / "bad.wav", kind)
        texts = {
            "a name with a NUL": str(place.own / "a\0b.wav"),
            "a name of 300 letters": str(place.own / f"{'x' * 300}.wav"),
            "an address": f"http://127.0.0.1:{place.port}/sound.wav",
            "a protocol of FFmpeg": f"concat:{place.outside}/secret.wav|{place.outside}/secret.wav",
            "a generator of FFmpeg": "lavfi:sine",
            "standard input": "pipe:0",
            "an empty path": "",
        }
        return texts.get(kind, path)

    return make


def read(path: Any) -> Any:
    """Read a sound as the command line does before it is used."""
    from audiox_ext.media.audio_video import read_audio
    from audiox_ext.media.waveforms import conform_audio

    return conform_audio(*read_audio(path), target_rate=16000)


def _read_in_memory(data: bytes) -> Any:
    """Read a sound that is not a file on disk."""
    import io

    return read(io.BytesIO(data))


def _level(path: Path) -> Any:
    return run_command(["level", str(path), "--peak", "-1", "-o", "out.wav"])


def list_cases() -> list[Case]:
    """All cases of this module."""
    files = {name: (".wav", lambda p, build=build: build()) for name, build in WAVES.items()} | OTHER_FORMATS
    rates = (999_983, 3_000_017, 200_003, 1)
    groups = {
        "sound file": [
            Case(name, lambda p, s=suffix, make=make: p.write(f"bad{s}", make(p)), read, UNREADABLE)
            for name, (suffix, make) in files.items()
        ],
        "sample rate": [
            Case(
                f"{rate} Hz",
                lambda p, rate=rate: p.write("bad.wav", build_wav(rate=rate)),
                read,
                rf"(?i){rate}.*Hz|too (long|high|low)",
                may_work=True,
            )
            for rate in rates
        ],
        "sound in memory": [
            Case(name, lambda p, build=WAVES[name]: build(), _read_in_memory, UNREADABLE)
            for name in ("empty", "one byte", "0 channels", "text", "an unknown codec")
        ],
        "sound on the command line": [
            Case(
                name,
                lambda p, build=WAVES[name]: p.write("bad.wav", build()),
                _level,
                r"^audiox_ext level: .*(" + UNREADABLE.removeprefix("(?i)") + ")",
            )
            for name in ("empty", "text", "NaN", "65535 channels", "no samples")
        ],
        "no file at all": [
            Case(f"sound, {kind}", make_path(kind), read, r"(?i)no file|cannot be read|not a (regular )?file")
            for kind in PATHS
        ],
    }
    return [replace(case, kind=kind) for kind, cases in groups.items() for case in cases]
