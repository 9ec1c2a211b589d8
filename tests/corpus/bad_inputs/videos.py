"""Videos: damaged and lying headers, and lists that would read other files or the network."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from bad_case import Case, Place, run_command

from .sounds import PATHS, make_path

UNREADABLE = (
    r"(?i)cannot be (read|decoded)|no frame|no video|only audio|empty|damaged|too (long|large|many)|pixels|"
    r"hours|seconds|list|other files"
)


def extract(path: Any) -> Any:
    """Extract a video's features, as the command and the node do."""
    from audiox_ext import extract_video_features
    from audiox_ext.conditioning.video_features import seconds_to_cover

    source = Path(path) if isinstance(path, str) else path
    seconds = seconds_to_cover(source, at_least=1.0)
    return extract_video_features(source, encode_sync=None, seconds=seconds)


def _patch(name: str, *changes: tuple[bytes, int, bytes]) -> Callable[[Place], bytes]:
    """Write bytes into a good file, at an offset from each place of a mark."""

    def make(place: Place) -> bytes:
        data = bytearray(place.sample(name))
        for mark, offset, values in changes:
            start = data.find(mark)
            assert start >= 0, mark
            while start >= 0:
                data[start + offset : start + offset + len(values)] = values
                start = data.find(mark, start + len(mark))
        return bytes(data)

    return make


def _without_index(place: Place) -> bytes:
    data = place.sample("good.mp4")
    return data[: data.index(b"moov") - 4]


def _only_index(place: Place) -> bytes:
    data = place.sample("good.mp4")
    return data[:40] + data[data.index(b"moov") - 4 :]


def _huge_picture(place: Place) -> bytes:
    """Raw film that claims enormous pictures."""
    return b"YUV4MPEG2 W60000 H60000 F25:1 C420\nFRAME\n" + bytes(1000)


def _gif(width: int, height: int, frames: int) -> bytes:
    """A GIF of any claimed size."""
    head = b"GIF89a" + struct.pack("<HH", width, height) + b"\x80\0\0" + bytes(6)
    control = b"\x21\xf9\x04\0\x0a\0\0\0"
    picture = b"\x2c" + bytes(4) + struct.pack("<HH", width, height) + b"\0\x02\x02\x4c\x01\0"
    return head + (control + picture) * frames + b"\x3b"


