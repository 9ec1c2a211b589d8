"""A file is read alone: nothing that it names is opened, no program starts, and pipes are not waited for."""

from __future__ import annotations

import io
import os
import shutil
import socket
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import videos
from PIL import Image
from videos import frame_times

from audiox_ext.errors import InputError, MediaError
from audiox_ext.files import check_file_writable, write_atomically
from audiox_ext.media.audio_video import read_audio
from audiox_ext.media.containers import open_media
from audiox_ext.media.images import is_image_path, read_images
from audiox_ext.media.pictures import open_animation
from audiox_ext.media.probing import probe_video

needs_pipes = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="NO PIPES: needs POSIX")
HLS = "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n{}\n#EXT-X-ENDLIST\n"
CONCAT = "ffconcat version 1.0\nfile '{}'\n"
SDP = (
    "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\n"
    "m=video {} RTP/AVP 96\na=rtpmap:96 H264/90000\n"
)
DASH = (
    '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" '
    'mediaPresentationDuration="PT1S"><Period><AdaptationSet mimeType="video/mp4"><Representation id="1" '
    'bandwidth="1"><BaseURL>{}</BaseURL></Representation></AdaptationSet></Period></MPD>'
)
LISTS = {
    "hls.m3u8": HLS,
    "concat.ffconcat": CONCAT,
    "concat.mp4": CONCAT,
    "dash.mpd": DASH,
    "dash.mp4": DASH,
    "beside.idx": "# VobSub index file, v7\nid: en, index: 0\ntimestamp: 00:00:01:000, filepos: 000000000\n",
}


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A film in another folder."""
    path = tmp_path / "elsewhere" / "secret.mp4"
    path.parent.mkdir()
    videos.write_video(path, frame_times(5, 5))
    return path


@pytest.fixture
def port() -> Iterator[int]:
    """A server that nothing may connect to."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        yield server.getsockname()[1]
        with pytest.raises(BlockingIOError):
            server.accept()


@pytest.mark.parametrize("way", ["path", "file", "memory"])
@pytest.mark.parametrize("name", LISTS)
def test_a_list_of_files_is_refused(name: str, way: str, secret: Path, tmp_path: Path) -> None:
    for place in (secret, "secret.mp4"):
        path = tmp_path / name
        path.write_text(LISTS[name].format(place))
        shutil.copy(secret, tmp_path)
        shutil.copy(secret, tmp_path / "beside.sub")
        source: Any = path if way == "path" else path.open("rb")
        with pytest.raises(MediaError, match=r"cannot be read .*list of other files"):
            probe_video(io.BytesIO(path.read_bytes()) if way == "memory" else source)


@pytest.mark.parametrize("text", [HLS, CONCAT, DASH], ids=["hls", "concat", "dash"])
@pytest.mark.parametrize("scheme", ["http", "tcp", "rtsp", "rtmp"])
def test_a_list_of_addresses_reaches_no_network(text: str, scheme: str, port: int, tmp_path: Path) -> None:
    content = text.format(f"{scheme}://127.0.0.1:{port}/film.ts")
    path = tmp_path / "list.m3u8"
    path.write_text(content)
    # Files in memory have no protocol of their own that would rule out others.
    for source in (path, path.open("rb"), io.BytesIO(content.encode())):
        with pytest.raises(MediaError, match="cannot be read"):
            probe_video(source)


