"""Screenshots of the nodes in ComfyUI's editor, for the help pages and the README.

`python -m tools.screenshots` starts a ComfyUI with this pack in a temporary folder and opens it in a headless
Chromium ($CHROMIUM, or one on the path). It puts each node alone on an empty canvas and writes its picture to
web/docs/images. With `--help-panels FOLDER` it takes pictures of the help panels instead, for proofreading;
with `--workflow examples/NAME.json PICTURE` a picture of a workflow.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from tests.comfyui.browser import find_missing_part, open_frontend
from tests.comfyui.comfy_server import ComfyServer

from .drawings import write_film

if TYPE_CHECKING:
    from playwright.sync_api import Page

ROOT = Path(__file__).parents[1]
PICTURES = ROOT / "web" / "docs" / "images"
FOLDER = "audiox"  # no dot: the editor finds no help pages if the folder's name has one
MARGIN = 10  # pixels of the screen around a node
SETTINGS = {
    "Comfy.TutorialCompleted": True,  # hides the template chooser
    "Comfy.Minimap.Visible": False,
    "Comfy.NodeBadge.NodeSourceBadgeMode": "None",
    "Comfy.Graph.CanvasInfo": False,
}

ALONE = """((type) => {
    app.graph.clear();
    app.nodeOutputs = {};  // else a node shows the output of an earlier one with its number
    app.canvas.background_image = null;
    const node = LiteGraph.createNode(type);
    app.graph.add(node);
    node.pos = [0, 0];
    app.canvas.ds.scale = 1;
    app.canvas.ds.offset = [340, 200];
    app.canvas.setDirty(true, true);
})"""
FIT = """(() => {
    const [left, top, right, bottom] = around([...app.graph._nodes, ...app.graph._groups]);
    app.canvas.background_image = null;
    app.canvas.ds.fitToBounds([left, top, right - left, bottom - top]);
    app.canvas.setDirty(true, true);
})()"""
AROUND = """window.around = (nodes) => [0, 1, 2, 3].map((side) => {
    const edges = nodes.map(({boundingRect: box}) => box[side % 2] + (side > 1 ? box[side] : 0));
    return side > 1 ? Math.max(...edges) : Math.min(...edges);
})"""
# Left, top, width and height of nodes on the page, in pixels.
BOX = """((nodes) => {
    const canvas = app.canvas.canvas.getBoundingClientRect(), {scale, offset} = app.canvas.ds;
    const [left, top, right, bottom] = around(nodes);
    return [canvas.left + (left + offset[0]) * scale, canvas.top + (top + offset[1]) * scale,
        (right - left) * scale, (bottom - top) * scale];
})"""
PANEL = "document.querySelector('.node-help-content')"


@contextmanager
def start_comfyui(checkout: Path) -> Iterator[ComfyServer]:
    """Run a server with this pack alone, without models, with a video and a LoRA to choose.

    Args:
        checkout: the ComfyUI checkout.
    """
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        base = Path(folder)
        for name in ("custom_nodes", "input", "output", "user/default", "models/loras"):
            (base / name).mkdir(parents=True)
        (base / "models" / "loras" / "my_sound.safetensors").touch()  # it is listed, but never read
        ignore = shutil.ignore_patterns(".*", "__pycache__", "tests", "demo_output")
        shutil.copytree(ROOT, base / "custom_nodes" / FOLDER, ignore=ignore)
        write_film(base / "input" / "video.mp4")  # the name that the examples use
        (base / "user" / "default" / "comfy.settings.json").write_text(json.dumps(SETTINGS))
        server = ComfyServer(checkout, base)
        try:
            server.start(600)
            yield server
        finally:
            server.stop()


def capture(page: Page, box: Sequence[float], *, margin: float = MARGIN) -> Image.Image:
    """Take a picture of a part of the page.

    Args:
        page: the open editor.
        box: left, top, width and height in CSS pixels.
        margin: CSS pixels to add on each side.
    """
    left, top, width, height = box
    png = page.screenshot(
        clip={
            "x": left - margin,
            "y": top - margin,
            "width": width + 2 * margin,
            "height": height + 2 * margin,
        }
    )
    return Image.open(io.BytesIO(png)).convert("RGB")


def save(picture: Image.Image, file: Path) -> None:
    """Write a small picture file.

    Args:
        picture: the picture to write.
        file: a .jpg, or a .png, which gets 128 colours.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    if file.suffix == ".jpg":
        picture.save(file, quality=85, optimize=True)
    else:
        palette_picture = picture.quantize(128, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
        palette_picture.save(file, optimize=True)
    print(f"{file}: {picture.width} x {picture.height}, {file.stat().st_size / 1000:.0f} kB")


def capture_node(page: Page, node: str, folder: Path) -> None:
    """Take a picture of a newly added node.

    Args:
        page: the open editor.
        node: the node's id.
        folder: folder for the picture.
    """
    page.evaluate(f"{ALONE}({json.dumps(node)})")
    page.wait_for_timeout(1000)  # text fields move into place a little later
    save(capture(page, page.evaluate(f"{BOX}(app.graph._nodes.slice(0, 1))")), folder / f"{node}.png")


def capture_help_panel(page: Page, node: str, folder: Path) -> None:
    """Take a picture of a node's help panel, opened with its button.

    Args:
        page: the open editor.
        node: the node's id.
        folder: folder for the picture.
    """
    page.evaluate(f"{ALONE}({json.dumps(node)})")
    page.evaluate("app.canvas.selectNode(app.graph._nodes[0])")
    page.wait_for_function("document.querySelector('[data-testid=info-button]')")
    page.evaluate("document.querySelector('[data-testid=info-button]').click()")
    page.wait_for_function(
        f"{PANEL}?.querySelector('h1') && [...{PANEL}.querySelectorAll('img')].every((i) => i.complete)"
    )
    page.wait_for_timeout(1000)
    box = page.evaluate(
        f"(({{left, top, width, height}}) => [left, top, width, height])({PANEL}.getBoundingClientRect())"
    )
    save(capture(page, box, margin=0), folder / f"{node}.png")


def capture_workflow(page: Page, workflow: Path, picture: Path) -> None:
    """Take a picture of a whole workflow.

    Args:
        page: the open editor.
        workflow: a workflow in the editor's form.
        picture: the file to write.
    """
    page.evaluate(f"app.loadGraphData({workflow.read_text(encoding='utf-8')}).then(() => true)")
    page.evaluate(FIT)
    page.wait_for_timeout(3000)  # the video's preview
    save(capture(page, page.evaluate(f"{BOX}([...app.graph._nodes, ...app.graph._groups])")), picture)


def capture_all(server: ComfyServer, arguments: argparse.Namespace) -> None:
    """Take the requested pictures.

    Args:
        server: the running ComfyUI.
        arguments: the command line.
    """
    nodes = [name for name in server.get("/object_info") if name.startswith("AudioX")]
    height = 3000 if arguments.help_panels else 1300
    with open_frontend(server.address, width=1800, height=height, scale=2) as page:
        page.evaluate(f"void ({AROUND})")
        page.wait_for_timeout(2000)
        if arguments.workflow:
            capture_workflow(page, *arguments.workflow)
            return
        for node in arguments.nodes or nodes:
            if arguments.help_panels:
                capture_help_panel(page, node, arguments.help_panels)
            else:
                capture_node(page, node, PICTURES)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("nodes", nargs="*", help="ids of nodes (default: all)")
    parser.add_argument("--help-panels", type=Path, metavar="FOLDER", help="help panels instead of nodes")
    parser.add_argument("--workflow", type=Path, nargs=2, metavar=("WORKFLOW", "PICTURE"), help="a workflow")
    checkout = Path(os.environ.get("COMFYUI_DIR") or Path.home() / "ComfyUI")
    parser.add_argument("--comfyui", type=Path, default=checkout, help="the checkout (default: %(default)s)")
    arguments = parser.parse_args()
    missing = find_missing_part()
    if missing:
        parser.error(missing)
    with start_comfyui(arguments.comfyui) as server:
        capture_all(server, arguments)


if __name__ == "__main__":
    main()
