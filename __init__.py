"""ComfyUI's entry point for the AudioX pack.

This module imports no node until ComfyUI asks for the list of nodes, and no node imports the engine until it
runs. Tools without ComfyUI (pytest, type checkers) can therefore import the folder.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from comfy_api.latest import ComfyExtension

if (Path(__file__).parent / "web").is_dir():
    WEB_DIRECTORY = "./web"


async def comfy_entrypoint() -> ComfyExtension:
    """Return the pack's extension; ComfyUI 0.3.64 and newer call this."""
    from .nodes.extension import AudioXExtension

    return AudioXExtension()