def test_a_session_description_opens_no_port(tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        text = SDP.format(probe.getsockname()[1])
        path = tmp_path / "session.sdp"
        path.write_text(text)
        for source in (path, path.open("rb"), io.BytesIO(text.encode())):
            with pytest.raises(MediaError, match="cannot be read") as error:
                probe_video(source)
            assert "in use" not in str(error.value), "FFmpeg tried to listen"


@pytest.mark.skipif(not shutil.which("strace"), reason="NO STRACE: needs Linux and strace")
def test_the_system_sees_one_opened_file(secret: Path, tmp_path: Path) -> None:
    """Also of files whose reading fails in the end."""
    for name, text in LISTS.items():
        (tmp_path / name).write_text(text.format(secret))
    (tmp_path / "%d.png").write_text("no picture")
    for name in ("1.png", "beside.sub"):
        shutil.copy(secret, tmp_path / name)
    names = [*LISTS, "%d.png"]
    code = (
        "import sys; from pathlib import Path; from audiox_ext.media.probing import probe_video\n"
        "for name in sys.argv[1:]:\n"
        "    try: probe_video(Path(name))\n"
        "    except ValueError: print('refused')\n"
    )
    log = tmp_path / "trace"
    calls = "trace=open,openat,socket,connect,bind,execve"
    program = [sys.executable, "-c", code, *(str(tmp_path / name) for name in names)]
    done = subprocess.run(
        ["strace", "-f", "-o", log, "-e", calls, *program],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    if "ptrace" in done.stderr:
        pytest.skip("NO PTRACE: not allowed here")
    assert done.stdout.split() == ["refused"] * len(names), done.stderr
    lines = log.read_text(errors="replace")
    assert all(str(tmp_path / name) in lines for name in names), "the trace must show what is opened"
    assert str(secret) not in lines
    assert "beside.sub" not in lines
    assert "/1.png" not in lines
    assert "AF_INET" not in lines


def test_postscript_starts_no_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started = []
    monkeypatch.setattr(subprocess, "check_call", lambda *words, **_: started.append(words))
    monkeypatch.setattr(subprocess, "Popen", lambda *words, **_: started.append(words))
    for name in ("drawing.png", "drawing.jpg"):
        path = tmp_path / name
        path.write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n%%EOF\n")
        assert is_image_path(path)
        with pytest.raises(MediaError, match="cannot be read as an image"):
            read_images(path)
    assert not started


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "DIB", "TIFF", "MPO"])
def test_pictures_are_known_by_their_content(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    Image.new("RGB", (8, 8), (255, 0, 0)).save(path, kind)
    assert tuple(read_images(path).shape) == (1, 8, 8, 3)


@needs_pipes
@pytest.mark.parametrize("name", ["pipe.mp4", "pipe.gif", "pipe.png", "pipe.wav"])
@pytest.mark.parametrize("read", [probe_video, read_audio, read_images, open_media], ids=lambda f: f.__name__)
def test_a_pipe_is_not_waited_for(read: Callable[[Path], Any], name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    os.mkfifo(path)
    (tmp_path / f"link_{name}").symlink_to(path)
    for place in (path, tmp_path / f"link_{name}"):
        assert open_animation(place) is None
        with pytest.raises(MediaError, match="not a regular file"), read(place):
            pass


@pytest.mark.parametrize(
    "name", ["a\0b.mp4", "x" * 300 + ".mp4", "x" * 300 + ".png"], ids=["NUL", "film", "image"]
)
@pytest.mark.parametrize("read", [probe_video, read_audio, read_images], ids=lambda f: f.__name__)
def test_a_name_that_no_file_has(read: Callable[[Path], Any], name: str, tmp_path: Path) -> None:
    assert not is_image_path(Path("a\0b"))
    with pytest.raises(MediaError, match="There is no file"):
        read(tmp_path / name)


@needs_pipes
def test_a_pipe_is_not_replaced(tmp_path: Path) -> None:
    pipe, link = tmp_path / "pipe.wav", tmp_path / "link.wav"
    os.mkfifo(pipe)
    link.symlink_to(pipe)
    for path in (pipe, link):
        with pytest.raises(InputError, match="is a pipe"):
            check_file_writable(path)
        with pytest.raises(InputError, match="is a pipe"), write_atomically(path) as temporary:
            temporary.write_bytes(b"x")
    assert pipe.is_fifo()


def test_a_sound_of_an_unknown_codec_gets_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "sound.wav"
    form = struct.pack("<HHIIHH", 0xABCD, 1, 16000, 32000, 2, 16)
    body = b"WAVEfmt \x10\0\0\0" + form + b"data" + struct.pack("<I", 400) + bytes(400)
    path.write_bytes(b"RIFF" + struct.pack("<I", len(body)) + body)
    with pytest.raises(MediaError, match="does not know its codec"):
        read_audio(path)
