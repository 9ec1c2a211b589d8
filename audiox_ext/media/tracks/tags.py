"""Keeps what a file says about itself: title, date, place, chapters, and the tag of its codec."""

from __future__ import annotations

import math
from collections.abc import Mapping
from fractions import Fraction
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # PyAV is loaded only when a file is opened
    from av.container import InputContainer, OutputContainer

# Tags that describe the old file itself, not what it shows; a muxer writes its own.
_ABOUT_THE_FILE = {
    "major_brand",
    "minor_version",
    "compatible_brands",
    "encoder",
    "duration",
    "vendor_id",
    "bps",
    "number_of_frames",
    "number_of_bytes",
    "source_id",
    "rotate",
    "variant_bitrate",
    "timecode",
}
# Tags that FFmpeg writes to their own place in .mp4 and .mov. It drops others by default.
_KNOWN_TO_MP4 = {
    "title",
    "artist",
    "album",
    "album_artist",
    "author",
    "comment",
    "composer",
    "copyright",
    "creation_time",
    "date",
    "description",
    "episode_id",
    "genre",
    "grouping",
    "keywords",
    "location",
    "lyrics",
    "make",
    "model",
    "network",
    "show",
    "synopsis",
    "track",
}


def read_tags(container: InputContainer) -> dict[str, str]:
    """Read the tags of a file that stay true when its tracks are put into another file."""
    return _keep(container.metadata, flv="flv" in container.format.name.split(","))


def read_track_tags(stream: Any) -> dict[str, str]:
    """Read the tags of a track that stay true when it is put into another file."""
    return _keep(stream.metadata)


def needs_free_tags(tags: Mapping[str, str]) -> bool:
    """Whether .mp4 and .mov drop some of the tags unless they may hold any."""
    return any(name.lower() not in _KNOWN_TO_MP4 for name in tags)


def copy_chapters(
    source: InputContainer, output: OutputContainer, *, origin: float, start: float, end: float
) -> None:
    """Copy the chapters that lie in a part of a video.

    Args:
        source: The open video.
        output: A file whose writing has not begun.
        origin: When the video begins, in seconds of the file.
        start: Start of the part, in seconds of the video.
        end: End of the part, in seconds of the video; may be infinite.
    """
    if not hasattr(source, "chapters"):  # older PyAV
        return
    chapters: list[Any] = []
    for chapter in source.chapters():
        base = Fraction(chapter["time_base"] or 1)
        first = max(0.0, float(chapter["start"] * base) - origin - start)
        last = min(end - start, float(chapter["end"] * base) - origin - start)
        if last > first and math.isfinite(last):
            times = {"start": round(first / base), "end": round(last / base)}
            chapters.append({**chapter, **times})
    if chapters:
        output.set_chapters(chapters)


def choose_codec_tag(source: InputContainer, stream: Any, container: str) -> str:
    """Choose the tag of a copied video codec; an empty one leaves the choice to FFmpeg.

    .mp4 and .mov keep the tag of the source. HEVC from elsewhere is tagged hvc1: Apple's players refuse hev1.

    Args:
        source: The file that is copied.
        stream: Its video track.
        container: FFmpeg's name of the new file's format.
    """
    if container not in ("mp4", "mov"):
        return ""
    if {"mp4", "mov"} & set(source.format.name.split(",")):
        return str(stream.codec_context.codec_tag)
    return "hvc1" if stream.codec_context.name == "hevc" else ""


def _keep(tags: Mapping[str, str], *, flv: bool = False) -> dict[str, str]:
    """Drop the tags that describe the old file; those of FLV are technical apart from a few."""
    return {
        name: value
        for name, value in tags.items()
        if name.lower() not in _ABOUT_THE_FILE
        and not name.lower().startswith("_statistics")
        and (not flv or name.lower() in _KNOWN_TO_MP4)
    }
