"""ComfyUI's entry point of the AudioX pack.

Importing this file does next to nothing: the nodes are imported when ComfyUI asks for them, the engine when
one of them runs, so tools that import the folder without ComfyUI (pytest, type checkers) come through
unharmed.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from comfy_api.latest import ComfyExtension

if (Path(__file__).parent / "web").is_dir():
    WEB_DIRECTORY = "./web"


async def comfy_entrypoint() -> ComfyExtension:
    """The pack's nodes, for ComfyUI 0.3.64 and newer."""
    from .nodes.extension import AudioXExtension

    return AudioXExtension()
