"""A real ComfyUI server for tests, in its own folder, used over HTTP and its websocket."""

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
    """The server refused a request; `body` is its response."""

    def __init__(self, body: dict[str, Any]) -> None:
        super().__init__(json.dumps(body, indent=1))
        self.body = body


@dataclass
class ComfyServer:
    """One server process.

    Attributes:
        comfy_dir: the ComfyUI checkout.
        base: contains custom_nodes, models, input, output and user.
        environment: additional environment variables.
        python: the interpreter.
        process: the running server.
        port: its port.
    """

    comfy_dir: Path
    base: Path
    environment: dict[str, str] = field(default_factory=dict)
    python: str = os.environ.get("COMFYUI_PYTHON", sys.executable)
    process: subprocess.Popen[bytes] | None = None
    port: int = 0

    @property
    def log(self) -> str:
        """The server's log so far."""
        return (self.base / "server.log").read_text(encoding="utf-8", errors="replace")

    @property
    def address(self) -> str:
        """host:port of the server."""
        return f"127.0.0.1:{self.port}"

    def start(self, timeout: float = 180) -> None:
        """Start the server and wait until it responds."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        arguments = [self.python, "main.py", "--cpu", "--listen", "127.0.0.1", "--port", str(self.port)]
        arguments += ["--base-directory", str(self.base), "--disable-api-nodes", "--disable-auto-launch"]
        # The default database is inside the ComfyUI checkout.
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
                raise AssertionError(f"ComfyUI exited while starting:\n{self.log[-4000:]}")
            try:
                self.get("/system_stats")
                return
            except OSError:
                time.sleep(0.2)
        raise AssertionError(f"ComfyUI did not respond within {timeout} s:\n{self.log[-4000:]}")

    def stop(self) -> None:
        """Stop the server."""
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def request(self, path: str, body: bytes | None = None, kind: str = "application/json") -> bytes:
        """Send a GET request, or POST if there is a body; raises `RefusedError` for an error status."""
        request = urllib.request.Request(
            f"http://{self.address}{path}", data=body, headers={"Content-Type": kind}
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as response:
                return response.read()
        except urllib.error.HTTPError as error:
            text = error.read().decode(errors="replace")
            try:
                raise RefusedError(json.loads(text)) from None
            except json.JSONDecodeError:
                raise RefusedError({"status": error.code, "text": text}) from None

    def get(self, path: str) -> Any:
        """Return the JSON at `path`."""
        return json.loads(self.request(path))

    def post(self, path: str, body: object) -> Any:
        """Send JSON; returns the JSON of the response, None if it is empty."""
        response = self.request(path, json.dumps(body).encode())
        return json.loads(response) if response else None

    def queue(self, prompt: Prompt, client_id: str = "") -> str:
        """Queue a prompt in API form; returns its id."""
        return self.post("/prompt", {"prompt": prompt, "client_id": client_id or uuid.uuid4().hex})[
            "prompt_id"
        ]

    def wait(self, prompt_id: str, timeout: float = 120) -> dict[str, Any]:
        """Wait until a prompt ends; returns its history entry."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            entry = self.get(f"/history/{prompt_id}").get(prompt_id)
            if entry is not None:
                return entry
            time.sleep(0.05)
        raise AssertionError(f"prompt {prompt_id} did not end within {timeout} s:\n{self.log[-4000:]}")

    def run(self, prompt: Prompt, timeout: float = 120) -> dict[str, Any]:
        """Queue a prompt and wait; fails with the server's message if the prompt fails."""
        entry = self.wait(self.queue(prompt), timeout)
        assert entry["status"]["status_str"] == "success", get_error(entry) + self.log[-3000:]
        return entry

    def fail(self, prompt: Prompt, timeout: float = 120) -> str:
        """Queue a prompt that must fail; returns its error message."""
        entry = self.wait(self.queue(prompt), timeout)
        assert entry["status"]["status_str"] == "error", "the prompt should have failed"
        return get_error(entry)

    def upload(self, path: Path) -> str:
        """Upload a file to the input folder; returns its name there."""
        boundary = uuid.uuid4().hex
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="image"; filename="{path.name}"\r\n\r\n'
        body = head.encode() + path.read_bytes() + f"\r\n--{boundary}--\r\n".encode()
        return json.loads(self.request("/upload/image", body, f"multipart/form-data; boundary={boundary}"))[
            "name"
        ]

    def view(self, file: dict[str, str]) -> bytes:
        """Download a file that a history entry lists."""
        return self.request("/view?" + urllib.parse.urlencode(file))

    @contextmanager
    def listen(self) -> Iterator[Listener]:
        """Receive the websocket messages of one client."""
        listener = Listener(self.address)
        try:
            yield listener
        finally:
            listener.close()


class Listener:
    """Receives the websocket messages of one client."""

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

    def wait_for(self, *kinds: str, timeout: float = 120) -> list[dict[str, Any]]:
        """Return all messages up to the first of one of these kinds."""
        messages: list[dict[str, Any]] = []
        deadline = time.monotonic() + timeout
        while not messages or messages[-1]["type"] not in kinds:
            messages.append(self.messages.get(timeout=max(0.1, deadline - time.monotonic())))
        return messages

    def take_messages(self) -> list[dict[str, Any]]:
        """Return and remove all messages that have arrived."""
        messages: list[dict[str, Any]] = []
        while not self.messages.empty():
            messages.append(self.messages.get())
        return messages

    def close(self) -> None:
        """Stop listening."""
        self._stop.set()
        self._thread.join(10)


def get_error(entry: dict[str, Any]) -> str:
    """Return the exception message in a history entry."""
    for kind, data in entry["status"]["messages"]:
        if kind == "execution_error":
            return data["exception_message"]
    return f"no error message in {entry['status']}"


def get_failed_node(entry: dict[str, Any]) -> str:
    """Return the type of the node that failed in a history entry; "" if none did."""
    errors = [data for kind, data in entry["status"]["messages"] if kind == "execution_error"]
    return errors[0]["node_type"] if errors else ""


def get_files(entry: dict[str, Any], kind: str = "audio") -> list[dict[str, str]]:
    """Return the files of a kind that a prompt saved."""
    return [file for output in entry["outputs"].values() for file in output.get(kind, [])]
