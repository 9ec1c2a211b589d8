"""Lone surrogates, from file names that are not UTF-8 and prompts that were cut, leave no text invalid."""

from __future__ import annotations

import ast
import logging
from pathlib import Path

import pytest

from audiox_ext import errors
from audiox_ext.conditioning.prompts import parse_text_prompt
from audiox_ext.pipeline.request import AudioRequest
from audiox_ext.utf8 import escape_surrogates, get_logger, is_valid, replace_surrogates

ROOT = Path(__file__).parents[1]
NAME = "caf\udce9.wav"  # the name b"caf\xe9.wav" on Linux
ERRORS = [value for value in vars(errors).values() if isinstance(value, type)]


@pytest.mark.parametrize(
    ("text", "escaped", "replaced"),
    [
        ("plain, 音 and 😀", "plain, 音 and 😀", "plain, 音 and 😀"),
        ("a bell \ud83d", "a bell \\ud83d", "a bell \ufffd"),
        ("\ude00 rings", "\\ude00 rings", "\ufffd rings"),
        ("\ud83d\ude00", "\\ud83d\\ude00", "😀"),
        (NAME, "caf\\udce9.wav", "caf\ufffd.wav"),
        ("", "", ""),
    ],
)
def test_messages_show_an_escape_and_models_see_a_replacement(text: str, escaped: str, replaced: str) -> None:
    assert escape_surrogates(text) == escaped
    assert is_valid(text) == (text == escaped)
    assert replace_surrogates(text) == replaced


@pytest.mark.parametrize("kind", ERRORS)
def test_every_error_can_be_encoded(kind: type[errors.AudioXError]) -> None:
    error = kind(f"{NAME} cannot be read.")
    assert str(error) == "caf\\udce9.wav cannot be read."
    assert error.args == (str(error),)


def test_every_log_message_can_be_encoded(caplog: pytest.LogCaptureFixture) -> None:
    log = get_logger("audiox_ext.test")
    assert get_logger("audiox_ext.test") is log
    with caplog.at_level(logging.INFO, "audiox_ext.test"):
        log.info("Reading %s, %d %%", NAME, 50)
    assert caplog.messages == ["Reading caf\\udce9.wav, 50 %"]
    assert len(log.filters) == 1


def test_all_loggers_come_from_one_place() -> None:
    elsewhere = {"utf8.py", "trainer.py"}  # trainer.py silences the loggers of another package
    wrong = [
        path.relative_to(ROOT).as_posix()
        for folder in ("audiox_ext", "nodes")
        for path in (ROOT / folder).rglob("*.py")
        if path.name not in elsewhere
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and node.attr == "getLogger"
    ]
    assert not wrong


def test_half_an_emoji_in_a_prompt_is_replaced() -> None:
    request = AudioRequest(prompt="a bell \ud83d", negative_prompt="\ude00 noise")
    assert request.prompt == "a bell \ufffd"
    assert request.negative_prompt == "\ufffd noise"
    assert parse_text_prompt("a bell \ud83d") == "a bell \ufffd"
    timeline = AudioRequest(prompt="0-4 rain \ud83d\n4-8 wind").prompt
    assert not isinstance(timeline, str)
    assert "rain \ufffd" in repr(timeline)
