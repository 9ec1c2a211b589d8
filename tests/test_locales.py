"""Every text of every node in every language."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tools.locales import LANGUAGES, LOCALES, list_texts, read_texts

OTHERS = [language for language in LANGUAGES if language != "en"]

# The scripts of these languages; a text without any letter of its script is not translated.
SCRIPTS = {"zh": "[\u4e00-\u9fff]", "ja": "[\u3040-\u30ff\u4e00-\u9fff]", "ko": "[\uac00-\ud7af]"}
SCRIPTS["ru"] = "[\u0400-\u04ff]"

# Names of models, of other nodes' sockets, file names, numbers with units: they stay.
KEPT = re.compile(r"AudioX-[A-Za-z0-9-]+|\d+(?:\.\d+)?|LUFS|dBFS|CLIP|Synchformer|CC-BY-NC|SelVA")


def test_every_language_is_there() -> None:
    assert sorted(path.name for path in LOCALES.iterdir() if path.is_dir()) == sorted(LANGUAGES)
    for language in LANGUAGES:
        assert read_texts(language), language


@pytest.mark.parametrize("language", OTHERS)
def test_a_language_has_every_text_and_no_other(language: str) -> None:
    english, own = dict(list_texts(read_texts("en"))), dict(list_texts(read_texts(language)))
    assert own.keys() == english.keys()
    assert [place for place, text in own.items() if not text.strip() and english[place].strip()] == []


@pytest.mark.parametrize("language", OTHERS)
def test_sentences_are_translated(language: str) -> None:
    english, own = dict(list_texts(read_texts("en"))), dict(list_texts(read_texts(language)))
    sentences = [place for place in own if place.endswith(("tooltip", "description"))]
    assert len(sentences) > 80
    same = [place for place in sentences if own[place] == english[place] and english[place]]
    assert same == []
    if language in SCRIPTS:
        foreign = [
            place for place in sentences if own[place] and not re.search(SCRIPTS[language], own[place])
        ]
        assert foreign == []


@pytest.mark.parametrize("language", OTHERS)
def test_names_and_numbers_stay(language: str) -> None:
    english, own = dict(list_texts(read_texts("en"))), dict(list_texts(read_texts(language)))
    for place, text in english.items():
        expected = set(KEPT.findall(text))
        actual = set(KEPT.findall(own[place].replace(",", ".")))
        assert expected <= actual | {number for number in expected if number in ("1", "2", "3")}, (
            place,
            own[place],
        )


def test_files_are_tidy() -> None:
    for language in LANGUAGES:
        path = Path(LOCALES / language / "nodeDefs.json")
        text = path.read_text(encoding="utf-8")
        assert text == json.dumps(json.loads(text), indent=2, ensure_ascii=False) + "\n", path
