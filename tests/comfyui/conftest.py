"""Fixtures: a ComfyUI server with this pack, the SelVA pack and a third pack, in its own folder.

Needs a ComfyUI checkout: $COMFYUI_DIR, ~/ComfyUI, or the one whose custom_nodes contains this pack.
$COMFYUI_PYTHON is the interpreter to run it with (default: the one that runs the tests). $SELVA_DIR or
~/selva/ComfyUI-Prismaudio is the SelVA pack, $VHS_DIR or ~/ComfyUI-VideoHelperSuite is Video Helper Suite,
with opencv-python-headless and imageio-ffmpeg. Tests whose parts are missing are skipped with a message.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import videos
from lora_methods import MethodFiles
from random_loras import random_lora

from audiox_ext.checkpoints.catalog import DEFAULT_MODEL

from . import example_inputs
from .comfy_server import PACK, VIDEO_SECONDS, ComfyServer, Prompt

LORAS: list[tuple[str, str, int, dict[str, str]]] = [
    ("rain", "tiny-maf", 1, {}),
    ("more/wind", "tiny-maf", 2, {}),
    ("filters", "tiny-mmdit", 3, {}),
    ("base", "tiny-base", 4, {}),
    ("nc", "tiny-maf", 5, {"license": "cc-by-nc-4.0"}),
]
MODELS = {"tiny-maf": "maf", "tiny-base": "base", "tiny-turbo": "turbo", "tiny-mmdit": "mmdit"}

# A pack that outputs its own objects under our type name, as three published packs do.
FOREIGN_PACK = """
class ForeignLoader:
    RETURN_TYPES = ("AUDIOX_MODEL",)
    FUNCTION = "load"
    CATEGORY = "foreign"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {}}

    def load(self):
        return ({"model": object(), "sample_rate": 44100},)


NODE_CLASS_MAPPINGS = {"AudioXModelLoader": ForeignLoader}
"""


@pytest.fixture(scope="session")
def selva_dir() -> Path | None:
    """The SelVA pack, or None."""
    folder = Path(os.environ.get("SELVA_DIR") or Path.home() / "selva" / "ComfyUI-Prismaudio")
    return folder if (folder / "__init__.py").is_file() else None


@pytest.fixture(scope="session")
def vhs_dir() -> Path | None:
    """Video Helper Suite, or None; also if a package that it needs is missing and its import would fail."""
    folder = Path(os.environ.get("VHS_DIR") or Path.home() / "ComfyUI-VideoHelperSuite")
    if not (folder / "videohelpersuite" / "nodes.py").is_file():
        return None
    code = "from importlib.util import find_spec; assert find_spec('cv2') and find_spec('imageio_ffmpeg')"
    python = os.environ.get("COMFYUI_PYTHON", sys.executable)
    done = subprocess.run([python, "-c", code], capture_output=True, check=False)
    return folder if done.returncode == 0 else None


@pytest.fixture(scope="session")
def base(
    comfyui_dir: Path,
    selva_dir: Path | None,
    vhs_dir: Path | None,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """A base directory for ComfyUI: packs, tiny models with random weights, a video."""
    base = tmp_path_factory.mktemp("comfyui")
    for name in ("custom_nodes", "input", "output", "user/default"):
        (base / name).mkdir(parents=True)
    ignore = shutil.ignore_patterns(".*", "__pycache__", "tests", "benchmarks", "node_modules")
    # A name with a dot: users choose the name.
    shutil.copytree(PACK, base / "custom_nodes" / "AudioX-v1.0", ignore=ignore)
    _ensure_bundled_model(base / "custom_nodes" / "AudioX-v1.0" / "audiox_ext" / "models" / DEFAULT_MODEL)
    for neighbour in (selva_dir, vhs_dir):
        if neighbour is not None:
            shutil.copytree(neighbour, base / "custom_nodes" / neighbour.name, ignore=ignore)
    (base / "custom_nodes" / "foreign_pack.py").write_text(FOREIGN_PACK)
    shutil.copy(Path(__file__).with_name("selva_stand_in.py"), base / "custom_nodes")
    _write_models(base / "models" / "audiox")
    _write_loras(base / "models" / "audiox", base / "models" / "loras")
    times = videos.frame_times(24 * VIDEO_SECONDS, 24)
    videos.write_video(
        base / "input" / "video.mp4", times, width=320, height=180, audio_seconds=VIDEO_SECONDS
    )
    example_inputs.write_inputs(base / "input")
    # Else the frontend opens its template chooser on the first visit.
    settings = {"Comfy.TutorialCompleted": True, "Comfy.Minimap.Visible": False}
    (base / "user" / "default" / "comfy.settings.json").write_text(json.dumps(settings))
    return base


def _ensure_bundled_model(folder: Path) -> None:
    """In a checkout without the weights of the pack's own model, write a tiny model of the same length."""
    from tools.random_checkpoint import write_tiny_checkpoint

    if not (folder / "model.safetensors").is_file():
        write_tiny_checkpoint(folder)
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | {"sample_size": 312 * 512}))


