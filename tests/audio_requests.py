"""Requests for tests, written without nesting."""

from __future__ import annotations

from typing import Any

from audiox_ext.pipeline.request import AudioRequest
from audiox_ext.pipeline.settings import GenerationSettings


def audio_request(**values: Any) -> AudioRequest:
    """A request from fields of `AudioRequest` and of its `GenerationSettings`."""
    names = GenerationSettings.__dataclass_fields__
    settings = {name: value for name, value in values.items() if name in names}
    inputs = {name: value for name, value in values.items() if name not in names}
    return AudioRequest(**inputs, settings=GenerationSettings(**settings))
