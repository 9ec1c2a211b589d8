"""The text form of timelines: what is one, what is an ordinary prompt, and what is refused."""

from __future__ import annotations

import contextlib
import random
import time
from typing import Any

import pytest

from audiox_ext.errors import InputError
from audiox_ext.pipeline.timeline import Timeline, parse_timeline, resembles_timeline


def timeline(text: str) -> Timeline:
    parsed = parse_timeline(text)
    assert parsed is not None
    return parsed


def spans(text: str) -> list[tuple[float, float | None, str]]:
    return [(span.start, span.end, span.prompt) for span in timeline(text).spans]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0-4: rain on a roof", [(0, 4, "rain on a roof")]),
        ("0-4:8-bit music", [(0, 4, "8-bit music")]),
        ("0-4s rain on a roof", [(0, 4, "rain on a roof")]),
        ("0 - 4 s rain", [(0, 4, "rain")]),
        ("0:00-0:04 rain", [(0, 4, "rain")]),
        ("0-4sec rain\n4-9 seconds: wind", [(0, 4, "rain"), (4, 9, "wind")]),
        ("0-4 rain\n4-9 bar full of people", [(0, 4, "rain"), (4, 9, "bar full of people")]),
        (
            "0-4 rain on a roof\n4-9.5 thunder, close\n9.5-end music",
            [(0, 4, "rain on a roof"), (4, 9.5, "thunder, close"), (9.5, None, "music")],
        ),
        (
            "# scene\n\n 0 \u2013 1:30: rain\n1:30 - 1:02:03.5  wind\n",
            [(0, 90, "rain"), (90, 3723.5, "wind")],
        ),
        ("0:00-0:04 a\n0:04-END b: c-d", [(0, 4, "a"), (4, None, "b: c-d")]),
        ("0-4s a\n4s-5s b", [(0, 4, "a"), (4, 5, "b")]),
        ("0.02-4 a\n4.03-6 b\n5.98-7 c", [(0, 4.03, "a"), (4.03, 5.98, "b"), (5.98, 7, "c")]),
        ("0-end 8-bit game music", [(0, None, "8-bit game music")]),
    ],
)
def test_timelines_are_parsed(text: str, expected: Any) -> None:
    assert spans(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "rain",
        "80-90 bpm techno",
        "8-bit game music",
        "2-3x faster rain",
        "rain\nthunder at 4-5 in the morning",
        "# 0-4 rain\nwind",
        # Numbers other than times.
        "0-60 mph acceleration of a sports car",
        "0-60 acceleration of a sports car",
        "0-60\nsports car, engine roar",
        "0-60 mph acceleration\n60-0 mph braking",
        "0-60 mph: acceleration of a sports car",
        "0-100 km/h in three seconds, loud engine",
        "0-100km/h launch",
        "0-100 % crescendo",
        "0-20 kHz sweep",
        "0-10 second countdown, beeps",
        "0-0 draw, football crowd",
        "0-9 spoken numbers\na calm voice",
        "24-7 radio hum",
        "9-5 office",
        "1-2 step dance",
        "1-2 step dance\n2-4 beats",
        "120-130 bpm techno\n130-140 bpm trance",
        "0-4 rain on a roof",
        "0-4 rain\nwind",
        "2-4 rain\n4-5 wind",
        "0-",
        "0-4-",
        "0- intro\n1- drums\n2- outro",
    ],
)
def test_ordinary_prompts_are_not_timelines(text: str) -> None:
    assert parse_timeline(text) is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "0-4 a\n4-5 b\nrain",
            r"line 3 \('rain'\): this line does not start with a valid span. Write one line per span",
        ),
        ("0-4 a\n\n4,5-6 b", r"line 3 \('4,5-6 b'\): this line does not start with a valid span"),
        ("0-4 a\n4-1:75 b", "line 2 .*1:75 is not a valid time"),
        ("0-4 a\n9-4 b", "line 2 .*it ends at 4 s but starts at 9 s"),
        ("0-4 a\n4-4 b", "line 2 .*it ends at 4 s but starts at 4 s"),
        ("0-4 a\n4-4.02 b", "line 2 .*it is 0.02 s long"),
        ("0-1 a\n1- b", r"line 2 \('1- b'\): this line does not start with a valid span"),
        ("0-4\n4-5 b", "line 1 .*the prompt is missing"),
        ("0-4 a\n4.2-5 b", "line 2 .*from 4 to 4.2 s there is no prompt"),
        ("0-4 a\n3.8-5 b", "line 2 .*it starts at 3.8 s, but line 1 ends at 4 s"),
        ("0-4 a\n4-8 b\n2-3 c", "line 3 .*it starts before line 2. Sort the lines by time"),
        ("2-4 a\n0-5 b", "line 1 .*the first span starts at 2 s"),
        ("0-4: a\nrain", r"line 2 \('rain'\): this line does not start with a valid span"),
        (
            "0-inf rain",
            r"line 1 \('0-inf rain'\): this line does not start with a valid span. Write one line per span",
        ),
        ("0-1e400 rain\n4-5 b", "line 1 .*: this line does not start with a valid span. Write one line"),
        ("0-4 a\n4-infinity b", "line 2 .*: this line does not start with a valid span. Write one line"),
        (
            f"0-4 a\n4-{'9' * 400} b",
            "line 2 .*: 9{400} is after the latest possible time, 86400 s. Write one line",
        ),
        ("0-86401: a", "line 1 .*: 86401 is after the latest possible time, 86400 s"),
        ("0-25:00:00 a", "line 1 .*: 25:00:00 is after the latest possible time, 86400 s"),
        ("0-end a\n4-5 b", "line 1 .*only the last span may end at `end`, but line 2 follows"),
    ],
)
def test_errors_name_their_line(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_timeline(text)


def test_a_timeline_has_at_most_200_lines() -> None:
    def lines(count: int) -> str:
        return "\n".join(f"{second}-{second + 1} rain" for second in range(count))

    assert len(timeline(lines(200)).spans) == 200
    with pytest.raises(InputError, match="has 201 lines, but at most 200 are possible"):
        parse_timeline(lines(201))


NUMBERS, SPACES = "0123456789:.,", " \t\u00a0\u3000"
UNITS = [
    *("0", "0-", "0-4", "0-4 rain ", "0-4 rain\n", "0-4: rain\n", "4-9 wind\n", "\n", "# ", "-", "0 s", "0:"),
    *(
        " ",
        "\t",
        "0 ",
        "s",
        "0-4s ",
        "0-1e9",
        "end",
        "0-end\n",
        "9",
        "0-9",
        ":",
        ".",
        "0 - 4 : ",
        "\u2013",
        "%",
    ),
]


@pytest.mark.slow
@pytest.mark.parametrize("repeated", UNITS)
def test_a_megabyte_is_parsed_in_linear_time(repeated: str) -> None:
    starts = ("", "0", "0 s", "0-4: ")
    texts = [start + repeated * (1_000_000 // len(repeated)) + "x" for start in starts]
    for text in texts:
        started = time.process_time()
        with contextlib.suppress(InputError):
            parse_timeline(text)
        resembles_timeline(text)
        assert time.process_time() - started < 1, text[:20]


def test_any_text_is_a_timeline_a_prompt_or_refused() -> None:
    generator = random.Random(3)
    pieces = [*UNITS, *NUMBERS, *SPACES, "rain", "e", "inf", "mph", "/", "٣", "²", "\x1c", "\ud800"]
    for _ in range(3000):
        text = "".join(generator.choices(pieces, k=generator.randint(1, 12)))
        with contextlib.suppress(InputError):
            parsed = parse_timeline(text)
            assert parsed is None or parsed.spans[0].start == 0


def test_messages_quote_little_of_a_long_line() -> None:
    for text in (
        "0-4: " + "a" * 100_000 + "\nb",
        "0-4 a\n4-" + "9" * 100_000 + " b",
        "0-4 a\n3-9 " + "b" * 9999,
    ):
        with pytest.raises(InputError) as error:
            parse_timeline(text)
        assert len(str(error.value)) < 2000


def test_prompts_of_several_lines_need_not_be_timelines() -> None:
    assert parse_timeline("techno\n120-130 bpm") is None
    assert parse_timeline("a song\n1-2-3 count in\nloud") is None


def test_prompts_that_resemble_timelines() -> None:
    assert resembles_timeline("0-4 rain on a roof")
    assert resembles_timeline("0-60\nsports car")
    for text in ("0-60 mph acceleration", "80-90 bpm techno", "rain", "2-4 a\n4-5 b"):
        assert not resembles_timeline(text)
