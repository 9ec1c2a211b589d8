"""Pictures of the pack in ComfyUI's own editor, for the help pages and the README.

`python -m tools.screenshots` starts a ComfyUI with this pack in a temporary folder, opens it in a headless
Chromium ($CHROMIUM, or one on the path), puts each node alone on an empty canvas and writes its picture to
web/docs/images. With `--help-panels FOLDER` it writes what the help panel shows instead, to be looked at;
with `--workflow examples/NAME.json PICTURE` the picture of a workflow.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import io
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from PIL import Image

from tests.comfyui.browser import Page, find_browser, open_page
from tests.comfyui.comfy_server import ComfyServer

from .drawings import write_film

ROOT = Path(__file__).parents[1]
PICTURES = ROOT / "web" / "docs" / "images"
FOLDER = "audiox"  # without a dot: the editor finds no help pages of a pack whose folder has one
MARGIN = 10  # pixels of the screen around a node
SETTINGS = {
    "Comfy.TutorialCompleted": True,  # else the template chooser lies over everything
    "Comfy.Minimap.Visible": False,
    "Comfy.NodeBadge.NodeSourceBadgeMode": "None",
    "Comfy.Graph.CanvasInfo": False,
}

READY = "window.app?.graph && app.canvas && 'AudioXSample' in LiteGraph.registered_node_types"
ALONE = """((type) => {
    app.graph.clear();
    app.nodeOutputs = {};  // else a node shows what an earlier one with its number has shown
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
# Left, top, width and height on the page.
PLACE = """((nodes) => {
    const canvas = app.canvas.canvas.getBoundingClientRect(), {scale, offset} = app.canvas.ds;
    const [left, top, right, bottom] = around(nodes);
    return [canvas.left + (left + offset[0]) * scale, canvas.top + (top + offset[1]) * scale,
        (right - left) * scale, (bottom - top) * scale];
})"""
PANEL = "document.querySelector('.node-help-content')"


@contextmanager
def comfyui(checkout: Path) -> Iterator[ComfyServer]:
    """A server with this pack alone, without models, with a video and a LoRA to choose."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        base = Path(folder)
        for name in ("custom_nodes", "input", "output", "user/default", "models/loras"):
            (base / name).mkdir(parents=True)
        (base / "models" / "loras" / "my_sound.safetensors").touch()  # to be chosen, not to be read
        unwanted = shutil.ignore_patterns(".*", "__pycache__", "tests", "demo_output")
        shutil.copytree(ROOT, base / "custom_nodes" / FOLDER, ignore=unwanted)
        write_film(base / "input" / "video.mp4")  # as the examples call it
        (base / "user" / "default" / "comfy.settings.json").write_text(json.dumps(SETTINGS))
        server = ComfyServer(checkout, base)
        try:
            server.start(600)
            yield server
        finally:
            server.stop()


async def shoot(page: Page, place: Sequence[float], *, margin: float = MARGIN) -> Image.Image:
    """What is at `place` (left, top, width, height) of the page, twice as fine as on the screen."""
    left, top, width, height = place
    clip = {"x": left - margin, "y": top - margin, "width": width + 2 * margin, "height": height + 2 * margin}
    shot = await page.command("Page.captureScreenshot", format="png", clip={**clip, "scale": 1})
    return Image.open(io.BytesIO(base64.b64decode(shot["data"]))).convert("RGB")


def save(picture: Image.Image, file: Path) -> None:
    """A small file: a .jpg, or a .png of 128 colours."""
    file.parent.mkdir(parents=True, exist_ok=True)
    if file.suffix == ".jpg":
        picture.save(file, quality=85, optimize=True)
    else:
        few = picture.quantize(128, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
        few.save(file, optimize=True)
    print(f"{file}: {picture.width} x {picture.height}, {file.stat().st_size / 1000:.0f} kB")


async def shoot_node(page: Page, node: str, folder: Path) -> None:
    """One node, as it is when it is new."""
    await page.evaluate(f"{ALONE}({json.dumps(node)})")
    await asyncio.sleep(1)  # text fields take their place a little later
    save(
        await shoot(page, await page.evaluate(f"{PLACE}(app.graph._nodes.slice(0, 1))")),
        folder / f"{node}.png",
    )


async def shoot_panel(page: Page, node: str, folder: Path) -> None:
    """The help panel of one node, opened with the button that a user presses."""
    await page.evaluate(f"{ALONE}({json.dumps(node)})")
    await page.evaluate("app.canvas.selectNode(app.graph._nodes[0])")
    await page.until("document.querySelector('[data-testid=info-button]')")
    await page.evaluate("document.querySelector('[data-testid=info-button]').click()")
    await page.until(
        f"{PANEL}?.querySelector('h1') && [...{PANEL}.querySelectorAll('img')].every((i) => i.complete)"
    )
    await asyncio.sleep(1)
    place = await page.evaluate(
        f"(({{left, top, width, height}}) => [left, top, width, height])({PANEL}.getBoundingClientRect())"
    )
    save(await shoot(page, place, margin=0), folder / f"{node}.png")


async def shoot_workflow(page: Page, workflow: Path, picture: Path) -> None:
    """A whole workflow."""
    await page.evaluate(f"app.loadGraphData({workflow.read_text(encoding='utf-8')}).then(() => true)")
    await page.evaluate(FIT)
    await asyncio.sleep(3)  # the video's preview
    save(
        await shoot(page, await page.evaluate(f"{PLACE}([...app.graph._nodes, ...app.graph._groups])")),
        picture,
    )


async def look(server: ComfyServer, browser: str, arguments: argparse.Namespace) -> None:
    """Take the pictures that are asked for."""
    nodes = [name for name in server.get("/object_info") if name.startswith("AudioX")]
    async with open_page(browser, f"http://{server.address}/") as page:
        size = {"width": 1800, "height": 3000 if arguments.help_panels else 1300}
        await page.command("Emulation.setDeviceMetricsOverride", **size, deviceScaleFactor=2, mobile=False)
        await page.until(READY, 120)
        await page.evaluate(AROUND)
        await asyncio.sleep(2)
        if arguments.workflow:
            await shoot_workflow(page, *arguments.workflow)
            return
        for node in arguments.nodes or nodes:
            if arguments.help_panels:
                await shoot_panel(page, node, arguments.help_panels)
            else:
                await shoot_node(page, node, PICTURES)


def main() -> None:
    """Take the pictures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("nodes", nargs="*", help="ids of nodes (default: all)")
    parser.add_argument("--help-panels", type=Path, metavar="FOLDER", help="help panels instead of nodes")
    parser.add_argument("--workflow", type=Path, nargs=2, metavar=("WORKFLOW", "PICTURE"), help="a workflow")
    checkout = Path(os.environ.get("COMFYUI_DIR") or Path.home() / "ComfyUI")
    parser.add_argument("--comfyui", type=Path, default=checkout, help="the checkout (default: %(default)s)")
    arguments = parser.parse_args()
    browser = find_browser()
    if browser is None:
        parser.error("There is no Chromium: install it, or name it in CHROMIUM.")
    with comfyui(arguments.comfyui) as server:
        asyncio.run(look(server, browser, arguments))


if __name__ == "__main__":
    main()