def _write_models(folder: Path) -> None:
    """Write the models of `MODELS`, and one whose licence is unknown."""
    from tools.random_checkpoint import write_tiny_checkpoint

    for name, kind in MODELS.items():
        write_tiny_checkpoint(folder / name, kind)
    shutil.copytree(folder / "tiny-turbo", folder / "tiny-nc")
    config = json.loads((folder / "tiny-nc" / "config.json").read_text())
    del config["license"]
    (folder / "tiny-nc" / "config.json").write_text(json.dumps(config))


def _write_loras(models: Path, folder: Path) -> None:
    """Write the files of `LORAS`."""
    from audiox_ext.checkpoints.lora_file import write_lora
    from audiox_ext.checkpoints.pretrained import get_pretrained_model

    (folder / "more").mkdir(parents=True)
    for name, kind, seed, info in LORAS:
        model, _ = get_pretrained_model(models / kind)
        lora = random_lora(model, seed, **info)
        write_lora(folder / f"{name}.safetensors", lora.layers, lora.info)
    _write_lora_methods(models / "tiny-mmdit", folder / "methods")


def _write_lora_methods(model: Path, folder: Path) -> None:
    """Write a file of every method that ComfyUI reads, each for a linear layer and a convolution."""
    from safetensors.torch import save_file

    from audiox_ext.checkpoints.pretrained import get_pretrained_model

    folder.mkdir()
    network = get_pretrained_model(model)[0].network
    layers = {
        "lora_unet_": "transformer.layers.0.attn.qkv",
        "diffusion_model.": "transformer.layers.1.ffn.w2",
    }
    for prefix, layer in layers.items():
        stem = prefix + (layer.replace(".", "_") if prefix.endswith("_") else layer)
        for method in MethodFiles(tuple(network.get_parameter(f"{layer}.weight").shape), axes=4):
            if method.is_in_comfyui:
                tensors = {f"{stem}.{end}": tensor.clone() for end, tensor in method.tensors.items()}
                # ComfyUI scales the change of the others twice, or not at all.
                metadata = {"strength": "0.7" if method.is_linear_in_comfyui else "1"}
                save_file(tensors, folder / f"{prefix}{method.name}.safetensors", metadata)


@pytest.fixture(scope="session")
def server(comfyui_dir: Path, base: Path) -> Iterator[ComfyServer]:
    """One server for all tests."""
    server = ComfyServer(comfyui_dir, base)
    try:
        server.start()
        yield server
    finally:
        server.stop()


@pytest.fixture
def example() -> Callable[..., Prompt]:
    """A function that returns the API form of an example, for a tiny model and few steps."""

    def build(name: str, model: str = "tiny-turbo", **sampler: object) -> Prompt:
        prompt: Prompt = json.loads((PACK / "examples" / "api" / f"{name}.json").read_text())
        for node in prompt.values():
            if node["class_type"] == "AudioXLoadModel":
                node["inputs"]["model"] = model
            if node["class_type"] == "AudioXSample":
                node["inputs"] |= {"steps": 3, "prompt": "rain"} | sampler
        return prompt

    return build
