"""Films as people have them: every container and codec, and every odd property, made here.

Each picture of a film shows its number (see `videos`), and a click sounds with the picture at 1 and 2 s.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from videos import code_picture

RATE, FPS, WIDTH, HEIGHT = 48000, 25, 96, 72
SECONDS = 3


@dataclass(frozen=True)
class Kind:
    """A container with its codecs.

    Attributes:
        suffix: Of the file.
        container: FFmpeg's name.
        video: The encoder.
        audio: The encoder; empty: no sound.
        pixels: FFmpeg's pixel format.
        options: Of the video encoder.
    """

    suffix: str
    container: str
    video: str
    audio: str
    pixels: str = "yuv420p"
    options: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        """The name of the case."""
        return f"{self.container}-{self.video}-{self.pixels}"


_FAST = (("preset", "ultrafast"), ("crf", "14"), ("bf", "2"))
_X265 = (("preset", "ultrafast"), ("x265-params", "log-level=none:crf=14"))
_VPX = (("deadline", "realtime"), ("cpu-used", "8"), ("crf", "10"), ("b", "1M"))
H264 = Kind(".mp4", "mp4", "libx264", "aac", options=_FAST)
TS = Kind(".ts", "mpegts", "libx264", "aac", options=_FAST)
KINDS = (
    H264,
    Kind(".mp4", "mp4", "libx265", "aac", options=_X265),
    Kind(".mp4", "mp4", "libx265", "aac", pixels="yuv420p10le", options=_X265),
    Kind(".mp4", "mp4", "mpeg4", "aac"),
    Kind(
        ".mp4", "mp4", "libsvtav1", "aac", options=(("preset", "8"), ("crf", "1"), ("svtav1-params", "lp=1"))
    ),
    Kind(".mov", "mov", "prores_ks", "pcm_s16le", pixels="yuv422p10le"),
    Kind(".mov", "mov", "mjpeg", "pcm_s24le", pixels="yuvj420p"),
    Kind(".mov", "mov", "png", "aac", pixels="rgb24"),
    Kind(".mov", "mov", "qtrle", "aac", pixels="rgb24"),
    Kind(".mkv", "matroska", "libx264", "flac", pixels="yuv444p", options=_FAST),
    Kind(".mkv", "matroska", "ffv1", "flac", pixels="bgr0"),
    Kind(".mkv", "matroska", "libvpx-vp9", "libopus", options=_VPX),
    Kind(".webm", "webm", "libvpx-vp9", "libopus", options=_VPX),
    Kind(".webm", "webm", "libvpx", "libopus", options=_VPX),
    Kind(".avi", "avi", "mpeg4", "pcm_s16le"),
    Kind(".avi", "avi", "mjpeg", "pcm_s16le", pixels="yuvj422p"),
    Kind(".avi", "avi", "libx264", "pcm_s16le", options=_FAST),
    TS,
    Kind(".ts", "mpegts", "libx265", "aac", options=_X265),
    Kind(".ts", "mpegts", "mpeg2video", "mp2"),
    Kind(".mpg", "mpeg", "mpeg2video", "mp2"),
    Kind(".flv", "flv", "flv", "libmp3lame"),
    Kind(".flv", "flv", "libx264", "aac", options=_FAST),
    Kind(".wmv", "asf", "wmv2", "wmav2"),
    Kind(".gif", "gif", "gif", "", pixels="rgb8"),
    Kind(".h264", "h264", "libx264", "", options=_FAST),
    Kind(".hevc", "hevc", "libx265", "", options=_X265),
)


@dataclass(frozen=True)
class Film:
    """What to write.

    Attributes:
        times: Seconds at which each picture appears.
        numbers: What each picture shows; empty: its place.
        clicks: Seconds at which a click begins.
        seconds: Length of the sound.
        audio_delay: Seconds by which the sound begins later.
        offset: Seconds added to all times in the file.
        keep: Whether a packet is written, by its type and time.
        picture: Draws a picture; by default its number.
        setup: Changes the video track before it is opened.
        convert: Changes each picture before it is encoded.
        tags: Of the file.
    """

    times: Sequence[Fraction] = tuple(Fraction(i, FPS) for i in range(FPS * SECONDS))
    numbers: Sequence[int] = ()
    clicks: Sequence[float] = (1.0, 2.0)
    seconds: float = SECONDS
    audio_delay: float = 0.0
    offset: float = 0.0
    keep: Callable[[str, float], bool] = lambda kind, time: True
    picture: Callable[[int, int, int], np.ndarray] = code_picture
    setup: Callable[[Any], None] = lambda stream: None
    convert: Callable[[av.VideoFrame], av.VideoFrame] = lambda frame: frame
    tags: dict[str, str] = field(default_factory=dict)


def write_film(path: Path, kind: Kind, film: Film | None = None) -> Path:
    """Write a film; returns its path."""
    film = film or Film()
    with av.open(str(path), "w", format=kind.container) as output:
        output.metadata.update(film.tags)
        video = output.add_stream(kind.video, rate=FPS, options=dict(kind.options))
        video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, kind.pixels
        video.codec_context.gop_size = 10
        if kind.video not in ("mpeg4", "mpeg2video", "mpeg1video", "wmv2", "flv", "libsvtav1"):
            video.codec_context.time_base = Fraction(1, 1000)
        if kind.video in ("mpeg4", "mpeg2video", "wmv2", "flv", "mjpeg"):
            video.codec_context.bit_rate = 2_000_000
        film.setup(video)
        audio = output.add_stream(kind.audio, rate=RATE) if kind.audio else None
        if audio is not None:
            audio.layout = "stereo"
            if kind.audio == "wmav2":
                audio.codec_context.bit_rate = 128_000
        packets = [*_pictures(video, film), *(_sound(audio, film) if audio else [])]
        packets.sort(key=lambda packet: packet.dts * packet.time_base)
        for packet in packets:
            time = float(packet.dts * packet.time_base)
            if film.keep(packet.stream.type, time):
                shift = round(Fraction(film.offset).limit_denominator(1000) / packet.time_base)
                packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
                output.mux(packet)
    return path


def _pictures(video: Any, film: Film) -> list[Any]:
    """The encoded pictures."""
    packets = []
    base = video.codec_context.time_base or Fraction(1, FPS)
    for index, time in enumerate(film.times):
        number = film.numbers[index] if film.numbers else index
        frame = av.VideoFrame.from_ndarray(film.picture(number, WIDTH, HEIGHT), format="rgb24")
        frame = film.convert(frame)
        if video.pix_fmt.startswith("yuvj"):
            frame = frame.reformat(format=video.pix_fmt)
        frame.pts, frame.time_base = round(time / base), base
        packets += video.encode(frame)
    return [*packets, *video.encode(None)]


def _sound(audio: Any, film: Film) -> list[Any]:
    """The encoded sound: clicks of 20 ms."""
    samples = np.zeros((2, round(film.seconds * RATE)), np.float32)
    for time in film.clicks:
        at = round((time - film.audio_delay) * RATE)
        click = 0.8 * np.sin(2 * np.pi * 1000 * np.arange(RATE // 50) / RATE)
        samples[:, at : at + len(click)] = click[: max(0, samples.shape[1] - at)]
    packets = []
    resampler = av.AudioResampler(format=audio.format, layout="stereo", rate=RATE)
    fifo = av.AudioFifo()
    frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout="stereo")
    frame.sample_rate, frame.pts, frame.time_base = RATE, 0, Fraction(1, RATE)
    for part in resampler.resample(frame):
        fifo.write(part)
    size = audio.codec_context.frame_size or 1024
    while fifo.samples:
        part = fifo.read(min(size, fifo.samples), partial=True)
        part.pts += round(film.audio_delay * RATE)
        packets += audio.encode(part)
    return [*packets, *audio.encode(None)]
