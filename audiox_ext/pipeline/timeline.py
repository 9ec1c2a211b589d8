"""A prompt that changes with time: lines such as `0-4 rain on a roof`.

Times are seconds (`9.5`), minutes (`1:30`) or hours (`1:02:03.5`) from the beginning of the sound; the last
span may end with `end`. A colon after the times is allowed, and a `-` may be a dash with spaces around it.
Blank lines and lines that begin with # are ignored.

S spans, L latents.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import Tensor

from ..errors import InputError

TOLERANCE = 0.05
"""Seconds by which borders may miss each other."""
SHORTEST_SPAN = 0.1
_LONGEST = 86400.0  # a day: what is more is a slip
MOST_SPANS = 200
"""Spans of a timeline. The network runs once per step for each of them."""
_LONGEST_QUOTE = 500  # characters of the prompt in a message
CROSSFADE = 0.5
"""Seconds over which one prompt gives way to the next, where the spans are long enough."""

_DASH = "[-\u2010-\u2015\u2212]"
# Each expression has one way to match any run of spaces: two would take quadratic time.
_UNIT = r"(?:\s*s(?:ecs?|econds?)?)?"
_SPAN_LIKE = re.compile(
    rf"(?P<start>[0-9][0-9:.,]*)(?P<unit>{_UNIT})\s*{_DASH}\s*"
    rf"(?:(?P<end>[0-9][0-9:.,]*(?:e[0-9]+)?)(?P<end_unit>{_UNIT})|(?P<word>end|inf(?:inity)?))?(?!\w)"
    r"(?P<colon>\s*:)?\s*",
    re.IGNORECASE,
)
_TIME = rf"([0-9]+(?::[0-9][0-9]){{0,2}}(?:\.[0-9]*)?){_UNIT}"
_SPAN = re.compile(rf"{_TIME}\s*{_DASH}\s*(?:{_TIME}|end)(?:\s*:(.*)|\s(.*))?", re.IGNORECASE)
_OTHER_UNIT = re.compile(
    r"(?:mph|kph|kmh|km|km/h|m/s|bpm|[kmg]?hz|db|rpm|fps|percent|degrees|miles|minutes|hours|years)(?![\w/])|%|°",
    re.IGNORECASE,
)
_HOW = "Write one line per span, such as `0-4 rain on a roof`, `4-9.5 thunder, close` or `9.5-end music`."


@dataclass(frozen=True, kw_only=True)
class Span:
    """A prompt for a part of the sound.

    Attributes:
        start: Start in seconds.
        end: End in seconds, None for the end of the sound.
        prompt: The prompt.
        line: Number of its line in the text, from 1.
    """

    start: float
    end: float | None
    prompt: str
    line: int


@dataclass(frozen=True, kw_only=True)
class Timeline:
    """Prompts of spans that follow each other without a gap, from 0 on. Made by `parse_timeline`.

    is_part: Whether it is cut from a longer timeline. Spans may then lie past the end of the sound.
    """

    spans: tuple[Span, ...]
    is_part: bool = False

    def __post_init__(self) -> None:
        """Check the number of spans. Raises `InputError`."""
        _check_count(len(self.spans))

    def __str__(self) -> str:
        """Describe the timeline: "timeline of 3 lines"."""
        return f"timeline of {len(self.spans)} line{'s' * (len(self.spans) != 1)}"

    @property
    def seconds(self) -> float | None:
        """End of the last span in seconds, or None if it lasts to the end of the sound."""
        return self.spans[-1].end

    @property
    def text(self) -> str:
        """All prompts, in order."""
        return " | ".join(span.prompt for span in self.spans)

    def check(self, seconds: float, *, of_track: bool = False) -> Timeline:
        """Fit the timeline to the length of a sound.

        Args:
            seconds: Length of the sound.
            of_track: Whether the length comes from an extended track, and not from a setting.

        Returns:
            The timeline, whose last span lasts to the end.

        Raises:
            InputError: If a span is past the end of the sound, or the last span ends before it.
        """
        whole = "extended track" if of_track else "sound"
        length = f"the {whole} is {seconds:g} s long"
        last = self.spans[-1]
        for span in self.spans:
            past = span.start > seconds - SHORTEST_SPAN + TOLERANCE
            if not self.is_part and (past or (span.end is not None and span.end > seconds + TOLERANCE)):
                raise InputError(
                    f"Timeline, line {span.line} ({_span_text(span)}): {length}, but this span goes past its "
                    f"end. {'Shorten' if of_track else 'Lengthen the duration, or shorten'} the timeline."
                )
        if last.end is not None and last.end < seconds - TOLERANCE:
            raise InputError(
                f"Timeline, line {last.line} ({_span_text(last)}): it ends at {last.end:g} s, but {length}. "
                f"Add a line, or extend this one: `{last.start:g}-end {last.prompt}`"
                + ("." if of_track else f"; or set the duration to {last.end:g} s.")
            )
        return replace(self, spans=(*self.spans[:-1], replace(last, end=None)))

    def from_second(self, start: float) -> Timeline:
        """Cut the timeline at its start.

        Args:
            start: Seconds to cut.

        Returns:
            The remaining spans, with times relative to `start`.
        """
        remaining = [span for span in self.spans if span.end is None or span.end > start + TOLERANCE]
        moved = [
            replace(
                span,
                start=max(0.0, span.start - start),
                end=None if span.end is None else span.end - start,
            )
            for span in remaining or self.spans[-1:]
        ]
        return Timeline(spans=tuple(moved), is_part=True)

    def weights(self, latents: int, seconds_per_latent: float) -> Tensor:
        """Compute the weight of each span at each latent.

        Neighbours crossfade with a raised cosine over `CROSSFADE` around their border, at most over half of
        the shorter span.

        Args:
            latents: Number of latents L.
            seconds_per_latent: Duration of a latent.

        Returns:
            Weights (spans, L), float64, from 0 to 1, with sum 1 at every latent.
        """
        centres = (torch.arange(latents, dtype=torch.float64) + 0.5) * seconds_per_latent
        risen = [torch.ones_like(centres)]
        for before, after in pairwise(self.spans):
            ends = (math.inf if after.end is None else after.end, after.start, before.start)
            fade = min(CROSSFADE, (ends[0] - ends[1]) / 2, (ends[1] - ends[2]) / 2)
            ramp = ((centres - after.start) / fade + 0.5).clamp(0, 1)
            risen.append((ramp * math.pi / 2).sin().square())
        risen.append(torch.zeros_like(centres))
        return torch.stack([rise - fall for rise, fall in pairwise(risen)])


def parse_timeline(text: str) -> Timeline | None:
    """Parse a text as a timeline.

    A text is a timeline if it has several lines, each begins with a span, and one of these spans starts at 0.
    A single line needs a colon after its span, or a time that cannot be another number: `0-4: rain`,
    `0-4s rain`, `0:00-0:04 rain` or `0-end rain`. A number with another unit is not a time. So "0-60 mph
    acceleration" and "80-90 bpm techno" are ordinary prompts.

    Args:
        text: The prompt.

    Returns:
        The timeline, or None for an ordinary prompt.

    Raises:
        InputError: For a timeline that is malformed, empty in places, out of order or too long, or has gaps
            or overlaps. The message names the line.
    """
    lines = _read_lines(text)
    # The first lines tell, however many follow.
    if not _is_timeline([_SpanLike.of(line) for _, line in lines[: MOST_SPANS + 1]]):
        return None
    _check_count(len(lines))
    spans: list[Span] = []
    for number, line in lines:
        span = _parse_span(number, line)
        if spans:
            spans[-1] = _joined(spans[-1], span)
        elif span.start > TOLERANCE:
            raise InputError(
                f"Timeline, line {number} ({_quote(line)}): the first span starts at {span.start:g} s. Let "
                "it start at 0, or add a line before it."
            )
        else:
            span = replace(span, start=0.0)
        spans.append(span)
    return Timeline(spans=tuple(spans))


def resembles_timeline(text: str) -> bool:
    """Whether an ordinary prompt has a line that could be the first of a timeline."""
    spans = (_SpanLike.of(line) for _, line in _read_lines(text)[:MOST_SPANS])
    return any(span is not None and span.begins for span in spans)


def _check_count(count: int) -> None:
    """Raise `InputError` for more lines than a timeline may have."""
    if count > MOST_SPANS:
        raise InputError(
            f"The timeline has {count} lines, but at most {MOST_SPANS} are possible. Give several lines one "
            "prompt, or make the sound in parts with AudioX Extend."
        )


def _read_lines(text: str) -> list[tuple[int, str]]:
    """The lines with their numbers, without blank lines and comments."""
    lines = ((number, line.strip()) for number, line in enumerate(text.splitlines(), start=1))
    return [(number, line) for number, line in lines if line and not line.startswith("#")]


@dataclass(frozen=True)
class _SpanLike:
    """The begin of a line that looks like a span.

    Attributes:
        start: Start in seconds, infinite if it is not a time.
        end: End in seconds, infinite if it is not a time.
        begins: Whether a timeline can begin with it: it starts at 0 and has an end.
        is_unmistakable: Whether it cannot be part of an ordinary prompt.
    """

    start: float
    end: float
    begins: bool
    is_unmistakable: bool

    @classmethod
    def of(cls, line: str) -> _SpanLike | None:
        """The begin of this line, None if it does not look like a span."""
        match = _SPAN_LIKE.match(line)
        if match is None or _OTHER_UNIT.match(line, match.end()):
            return None
        start, end = _estimate_seconds(match["start"]), _estimate_seconds(match["end"] or "")
        begins = start <= TOLERANCE and bool(match["end"] or match["word"])
        # A colon, 0:04, 4s, or `end`; "0-10 second countdown" could be a prompt.
        units = {match[group].strip().lower() for group in ("unit", "end_unit") if match[group]}
        is_unmistakable = bool(match["colon"] or match["word"] or ":" in match[0] or "s" in units)
        return cls(start, end, begins, is_unmistakable)


def _is_timeline(lines: Sequence[_SpanLike | None]) -> bool:
    """Whether these lines are a timeline, perhaps with a mistake that is worth a message."""
    spans = [span for span in lines if span is not None]
    first = [span for span in spans if span.begins]
    if not first:
        return False
    if len(spans) == len(lines) > 1 or any(span.is_unmistakable for span in first):
        return True
    # Two spans that follow each other are meant as a timeline, even if a line between them is not a span.
    return any(before.end == after.start < math.inf for before, after in pairwise(spans))


def _estimate_seconds(text: str) -> float:
    """Seconds of a time that may be malformed; then they are infinite."""
    try:
        return _sum_of_parts(text)
    except ValueError:
        return math.inf


def _quote(line: str) -> str:
    """A line for messages, not longer than is useful."""
    return repr(line if len(line) <= _LONGEST_QUOTE else line[:_LONGEST_QUOTE] + "…")


def _parse_span(number: int, line: str) -> Span:
    """The span of a line."""
    match = _SPAN.fullmatch(line)
    where = f"Timeline, line {number} ({_quote(line)})"
    if match is None:
        raise InputError(
            f"{where}: this line does not start with a valid span. {_HOW} Put a prompt without times on a "
            "single line."
        )
    start = _seconds(match[1], where)
    end = None if match[2] is None else _seconds(match[2], where)
    if end is not None and end <= start:
        raise InputError(
            f"{where}: it ends at {end:g} s but starts at {start:g} s. Swap or correct the times."
        )
    if end is not None and end - start < SHORTEST_SPAN - 1e-9:
        raise InputError(
            f"{where}: it is {end - start:g} s long, but a span needs at least {SHORTEST_SPAN:g} s. Make it "
            "longer."
        )
    prompt = (match[3] or match[4] or "").strip()
    if not prompt:
        raise InputError(f"{where}: the prompt is missing. Describe the sound after the times.")
    return Span(start=start, end=end, prompt=prompt, line=number)


def _seconds(text: str, where: str) -> float:
    """Seconds of a time such as 90 or 1:30."""
    if any(float(part) >= 60 for part in text.split(":")[1:]):
        raise InputError(f"{where}: {text} is not a valid time: minutes and seconds go up to 59. {_HOW}")
    seconds = _sum_of_parts(text)
    if not seconds <= _LONGEST:
        text = text if len(text) <= _LONGEST_QUOTE else text[:_LONGEST_QUOTE] + "…"
        raise InputError(f"{where}: {text} is after the latest possible time, {_LONGEST:g} s. {_HOW}")
    return seconds


def _sum_of_parts(text: str) -> float:
    """Add up seconds, minutes and hours. Raises `ValueError` for other texts."""
    parts = [float(part) for part in text.split(":", 3)]
    return sum(part * 60**power for power, part in enumerate(reversed(parts)))


def _joined(before: Span, after: Span) -> Span:
    """The earlier of two spans, with its end at the start of the later one."""
    where = f"Timeline, line {after.line} ({_span_text(after)})"
    if before.end is None:
        raise InputError(
            f"Timeline, line {before.line} ({_span_text(before)}): only the last span may end at `end`, but "
            f"line {after.line} follows. Give it an end time."
        )
    if after.start < before.start:
        raise InputError(f"{where}: it starts before line {before.line}. Sort the lines by time.")
    if after.start > before.end + TOLERANCE:
        raise InputError(
            f"{where}: from {before.end:g} to {after.start:g} s there is no prompt. Let it start at "
            f"{before.end:g}, or add a line between."
        )
    if after.start < before.end - TOLERANCE or after.start - before.start < SHORTEST_SPAN / 2:
        raise InputError(
            f"{where}: it starts at {after.start:g} s, but line {before.line} ends at {before.end:g} s. Let "
            "it start there: spans cannot overlap."
        )
    return replace(before, end=after.start)


def _span_text(span: Span) -> str:
    """The span as a line of the timeline."""
    end = "end" if span.end is None else f"{span.end:g}"
    return _quote(f"{span.start:g}-{end} {span.prompt}")
