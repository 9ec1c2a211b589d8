"""A real ComfyUI server for tests: started in a folder of its own, spoken to over HTTP and its websocket."""

from __future__ import annotations

import asyncio
import json
import os
import queue
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PACK = Path(__file__).parents[2]
EXAMPLES = tuple(sorted(path.stem for path in (PACK / "examples").glob("*.json")))
VIDEO_SECONDS = 3  # of input/video.mp4

Prompt = dict[str, dict[str, Any]]


class RefusedError(AssertionError):
    """The server did not accept a prompt; `body` says why."""

    def __init__(self, body: dict[str, Any]) -> None:
        super().__init__(json.dumps(body, indent=1))
        self.body = body


@dataclass
class ComfyServer:
    """One server process. base holds custom_nodes, models, input, output and user."""

    comfy_dir: Path
    base: Path
    environment: dict[str, str] = field(default_factory=dict)
    python: str = os.environ.get("COMFYUI_PYTHON", sys.executable)
    process: subprocess.Popen[bytes] | None = None
    port: int = 0

    @property
    def log(self) -> str:
        """What the server has written so far."""
        return (self.base / "server.log").read_text(encoding="utf-8", errors="replace")

    @property
    def address(self) -> str:
        """host:port"""
        return f"127.0.0.1:{self.port}"

    def start(self, timeout: float = 180) -> None:
        """Start the server and wait until it answers."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        arguments = [self.python, "main.py", "--cpu", "--listen", "127.0.0.1", "--port", str(self.port)]
        arguments += ["--base-directory", str(self.base), "--disable-api-nodes", "--disable-auto-launch"]
        # Else the database would lie in the ComfyUI checkout.
        arguments += ["--database-url", f"sqlite:///{self.base}/user/comfyui.db"]
        environment = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONUNBUFFERED": "1", **self.environment}
        environment.pop("AUDIOX_ACCEPT_CC_BY_NC", None)
        with (self.base / "server.log").open("wb") as log:
            self.process = subprocess.Popen(
                arguments, cwd=self.comfy_dir, stdout=log, stderr=subprocess.STDOUT, env=environment
            )
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise AssertionError(f"ComfyUI ended while starting:\n{self.log[-4000:]}")
            try:
                self.get("/system_stats")
                return
            except OSError:
                time.sleep(0.2)
        raise AssertionError(f"ComfyUI did not answer within {timeout} s:\n{self.log[-4000:]}")

    def stop(self) -> None:
        """End the server."""
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def request(self, path: str, body: bytes | None = None, kind: str = "application/json") -> bytes:
        """GET, or POST when there is a body. Raises `RefusedError` for a 4xx answer."""
        request = urllib.request.Request(
            f"http://{self.address}{path}", data=body, headers={"Content-Type": kind}
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.read()
        except urllib.error.HTTPError as error:
            text = error.read().decode(errors="replace")
            try:
                raise RefusedError(json.loads(text)) from None
            except json.JSONDecodeError:
                raise RefusedError({"status": error.code, "text": text}) from None

    def get(self, path: str) -> Any:
        """The JSON at `path`."""
        return json.loads(self.request(path))

    def post(self, path: str, body: object) -> Any:
        """Send JSON; the JSON of the answer, None if it is empty."""
        answer = self.request(path, json.dumps(body).encode())
        return json.loads(answer) if answer else None

    def queue(self, prompt: Prompt, client_id: str = "") -> str:
        """Submit a prompt in API form; returns its id."""
        return self.post("/prompt", {"prompt": prompt, "client_id": client_id or uuid.uuid4().hex})[
            "prompt_id"
        ]

    def wait(self, prompt_id: str, timeout: float = 120) -> dict[str, Any]:
        """The history entry of a prompt, once it has ended in whatever way."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            entry = self.get(f"/history/{prompt_id}").get(prompt_id)
            if entry is not None:
                return entry
            time.sleep(0.05)
        raise AssertionError(f"prompt {prompt_id} did not end within {timeout} s:\n{self.log[-4000:]}")

    def run(self, prompt: Prompt, timeout: float = 120) -> dict[str, Any]:
        """Submit and wait; fails with the server's message if the prompt failed."""
        entry = self.wait(self.queue(prompt), timeout)
        assert entry["status"]["status_str"] == "success", error_of(entry) + self.log[-3000:]
        return entry

    def fail(self, prompt: Prompt, timeout: float = 120) -> str:
        """Submit, wait, and return the message of the failure."""
        entry = self.wait(self.queue(prompt), timeout)
        assert entry["status"]["status_str"] == "error", "the prompt should have failed"
        return error_of(entry)

    def upload(self, path: Path) -> str:
        """Put a file into the input folder over HTTP; returns its name there."""
        mark = uuid.uuid4().hex
        head = f'--{mark}\r\nContent-Disposition: form-data; name="image"; filename="{path.name}"\r\n\r\n'
        body = head.encode() + path.read_bytes() + f"\r\n--{mark}--\r\n".encode()
        return json.loads(self.request("/upload/image", body, f"multipart/form-data; boundary={mark}"))[
            "name"
        ]

    def view(self, file: dict[str, str]) -> bytes:
        """The contents of a file that /history names."""
        return self.request("/view?" + urllib.parse.urlencode(file))

    @contextmanager
    def listening(self) -> Iterator[Listener]:
        """Hear the websocket messages of one client."""
        listener = Listener(self.address)
        try:
            yield listener
        finally:
            listener.close()


class Listener:
    """Websocket messages of one client, in the order of arrival."""

    def __init__(self, address: str) -> None:
        self.client_id = uuid.uuid4().hex
        self.messages: queue.Queue[dict[str, Any]] = queue.Queue()
        self._open, self._stop = threading.Event(), threading.Event()
        url = f"http://{address}/ws?clientId={self.client_id}"
        self._thread = threading.Thread(target=lambda: asyncio.run(self._listen(url)), daemon=True)
        self._thread.start()
        assert self._open.wait(20), "the websocket did not open"

    async def _listen(self, url: str) -> None:
        import aiohttp

        async with aiohttp.ClientSession() as session, session.ws_connect(url) as socket_:
            self._open.set()
            while not self._stop.is_set():
                try:
                    message = await socket_.receive(timeout=0.1)
                except asyncio.TimeoutError:
                    continue
                if message.type == aiohttp.WSMsgType.TEXT:
                    self.messages.put(json.loads(message.data))
                elif message.type in (aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.ERROR):
                    return

    def until(self, *kinds: str, timeout: float = 120) -> list[dict[str, Any]]:
        """All messages up to the first of one of these kinds."""
        heard: list[dict[str, Any]] = []
        deadline = time.monotonic() + timeout
        while not heard or heard[-1]["type"] not in kinds:
            heard.append(self.messages.get(timeout=max(0.1, deadline - time.monotonic())))
        return heard

    def heard(self) -> list[dict[str, Any]]:
        """All messages that have arrived since they were last asked for."""
        arrived: list[dict[str, Any]] = []
        while not self.messages.empty():
            arrived.append(self.messages.get())
        return arrived

    def close(self) -> None:
        """Stop listening."""
        self._stop.set()
        self._thread.join(10)


def error_of(entry: dict[str, Any]) -> str:
    """The exception message in a history entry."""
    for kind, data in entry["status"]["messages"]:
        if kind == "execution_error":
            return data["exception_message"]
    return f"no error message in {entry['status']}"


def files_of(entry: dict[str, Any], kind: str = "audio") -> list[dict[str, str]]:
    """The files of a kind that a finished prompt has saved."""
    return [file for output in entry["outputs"].values() for file in output.get(kind, [])]
