"""Finds where a stream changes its picture format midway, which .mp4 and its relatives cannot hold."""

from __future__ import annotations

from typing import Any

_START_CODE = b"\0\0\1"
# Bytes of a packet in which the sequence parameter sets stand, before the pictures.
_HEADER = 1 << 12


class FormatWatch:
    """Compares the sequence parameter sets of a stream's packets with the first.

    Only streams that carry them within the packets (H.264 and HEVC of broadcasts) can change them.
    """

    def __init__(self, stream: Any) -> None:
        """Watch a video track of an open file."""
        extradata = stream.codec_context.extradata or b""
        codec = stream.codec_context.name
        in_packets = not extradata.startswith(b"\x01")  # 1 begins the parameter sets of .mp4 and Matroska
        self._codec = codec if in_packets and codec in ("h264", "hevc") else ""
        self._first: list[bytes] = []

    def changes(self, packet: Any) -> bool:
        """Whether a packet begins another format than the first one had."""
        if not self._codec or not packet.is_keyframe:
            return False
        sets = self._read_sets(bytes(packet)[:_HEADER])
        self._first = self._first or sets
        return bool(sets) and sets != self._first

    def _read_sets(self, data: bytes) -> list[bytes]:
        """The sequence parameter sets of one packet. Source: ITU-T H.264 and H.265, annex B."""
        units = [unit.rstrip(b"\0") for unit in data.split(_START_CODE)[1:]]
        if self._codec == "h264":
            return [unit for unit in units if unit and unit[0] & 31 == 7]
        return [unit for unit in units if unit and unit[0] >> 1 & 63 == 33]
