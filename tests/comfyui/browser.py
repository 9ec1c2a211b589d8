"""Just enough of the Chrome DevTools protocol to open ComfyUI's frontend in a headless Chromium."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

_NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome", "microsoft-edge")


def find_browser() -> str | None:
    """$CHROMIUM, or a browser of Chromium's family on the path."""
    return os.environ.get("CHROMIUM") or next((path for name in _NAMES if (path := shutil.which(name))), None)


class Page:
    """One page of the browser. Create it with `open_page`."""

    def __init__(self, socket: Any) -> None:
        self._socket = socket
        self._number = 0
        self.problems: list[str] = []

    async def command(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send one command and wait for its result; uncaught exceptions met meanwhile go to `problems`."""
        self._number += 1
        await self._socket.send_json({"id": self._number, "method": method, "params": parameters})
        while True:
            message = await self._socket.receive_json(timeout=60)
            if message.get("method") == "Runtime.exceptionThrown":
                details = message["params"]["exceptionDetails"]
                self.problems.append(details.get("exception", {}).get("description") or details["text"])
            if message.get("id") == self._number:
                if "error" in message:
                    raise AssertionError(f"{method}: {message['error']}")
                return message["result"]

    async def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression; promises are waited for."""
        result = await self.command(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True
        )
        if "exceptionDetails" in result:
            raise AssertionError(f"{expression}: {result['exceptionDetails']}")
        return result["result"].get("value")

    async def until(self, expression: str, timeout: float = 60) -> None:
        """Wait until an expression is true."""
        for _ in range(round(timeout * 5)):
            if await self.evaluate(f"Boolean({expression})"):
                return
            await asyncio.sleep(0.2)
        raise AssertionError(f"not true within {timeout} s: {expression}")

    async def screenshot(self, path: Path) -> None:
        """Write a PNG of what is visible."""
        picture = await self.command("Page.captureScreenshot", format="png")
        path.write_bytes(base64.b64decode(picture["data"]))


@asynccontextmanager
async def open_page(browser: str, url: str) -> AsyncIterator[Page]:
    """A page of 2400 x 1200 pixels at `url`, in a browser with a fresh profile."""
    import aiohttp

    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        arguments = ["--headless=new", "--no-sandbox", "--disable-gpu", "--enable-unsafe-swiftshader"]
        arguments += [
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--window-size=2400,1200",
            "--force-device-scale-factor=1",
        ]
        arguments += ["--remote-debugging-port=0", f"--user-data-dir={profile}", "about:blank"]
        process = subprocess.Popen(
            [browser, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            port = await _debugging_port(Path(profile), process)
            async with aiohttp.ClientSession() as session:
                async with session.get(f"http://127.0.0.1:{port}/json/list") as answer:
                    targets = json.loads(await answer.text())
                address = next(t["webSocketDebuggerUrl"] for t in targets if t["type"] == "page")
                async with session.ws_connect(address, max_msg_size=0) as socket:
                    page = Page(socket)
                    await page.command("Runtime.enable")
                    await page.command("Page.enable")
                    await page.command("Page.navigate", url=url)
                    yield page
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


async def _debugging_port(profile: Path, process: subprocess.Popen[bytes]) -> int:
    file = profile / "DevToolsActivePort"
    for _ in range(300):
        if process.poll() is not None:
            raise AssertionError(f"the browser ended at once with status {process.returncode}")
        if file.exists() and (found := re.match(r"\d+\n", file.read_text())):
            return int(found.group())
        await asyncio.sleep(0.1)
    raise AssertionError("the browser opened no debugging port within 30 s")
