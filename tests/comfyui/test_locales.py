"""Tests that the English texts are those of the nodes, and that ComfyUI serves every language."""

from __future__ import annotations

import pytest

from tools.locales import LANGUAGES, collect_english, read_texts

from .comfy_server import ComfyServer

pytestmark = [pytest.mark.server, pytest.mark.slow]


def test_the_english_texts_are_those_of_the_nodes(server: ComfyServer) -> None:
    assert read_texts("en") == collect_english(server.get("/object_info")), "run `python -m tools.locales`"


def test_comfyui_hands_out_every_language(server: ComfyServer) -> None:
    texts = server.get("/i18n")
    for language in LANGUAGES:
        translations = read_texts(language)
        assert {name: texts[language]["nodeDefs"][name] for name in translations} == translations
