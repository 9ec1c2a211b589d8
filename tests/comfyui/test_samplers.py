"""Tests of ComfyUI's own samplers and schedulers on the sampler node, in a real server."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from .comfy_server import ComfyServer, Prompt, RefusedError, get_error, get_files

pytestmark = [pytest.mark.server, pytest.mark.slow]

BOUNDS: dict[str, Any] = {"sigma_max": 500.0, "sigma_min": 0.3}
SCHEDULERS: dict[str, dict[str, Any]] = {
    "KarrasScheduler": {"rho": 7.0},
    "ExponentialScheduler": {},
    "PolyexponentialScheduler": {"rho": 1.0},
}


def connect(prompt: Prompt, scheduler: str, steps: int, sampler: str = "euler") -> Prompt:
    """Connect KSamplerSelect and a scheduler to the prompt's sampler."""
    settings = {"steps": steps, **BOUNDS, **SCHEDULERS[scheduler]}
    prompt["90"] = {"class_type": "KSamplerSelect", "inputs": {"sampler_name": sampler}}
    prompt["91"] = {"class_type": scheduler, "inputs": settings}
    for node in prompt.values():
        if node["class_type"] == "AudioXSample":
            node["inputs"] |= {"custom_sampler": ["90", 0], "custom_sigmas": ["91", 0]}
    return prompt


@pytest.mark.parametrize("scheduler", list(SCHEDULERS))
def test_they_make_a_sound(scheduler: str, server: ComfyServer, example: Callable[..., Prompt]) -> None:
    prompt = connect(example("text_to_audio", "tiny-maf", seed=1), scheduler, steps=4)
    with server.listen() as listener:
        prompt_id = server.queue(prompt, listener.client_id)
        messages = listener.wait_for("execution_success", "execution_error")
    steps = [m["data"] for m in messages if m["type"] == "progress" and m["data"]["node"] == "2"]
    assert [(s["value"], s["max"]) for s in steps] == [(i, 4) for i in range(1, 5)]
    assert get_files(server.wait(prompt_id))


def test_a_model_with_its_own_steps_refuses_them(server: ComfyServer, example: Callable[..., Prompt]) -> None:
    prompt = connect(example("text_to_audio", "tiny-turbo", seed=1), "KarrasScheduler", steps=4)
    try:
        error = server.fail(prompt)
    except RefusedError as refusal:
        error = str(refusal)
    assert "takes its own steps" in error


def test_an_interrupt_stops_them(server: ComfyServer, example: Callable[..., Prompt]) -> None:
    sampler = {"batch": 6, "seed": 2}
    prompt = connect(example("text_to_audio", "tiny-base", **sampler), "KarrasScheduler", steps=500)
    with server.listen() as listener:
        prompt_id = server.queue(prompt, listener.client_id)
        listener.wait_for("progress")
        server.post("/interrupt", {"prompt_id": prompt_id})
        rest = listener.wait_for("execution_interrupted", "execution_success", "execution_error")
    assert rest[-1]["type"] == "execution_interrupted"
    assert get_error(server.wait(prompt_id)).startswith("no error message")
