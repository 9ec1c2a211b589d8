"""Sets up ComfyUI in this process, without its server, and holds what the checks of nodes share.

The command line is run_checks.py's: <ComfyUI checkout> <base directory> <pack folder>.
"""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from typing import Any

COMFYUI, BASE, PACK = (Path(argument) for argument in sys.argv[1:4])
os.chdir(COMFYUI)
sys.path.insert(0, str(COMFYUI))
sys.argv = ["main.py", "--cpu", "--base-directory", str(BASE)]

import comfy.options  # noqa: E402

comfy.options.enable_args_parsing()

# Reads pyproject.toml; importing it takes 0.25 s, which would count as the first pack's import time.
import comfy_config.config_parser  # noqa: E402, F401
import torch  # noqa: E402
from comfy_api.latest import InputImpl  # noqa: E402

import nodes as comfy_nodes  # noqa: E402

IDS = sorted(path.stem for path in (PACK / "web" / "docs").glob("*.md"))  # every node has a help page
SAMPLER = {
    "prompt": "rain",
    "negative_prompt": "",
    "duration": 1.0,
    "steps": 2,
    "cfg": 2.0,
    "sampler": "default",
    "sigma_min": 0.0,
    "sigma_max": 0.0,
    "seed": 5,
    "batch": 1,
}
EXTRACTOR = {
    "start": 0.0,
    "duration": 0.0,
    "resize": "squash",
    "fps": 24.0,
    "mask_strength": 1.0,
    "mask_clip": True,
    "mask_sync": True,
    "seconds_per_image": 0.0,
}


def pack(name: str) -> Any:
    """A module of the pack as ComfyUI imported it."""
    return sys.modules[f"{str(PACK).replace('.', '_x_')}.{name}"]


def run(node_id: str, **inputs: Any) -> Any:
    """Run a node as ComfyUI does; returns its outputs."""
    node = comfy_nodes.NODE_CLASS_MAPPINGS[node_id]
    with torch.inference_mode():
        return node.PREPARE_CLASS_CLONE({}).EXECUTE_NORMALIZED(**inputs).result


def load(name: str, precision: str = "auto", accept: bool = False) -> Any:
    """Load a model with the loader node."""
    settings = {"precision": precision, "engine": "native", "accept_cc_by_nc": accept}
    return run("AudioXLoadModel", model=name, **settings)[0]


def sample(model: Any, **changes: Any) -> torch.Tensor:
    """Generate a waveform with the sampler node."""
    return run("AudioXSample", model=model, **SAMPLER | changes)[0]["waveform"]


def message(call: Any) -> str:
    """Return the message of the AudioXError that a call raises."""
    try:
        call()
    except pack("audiox_ext.errors").AudioXError as error:
        return str(error)
    raise AssertionError("it should have failed")


def sound(channels: int, samples: int, rate: int = 44100) -> dict[str, Any]:
    """Make an AUDIO of noise."""
    generator = torch.Generator().manual_seed(channels)
    return {"waveform": torch.rand(1, channels, samples, generator=generator) - 0.5, "sample_rate": rate}


def video() -> Any:
    """Load the test video as LoadVideo does."""
    return InputImpl.VideoFromFile(str(BASE / "input" / "video.mp4"))


@contextlib.contextmanager
def unplaced() -> Any:
    """Keep load_models_gpu from loading the rest of a partially loaded model."""
    import comfy.model_management as mm

    original, mm.load_models_gpu = mm.load_models_gpu, lambda *arguments, **settings: None
    try:
        yield
    finally:
        mm.load_models_gpu = original
