"""Things that people do to a server: queue, interrupt, delete, change models and LoRAs, make mistakes.

Every action leaves the queue empty, so that the server's memory can be read between two of them.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.comfyui.comfy_server import PACK, ComfyServer, Prompt, RefusedError, get_error, get_files

POCKET, TINY = "audiox-pocket", "tiny-maf"
LORAS = ("first.safetensors", "second.safetensors")
_EXAMPLES = (
    "pocket_text_to_audio",
    "pocket_video_to_audio",
    "pocket_inpainting",
    "pocket_continuation",
    "pocket_variation",
    "pocket_audio_prompt",
    "pocket_timeline",
)
_TIMEOUT = 300  # seconds per prompt
_PATIENCE = 30  # seconds until an interrupted prompt has ended
_LONG_STEPS = 400  # more than run before an interrupt


class SoakError(Exception):
    """The server did something that it must not do; the message says what."""


@dataclass
class Soak:
    """One server under load.

    Attributes:
        server: The running server.
        random: Source of all choices.
        queued: Number of prompts that were queued so far.
        counts: How often each kind of end was seen.
    """

    server: ComfyServer
    random: random.Random
    queued: int = 0
    counts: dict[str, int] = field(default_factory=dict)

    def queue(self, prompt: Prompt) -> str:
        """Queue a prompt and return its id.

        Args:
            prompt: Prompt in API form.

        Returns:
            The prompt's id.
        """
        self.queued += 1
        return self.server.queue(prompt)

    def wait(self, prompt_id: str, timeout: float = _TIMEOUT) -> dict[str, Any]:
        """Wait for a prompt to end.

        Args:
            prompt_id: The prompt's id.
            timeout: Longest time to wait, in seconds.

        Returns:
            Its history entry.
        """
        entry = self.server.wait(prompt_id, timeout)
        self.count(describe_end(entry))
        return entry

    def count(self, kind: str) -> None:
        """Count one more event of a kind.

        Args:
            kind: Name of the kind in the report.
        """
        self.counts[kind] = self.counts.get(kind, 0) + 1


def build_prompt(name: str, seed: int, *, steps: int = 2, model: str = POCKET) -> Prompt:
    """Build a prompt from one of the pack's examples.

    Args:
        name: Name of a file in examples/api.
        seed: Seed of its samplers.
        steps: Sampling steps.
        model: Model to load.

    Returns:
        The prompt in API form.
    """
    prompt: Prompt = json.loads((PACK / "examples" / "api" / f"{name}.json").read_text(encoding="utf-8"))
    for node in prompt.values():
        if node["class_type"] == "AudioXLoadModel":
            node["inputs"]["model"] = model
        if node["class_type"] == "AudioXSample":
            node["inputs"] |= {"steps": steps, "seed": seed, "live_preview": True}
    return prompt


def add_lora(prompt: Prompt, name: str, strength: float) -> Prompt:
    """Put a LoRA between the model and everything that uses it.

    Args:
        prompt: Prompt whose node "1" loads the model; changed in place.
        name: Name of the LoRA.
        strength: Strength of the LoRA.

    Returns:
        The prompt.
    """
    for node in prompt.values():
        if node["inputs"].get("model") == ["1", 0]:
            node["inputs"]["model"] = ["lora", 0]
    inputs = {"model": ["1", 0], "lora_name": name, "strength": strength}
    prompt["lora"] = {"class_type": "AudioXLoadLora", "inputs": inputs}
    return prompt


def describe_end(entry: dict[str, Any]) -> str:
    """Say how a prompt ended: success, interrupted or error.

    Args:
        entry: Its history entry.

    Returns:
        The kind of end.
    """
    kinds = {kind for kind, _ in entry["status"]["messages"]}
    if "execution_interrupted" in kinds:
        return "interrupted"
    return str(entry["status"]["status_str"])


def require_success(entry: dict[str, Any]) -> None:
    """Raise `SoakError` unless a prompt succeeded.

    Args:
        entry: Its history entry.
    """
    if describe_end(entry) != "success":
        raise SoakError(f"A prompt that is right ended with: {describe_end(entry)}, {get_error(entry)}")


def run_an_example(soak: Soak) -> None:
    """Run an example with a new seed.

    Args:
        soak: The server under load.
    """
    prompt = build_prompt(soak.random.choice(_EXAMPLES), soak.random.randrange(2**32))
    require_success(soak.wait(soak.queue(prompt)))


def run_another_model(soak: Soak) -> None:
    """Run a prompt with another model, so that ComfyUI makes room for it.

    Args:
        soak: The server under load.
    """
    prompt = build_prompt("pocket_text_to_audio", soak.random.randrange(2**32), model=TINY)
    require_success(soak.wait(soak.queue(prompt)))


def run_with_a_lora(soak: Soak) -> None:
    """Run a prompt with a LoRA at a new strength.

    Args:
        soak: The server under load.
    """
    prompt = build_prompt("pocket_text_to_audio", soak.random.randrange(2**32))
    strength = round(soak.random.uniform(-1, 1), 2)
    require_success(soak.wait(soak.queue(add_lora(prompt, soak.random.choice(LORAS), strength))))


def interrupt_a_prompt(soak: Soak) -> None:
    """Interrupt a long prompt at a random moment.

    Args:
        soak: The server under load.
    """
    name = soak.random.choice(_EXAMPLES)
    prompt_id = soak.queue(build_prompt(name, soak.random.randrange(2**32), steps=_LONG_STEPS))
    time.sleep(soak.random.uniform(0, 2))
    deadline = time.monotonic() + _PATIENCE
    while prompt_id not in soak.server.get("/history"):
        # An interrupt between two nodes may be lost, as it may for any node of ComfyUI; people click again.
        soak.server.post("/interrupt", {})
        if time.monotonic() > deadline:
            raise SoakError(f"A prompt went on for {_PATIENCE} s after it was interrupted.")
        time.sleep(0.5)
    if describe_end(soak.wait(prompt_id)) != "interrupted":
        raise SoakError("A long prompt was not interrupted.")


def delete_from_the_queue(soak: Soak) -> None:
    """Queue several prompts and delete some of them while the first runs.

    Args:
        soak: The server under load.
    """
    prompts = [build_prompt("pocket_text_to_audio", soak.random.randrange(2**32)) for _ in range(4)]
    ids = [soak.queue(prompt) for prompt in prompts]
    soak.server.post("/queue", {"delete": ids[2:]})
    for prompt_id in ids[:2]:
        require_success(soak.wait(prompt_id))
    _wait_until_idle(soak)
    soak.count("deleted")


def free_memory(soak: Soak) -> None:
    """Unload all models and forget all results, as the editor's button does; then run a prompt.

    Args:
        soak: The server under load.
    """
    forget_everything(soak)
    run_an_example(soak)


def make_a_mistake(soak: Soak) -> None:
    """Queue a prompt with an input that a node has to refuse.

    Args:
        soak: The server under load.
    """
    prompt = build_prompt("pocket_text_to_audio", soak.random.randrange(2**32))
    inputs = prompt["2"]["inputs"]
    match soak.random.randrange(4):
        case 0:  # cut in the middle of an emoji by a client, and still right
            inputs["prompt"] = "rain \ud83c"
            require_success(soak.wait(soak.queue(prompt)))
            return
        case 1:
            inputs["sigma_min"], inputs["sigma_max"] = 400.0, 1.0
        case 2:
            inputs["guidance_start"], inputs["guidance_end"] = 0.9, 0.1
        case _:
            prompt["3"]["inputs"]["filename_prefix"] = "x"
            prompt["1"]["inputs"]["model"] = "no such model \udce9"
    try:
        entry = soak.wait(soak.queue(prompt))
    except RefusedError:
        soak.queued -= 1
        soak.count("refused")
        return
    if describe_end(entry) != "error":
        raise SoakError(f"A prompt with {inputs} should have been refused.")


def forget_everything(soak: Soak) -> None:
    """Unload all models and forget all results.

    Args:
        soak: The server under load.
    """
    soak.server.post("/free", {"unload_models": True, "free_memory": True})
    soak.server.post("/history", {"clear": True})
    # The worker frees memory when it next looks at its queue, at most once per second.
    time.sleep(1.5)
    soak.count("freed")


def make_reference_sounds(soak: Soak) -> list[bytes]:
    """Run fixed prompts from an empty cache and return their sounds.

    Args:
        soak: The server under load.

    Returns:
        The FLAC files, without what the server writes about the workflow.
    """
    forget_everything(soak)
    prompts = [build_prompt(name, 7, steps=3) for name in _EXAMPLES[:4]]
    prompts.append(add_lora(build_prompt("pocket_text_to_audio", 7, steps=3), LORAS[0], 0.5))
    sounds = []
    for prompt in prompts:
        entry = soak.wait(soak.queue(prompt))
        require_success(entry)
        sounds += [soak.server.view(file) for file in get_files(entry)]
    return sounds


def _wait_until_idle(soak: Soak) -> None:
    """Wait until nothing runs and nothing is queued."""
    deadline = time.monotonic() + _TIMEOUT
    while time.monotonic() < deadline:
        queue = soak.server.get("/queue")
        if not queue["queue_running"] and not queue["queue_pending"]:
            return
        time.sleep(0.1)
    raise SoakError(f"The queue was not empty after {_TIMEOUT} s.")


ACTIONS: tuple[tuple[Callable[[Soak], None], int], ...] = (
    (run_an_example, 8),
    (run_another_model, 2),
    (run_with_a_lora, 3),
    (interrupt_a_prompt, 3),
    (delete_from_the_queue, 1),
    (free_memory, 1),
    (make_a_mistake, 2),
)
"""Each action, and how often it is chosen in relation to the others."""
