"""Consent over the API: ComfyUI makes true of the text "false", and the pack does not."""

from __future__ import annotations

import pytest

from .comfy_server import ComfyServer, Prompt

pytestmark = [pytest.mark.server, pytest.mark.slow]


def prompt_with(value: object, primitive: object = None) -> Prompt:
    """Load the model without a licence and sample it, with this value of the switch."""
    return {
        "1": {
            "class_type": "AudioXLoadModel",
            "inputs": {
                "model": "tiny-nc",
                "precision": "auto",
                "engine": "native",
                "accept_cc_by_nc": value,
            },
        },
        "2": {
            "class_type": "AudioXSample",
            "inputs": {
                "model": ["1", 0],
                "prompt": "rain",
                "negative_prompt": "",
                "duration": 1.0,
                "steps": 1,
                "cfg": 1.0,
                "sampler": "default",
                "sigma_min": 0.0,
                "sigma_max": 0.0,
                "seed": 5,
                "batch": 1,
            },
        },
        "3": {"class_type": "PreviewAudio", "inputs": {"audio": ["2", 0]}},
        "4": {"class_type": "PrimitiveBoolean", "inputs": {"value": primitive}},
    }


@pytest.mark.parametrize("value", ["false", "no", "0", "true", "True", 1, 0.5, float("nan"), {"a": 1}, False])
def test_no_other_value_is_consent(value: object, server: ComfyServer) -> None:
    assert "accept_cc_by_nc" in server.fail(prompt_with(value))
    assert "accept_cc_by_nc" in server.fail(prompt_with(["4", 0], value))


def test_true_is_consent(server: ComfyServer) -> None:
    server.run(prompt_with(True))
    server.run(prompt_with(["4", 0], True))