FILES: dict[str, tuple[str, Callable[[Place], bytes]]] = {
    "empty": (".mp4", lambda p: b""),
    "text": (".mp4", lambda p: b"no film, just words " * 100),
    "zeros": (".mp4", lambda p: bytes(10_000)),
    "MP4, header alone": (".mp4", lambda p: p.sample("good.mp4")[:40]),
    "MP4 without its index": (".mp4", _without_index),
    "MP4 without its data": (".mp4", _only_index),
    "MP4, half of the index": (".mp4", lambda p: p.sample("good.mp4")[:-300]),
    "MP4, boxes in boxes": (".mp4", lambda p: b"\0\0\xff\xffmoov" * 4000),
    "MP4, a box of 2^64 bytes": (".mp4", lambda p: b"\0\0\0\1moov" + b"\xff" * 8 + bytes(100)),
    "MP4, encrypted": (".mp4", _patch("good.mp4", (b"avc1\0\0\0\0", 0, b"encv"), (b"avcC", 0, b"sinf"))),
    "MP4, an unknown codec": (
        ".mp4",
        _patch("good.mp4", (b"avc1\0\0\0\0", 0, b"zzzz"), (b"avcC", 0, b"zzzz")),
    ),
    "MP4, samples beyond the file": (".mp4", _patch("good.mp4", (b"stco", 12, b"\x7f\xff\xff\xff"))),
    "MP4, pictures of zeros": (".mp4", _patch("silent.mp4", (b"mdat", 4, bytes(4000)))),
    "sound alone": (".mp4", lambda p: p.sample("sound.mp4")),
    "a sound file": (".mp4", lambda p: p.sample("good.wav")),
    "a sound with a cover": (".mp4", lambda p: p.sample("cover.mp3")),
    "MKV, header alone": (".mkv", lambda p: p.sample("good.mkv")[:60]),
    "MKV, magic number alone": (".mkv", lambda p: b"\x1a\x45\xdf\xa3"),
    "MKV, an element of 2^56 bytes": (
        ".mkv",
        lambda p: b"\x1a\x45\xdf\xa3\x01" + b"\xff" * 6 + b"\xfe" + bytes(50),
    ),
    "MKV without clusters": (
        ".mkv",
        lambda p: p.sample("good.mkv")[: p.sample("good.mkv").index(b"\x1f\x43\xb6\x75")],
    ),
    "MKV, clusters of zeros": (
        ".mkv",
        lambda p: p.sample("good.mkv")[: p.sample("good.mkv").index(b"\x1f\x43\xb6\x75") + 12] + bytes(5000),
    ),
    "WebM, header alone": (".webm", lambda p: p.sample("good.webm")[:60]),
    "AVI, header alone": (".avi", lambda p: p.sample("good.avi")[:100]),
    "AVI without frames": (".avi", lambda p: p.sample("good.avi")[: p.sample("good.avi").index(b"movi") + 4]),
    "TS, one packet": (".ts", lambda p: p.sample("good.ts")[:188]),
    "TS, packets of zeros": (".ts", lambda p: (b"\x47" + bytes(187)) * 50),
    "FLV, header alone": (".flv", lambda p: b"FLV\1\5\0\0\0\x09\0\0\0\0"),
    "raw film of 60000 x 60000 pixels": (".y4m", _huge_picture),
    "raw film of 0 x 0 pixels": (".y4m", lambda p: b"YUV4MPEG2 W0 H0 F25:1 C420\nFRAME\n"),
    "raw film of 0 frames a second": (".y4m", lambda p: b"YUV4MPEG2 W8 H8 F0:0 C420\n"),
    "GIF, header alone": (".gif", lambda p: b"GIF89a"),
    "GIF without pictures": (".gif", lambda p: _gif(8, 8, 0)),
    "GIF of 65535 x 65535 pixels": (".gif", lambda p: _gif(65535, 65535, 3)),
    "WebP, half of it": (".webp", lambda p: p.sample("moving.webp")[:60]),
    "PNG, animated, half of it": (".png", lambda p: p.sample("moving.png")[:90]),
    "PNG, animated, without pictures": (
        ".png",
        lambda p: p.sample("moving.png")[:33] + p.sample("moving.png")[-12:],
    ),
}
LONG: dict[str, tuple[str, Callable[[Place], bytes]]] = {
    "MP4, timescale 0": (".mp4", _patch("silent.mp4", (b"mdhd", 16, bytes(4)), (b"mvhd", 16, bytes(4)))),
    "MP4, timescale 1": (".mp4", _patch("silent.mp4", (b"mdhd", 16, b"\0\0\0\1"))),
    "MP4, frames of 800 days": (
        ".mp4",
        _patch("silent.mp4", (b"stts", 12, b"\x7f\xff\xff\xff"), (b"mdhd", 16, b"\0\0\0\x1f")),
    ),
    "MKV, ticks of 2^63 ns": (".mkv", _patch("good.mkv", (b"\x2a\xd7\xb1\x83", 4, b"\xff\xff\xff"))),
}


def _list_addresses(place: Place) -> dict[str, tuple[str, str]]:
    """Lists of other files and addresses, by name: the suffix and the text."""
    secret, address = place.outside / "secret.mp4", f"http://127.0.0.1:{place.port}/film.mp4"
    hls = "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n{}\n#EXT-X-ENDLIST\n"
    concat = "ffconcat version 1.0\nfile '{}'\n"
    sdp = (
        "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\n"
        "m=video {} RTP/AVP 96\na=rtpmap:96 H264/90000\n"
    )
    dash = (
        '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" '
        'mediaPresentationDuration="PT1S"><Period><AdaptationSet mimeType="video/mp4">'
        '<Representation id="1" bandwidth="1"><BaseURL>{}</BaseURL></Representation>'
        "</AdaptationSet></Period></MPD>"
    )
    imf = (
        '<?xml version="1.0"?><AssetMap xmlns="http://www.smpte-ra.org/schemas/429-9/2007/AM"><AssetList>'
        "<Asset><Id>urn:uuid:1</Id><ChunkList><Chunk><Path>{}</Path></Chunk></ChunkList></Asset>"
        "</AssetList></AssetMap>"
    )
    return {
        "m3u8 of a file": (".m3u8", hls.format(secret)),
        "m3u8 of an address": (".m3u8", hls.format(address)),
        "m3u8 of a file, as .mp4": (".mp4", hls.format(secret)),
        "m3u8 of an address, as .mp4": (".mp4", hls.format(address)),
        "m3u8 of a key": (
            ".m3u8",
            hls.format(secret).replace("#EXTINF", f'#EXT-X-KEY:METHOD=AES-128,URI="{address}"\n#EXTINF'),
        ),
        "ffconcat of a file": (".ffconcat", concat.format(secret)),
        "ffconcat of a file, as .mp4": (".mp4", concat.format(secret)),
        "ffconcat of an address, as .mp4": (".mp4", concat.format(address)),
        "ffconcat of a file beside it": (".mp4", concat.format("beside.mp4")),
        "SDP": (".sdp", sdp.format(place.port)),
        "SDP as .mp4": (".mp4", sdp.format(place.port)),
        "DASH of a file": (".mpd", dash.format(secret)),
        "DASH of an address, as .mp4": (".mp4", dash.format(address)),
        "a list of assets": (".xml", imf.format(secret)),
        "RTSP in text": (".mp4", f"rtsp://127.0.0.1:{place.port}/film"),
        "a QuickTime link": (
            ".mov",
            '<?xml version="1.0"?><?quicktime type="application/x-quicktime-media-link"?>'
            f'<embed src="{address}"/>',
        ),
        "a Windows link": (".asx", f'<asx version="3.0"><entry><ref href="{address}"/></entry></asx>'),
        "a RealMedia link": (".ram", address),
        "subtitles with a file beside them": (
            ".idx",
            "# VobSub index file, v7\nid: en, index: 0\ntimestamp: 00:00:01:000, filepos: 000000000\n",
        ),
        "a pattern of pictures": ("%d.png", "no picture"),
        "a filter graph": (".mp4", f"[filters]\nmovie={secret}\n"),
        "a picture list": (".txt", f"{secret}\n"),
    }


