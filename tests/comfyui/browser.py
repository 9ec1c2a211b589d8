"""ComfyUI's frontend in a headless Chromium, through Playwright.

Uses $CHROMIUM or a browser on the path, not a browser that Playwright downloads.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Page

READY = "window.app?.graph && app.canvas && 'AudioXSample' in LiteGraph.registered_node_types"
_NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome", "microsoft-edge")
_OPTIONS = ["--no-sandbox", "--disable-gpu", "--enable-unsafe-swiftshader", "--disable-dev-shm-usage"]


def find_missing_part() -> str | None:
    """Say what is missing to open a page, or return None."""
    if find_spec("playwright") is None:
        return "NO PLAYWRIGHT: install the package playwright"
    if find_browser() is None:
        return "NO CHROMIUM: install it or set CHROMIUM to its path"
    return None


def find_browser() -> str | None:
    """Find $CHROMIUM or a Chromium-based browser on the path."""
    return os.environ.get("CHROMIUM") or next((path for name in _NAMES if (path := shutil.which(name))), None)


@contextmanager
def open_frontend(
    address: str, *, width: int = 2400, height: int = 1200, scale: float = 1, timeout: float = 120
) -> Iterator[Page]:
    """Open ComfyUI's frontend in a new browser profile and wait until the pack's nodes are registered.

    Args:
        address: host:port of the server.
        width: of the page, in CSS pixels.
        height: of the page, in CSS pixels.
        scale: screen pixels per CSS pixel.
        timeout: seconds to wait.
    """
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_browser(), args=_OPTIONS)
        try:
            page = browser.new_page(viewport={"width": width, "height": height}, device_scale_factor=scale)
            page.set_default_timeout(timeout * 1000)
            page.goto(f"http://{address}/", wait_until="commit")
            page.wait_for_function(READY)
            yield page
        finally:
            browser.close()
