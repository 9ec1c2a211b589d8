"""Small synthetic videos whose pictures encode the frame number in a 4 x 3 grid of black and white blocks."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from torch import Tensor

COLUMNS, ROWS = 4, 3
Picture = Callable[[int, int, int], np.ndarray]


def code_picture(index: int, width: int, height: int) -> np.ndarray:
    """(height, width, 3) uint8: the bits of `index`, the lowest at the top left, white for one."""
    bits = np.array([(index >> bit) & 1 for bit in range(COLUMNS * ROWS)], dtype=np.uint8).reshape(
        ROWS, COLUMNS
    )
    blocks = np.kron(bits * 255, np.ones((height // ROWS, width // COLUMNS), dtype=np.uint8))
    return np.repeat(blocks[:, :, None], 3, axis=2)


def read_code(frame: Tensor) -> int:
    """Read the index from a (3, H, W) picture of any size."""
    height, width = frame.shape[1:]
    rows = [int((row + 0.5) * height / ROWS) for row in range(ROWS)]
    columns = [int((column + 0.5) * width / COLUMNS) for column in range(COLUMNS)]
    bits = [int(frame[:, y, x].float().mean() > 127) for y in rows for x in columns]
    return sum(value << bit for bit, value in enumerate(bits))


def frame_times(count: int, rate: Fraction | float) -> list[Fraction]:
    """Times of `count` frames at a constant rate."""
    return [index / Fraction(rate).limit_denominator(1001) for index in range(count)]


def write_video(
    target: Any,
    times: Sequence[Fraction],
    *,
    container: str = "mp4",
    codec: str = "libx264",
    time_base: Fraction = Fraction(1, 90000),
    width: int = 64,
    height: int = 48,
    gop: int = 12,
    picture: Picture = code_picture,
    audio_seconds: float = 0.0,
    rotation: int = 0,
    pixel_format: str = "yuv420p",
    options: dict[str, str] | None = None,
    **tags: Any,
) -> None:
    """Encode pictures at the given times (seconds), with B-frames where the codec has them."""
    target = str(target) if isinstance(target, Path) else target
    rate = Fraction(len(times) - 1) / (times[-1] - times[0]) if len(times) > 1 else Fraction(25)
    with av.open(target, "w", format=container) as output:
        stream = output.add_stream(codec, rate=rate.limit_denominator(60000))
        stream.width, stream.height, stream.pix_fmt = width, height, pixel_format
        stream.codec_context.time_base = time_base
        stream.gop_size = gop
        stream.options = options or (
            {"preset": "ultrafast", "crf": "16", "bf": "2"} if "264" in codec else {}
        )
        for name, value in tags.items():
            setattr(stream.codec_context, name, value)
        if rotation:
            stream.set_display_rotation(rotation)
        audio = output.add_stream("aac", rate=44100, layout="stereo") if audio_seconds else None
        for index, time in enumerate(times):
            frame = av.VideoFrame.from_ndarray(picture(index, width, height), format="rgb24")
            if tags.get("colorspace"):
                frame = frame.reformat(format=pixel_format, dst_colorspace=tags["colorspace"])
            frame.pts, frame.time_base = round(time / time_base), time_base
            output.mux(stream.encode(frame))
        output.mux(stream.encode())
        if audio is not None:
            output.mux(audio.encode(tone(round(audio_seconds * 44100))))
            output.mux(audio.encode())


def write_sound(target: Any, *, container: str = "mp4", seconds: float = 0.5) -> None:
    """A file without any video track."""
    with av.open(str(target) if isinstance(target, Path) else target, "w", format=container) as output:
        stream = output.add_stream("aac", rate=44100, layout="stereo")
        output.mux(stream.encode(tone(round(seconds * 44100))))
        output.mux(stream.encode())


def video_bytes(times: Sequence[Fraction], **settings: Any) -> bytes:
    """Like `write_video`, in memory."""
    file = io.BytesIO()
    write_video(file, times, **settings)
    return file.getvalue()


def stamps(source: Path | bytes) -> list[Fraction]:
    """The container's own display times, seconds from the start of the video stream, in display order."""
    with av.open(io.BytesIO(source) if isinstance(source, bytes) else str(source)) as container:
        stream = container.streams.video[0]
        times = [packet.pts for packet in container.demux(stream) if packet.pts is not None]
        return [(pts - stream.start_time) * stream.time_base for pts in sorted(times)]


def on_screen(times: Sequence[Fraction], time: Fraction) -> int:
    """Number of the last frame with a timestamp <= time; 0 before the first."""
    return max(0, sum(stamp <= time for stamp in times) - 1)


def packets(source: Path) -> list[bytes]:
    """The encoded video packets, in file order."""
    with av.open(str(source)) as container:
        return [bytes(p) for p in container.demux(container.streams.video[0]) if p.size]


def tone(samples: int) -> av.AudioFrame:
    """440 Hz, stereo."""
    wave = (0.5 * np.sin(2 * np.pi * 440 / 44100 * np.arange(samples))).astype(np.float32)
    frame = av.AudioFrame.from_ndarray(np.stack([wave, wave]), format="fltp", layout="stereo")
    frame.sample_rate, frame.pts = 44100, 0
    return frame