def _make_list(name: str) -> Callable[[Place], Path]:
    def make(place: Place) -> Path:
        suffix, text = _list_addresses(place)[name]
        place.write("beside.mp4", place.sample("good.mp4"))
        place.write("bad.sub", place.sample("good.mp4"))
        place.write("bad1.png", place.sample("good.png"))
        return place.write(f"bad{suffix}", text)

    return make


def _list_in_memory(name: str) -> Callable[[Place], bytes]:
    return lambda place: _list_addresses(place)[name][1].encode()


def _read_sound(path: Path) -> Any:
    from audiox_ext import read_audio

    return read_audio(path)


def _extract_by_command(path: Path) -> Any:
    return run_command(["extract", "--video", str(path), "-o", "out.safetensors"])


def _in_memory(data: bytes) -> Any:
    import io

    return extract(io.BytesIO(data))


def list_cases() -> list[Case]:
    """All cases of this module."""
    from pathlib import PurePath

    names = list(_list_addresses(Place(PurePath(), PurePath(), PurePath(), 0)))  # type: ignore[arg-type]
    groups = {
        "video file": [
            Case(name, lambda p, s=suffix, make=make: p.write(f"bad{s}", make(p)), extract, UNREADABLE)
            for name, (suffix, make) in FILES.items()
        ],
        "length of a video": [
            Case(
                name,
                lambda p, s=suffix, make=make: p.write(f"bad{s}", make(p)),
                extract,
                UNREADABLE,
                may_work=True,
            )
            for name, (suffix, make) in LONG.items()
        ],
        "list of other files": [
            *(Case(name, _make_list(name), extract, UNREADABLE) for name in names),
            *(
                Case(f"{name}, as sound", _make_list(name), _read_sound, r"(?i)cannot be read|no audio|list")
                for name in names[:8:2]
            ),
            *(
                Case(f"{name}, in memory", _list_in_memory(name), _in_memory, UNREADABLE)
                for name in names
                if "as .mp4" in name or name == "m3u8 of a file"
            ),
        ],
        "video in memory": [
            Case(name, lambda p, make=FILES[name][1]: make(p), _in_memory, UNREADABLE)
            for name in (
                "empty",
                "text",
                "MP4 without its index",
                "sound alone",
                "GIF of 65535 x 65535 pixels",
            )
        ],
        "video on the command line": [
            Case(
                name,
                lambda p, s=FILES[name][0], make=FILES[name][1]: p.write(f"bad{s}", make(p)),
                _extract_by_command,
                r"^audiox_ext extract: .",
            )
            for name in ("empty", "text", "MP4 without its index", "sound alone", "GIF without pictures")
        ],
        "no file at all": [
            Case(
                f"video, {kind}",
                make_path(kind),
                extract,
                r"(?i)no (file|images)|cannot be read|not a (regular )?file|only audio|no video",
            )
            for kind in PATHS
        ],
    }
    return [replace(case, kind=kind) for kind, cases in groups.items() for case in cases]
