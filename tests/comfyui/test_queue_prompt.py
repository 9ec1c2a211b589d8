"""Tests of examples/queue_prompt.py against a fake server; they need no ComfyUI."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from .comfy_server import PACK

SCRIPT = PACK / "examples" / "queue_prompt.py"
WORKFLOW = PACK / "examples" / "api" / "text_to_audio.json"
DONE = {
    "status": {"status_str": "success", "messages": []},
    "outputs": {"3": {"audio": [{"filename": "a b.flac", "subfolder": "audio", "type": "output"}]}},
}
PROBLEMS = {
    "9": {
        "class_type": "SaveVideo",
        "errors": [{"message": "Required input is missing", "details": "video"}],
    }
}


class FakeServer(ThreadingHTTPServer):
    """Responds with the (status, body) of the longest matching path prefix, and records its requests."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers: dict[str, tuple[int, bytes]] = {}
        self.cut_short = False
        self.requests: list[str] = []
        self.says("/prompt", {"prompt_id": "p1", "number": 0, "node_errors": {}})
        self.says("/history/p1", {"p1": DONE})

    @property
    def address(self) -> str:
        """http://host:port"""
        return f"http://127.0.0.1:{self.server_port}"

    def says(self, path: str, body: object, status: int = 200) -> None:
        """Set the response for a path; bytes are sent unchanged."""
        self.answers[path] = (status, body if isinstance(body, bytes) else json.dumps(body).encode())


class Handler(BaseHTTPRequestHandler):
    server: FakeServer

    def do_GET(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.requests.append(self.path)
        status, body = self.server.answers.get(self.path, (404, b"not found"))
        self.send_response(status)
        self.send_header("Content-Length", str(len(body) + 100 * self.server.cut_short))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET  # noqa: N815

    def log_message(self, *arguments: object) -> None:
        """Log nothing; the default writes to standard error."""


@pytest.fixture
def fake() -> Iterator[FakeServer]:
    """A server that accepts any prompt and finishes it at once."""
    server = FakeServer()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join(5)


@pytest.fixture(scope="module")
def script() -> ModuleType:
    """Import the script as a module."""
    spec = importlib.util.spec_from_file_location("queue_prompt", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


Queue = Callable[..., tuple[int, str, str]]


@pytest.fixture
def queue(script: ModuleType, fake: FakeServer, capsys: pytest.CaptureFixture[str]) -> Queue:
    """queue(*arguments, workflow, server): (exit status, standard output, standard error)."""

    def run(*arguments: str, workflow: Path = WORKFLOW, server: str = fake.address) -> tuple[int, str, str]:
        try:
            status = script.main([str(workflow), "--server", server, *arguments])
        except SystemExit as end:  # argparse
            status = int(end.code or 0)
        return status, *capsys.readouterr()

    return run


def test_files_are_named_with_their_address(queue: Queue, fake: FakeServer) -> None:
    status, out, err = queue()
    assert (status, err) == (0, "")
    place, url = out.rstrip("\n").split("  ")
    assert place == "output/audio/a b.flac"
    assert url == f"{fake.address}/view?filename=a+b.flac&subfolder=audio&type=output"


@pytest.mark.parametrize("suffix", ["", "/", "//"])
def test_the_address_may_lack_http_and_end_in_slashes(suffix: str, queue: Queue, fake: FakeServer) -> None:
    assert queue(server=f"127.0.0.1:{fake.server_port}{suffix}")[0] == 0


@pytest.mark.parametrize(
    "address",
    [
        "http://127.0.0.1:port",
        "127.0.0.1:99999",
        "ftp://127.0.0.1",
        "http://",
        "http://a b",
        "http://[::1",
        "",
    ],
)
def test_a_bad_address_is_wrong_usage(address: str, queue: Queue) -> None:
    status, _, err = queue(server=address)
    assert status == 2
    assert f"--server {address}" in err
    assert "http://127.0.0.1:8188" in err


@pytest.mark.parametrize("address", ["http://127.0.0.1:9", f"http://{'a' * 70}.invalid"])
def test_nobody_at_the_address(address: str, queue: Queue) -> None:
    status, _, err = queue(server=address)
    assert status == 1
    assert f"ComfyUI does not answer at {address}" in err


def test_an_answer_that_breaks_off(queue: Queue, fake: FakeServer) -> None:
    fake.cut_short = True
    status, _, err = queue()
    assert status == 1
    assert "does not answer" in err


@pytest.mark.parametrize("body", [{}, {"prompt_id": None}, ["p1"], b"<html>", b"\xff"])
def test_an_answer_that_is_not_comfyuis(body: object, queue: Queue, fake: FakeServer) -> None:
    fake.says("/prompt", body)
    status, _, err = queue()
    assert status == 1
    assert "is not ComfyUI" in err


@pytest.mark.parametrize("entry", [None, {}, {"status": None}, {**DONE, "outputs": []}])
def test_a_history_that_is_not_comfyuis(entry: object, queue: Queue, fake: FakeServer) -> None:
    fake.says("/history/p1", {"p1": entry})
    status, _, err = queue()
    assert status == 1
    assert "cannot be understood" in err


def test_a_prompt_of_which_a_part_was_left_out_has_failed(queue: Queue, fake: FakeServer) -> None:
    fake.says("/prompt", {"prompt_id": "p1", "node_errors": PROBLEMS})
    status, out, err = queue()
    assert status == 1
    assert out.startswith("output/audio/a b.flac"), "what was made is named all the same"
    assert "node 9 (SaveVideo): Required input is missing: video" in err


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"error": {"message": "No outputs"}, "node_errors": PROBLEMS}, "No outputs\n  node 9 (SaveVideo)"),
        ({"error": {"message": "No outputs"}, "node_errors": []}, "No outputs"),
        ({"error": {"message": "No outputs"}, "node_errors": {"9": "odd"}}, "odd"),
        ({"error": "plain"}, "plain"),
        (b"", "HTTP 400"),
    ],
)
def test_a_refusal_is_passed_on(body: object, words: str, queue: Queue, fake: FakeServer) -> None:
    fake.says("/prompt", body, status=400)
    status, _, err = queue()
    assert status == 1
    assert "refused the prompt" in err
    assert words in err


def test_a_failure_is_passed_on(queue: Queue, fake: FakeServer) -> None:
    data = {"node_type": "AudioXSample", "node_id": "2", "exception_message": "too loud\n"}
    status = {"status_str": "error", "messages": [["execution_start", {}], ["execution_error", data]]}
    fake.says("/history/p1", {"p1": {"status": status, "outputs": {}}})
    assert queue()[::2] == (1, "AudioXSample (node 2) failed: too loud\n")


def test_waiting_has_an_end(queue: Queue, fake: FakeServer) -> None:
    fake.says("/history/p1", {})
    status, _, err = queue("--timeout", "0")
    assert status == 1
    assert "did not end within 0 s" in err


@pytest.mark.parametrize("node", [{"class_type": "A"}, {"class_type": "A", "inputs": {}}])
def test_setting_an_input_of_a_node_without_any(node: object, queue: Queue, tmp_path: Path) -> None:
    workflow = tmp_path / "workflow.json"
    workflow.write_text(json.dumps({"1": node}))
    status, _, err = queue("--set", "1.seed=1", workflow=workflow)
    assert status == 2
    assert "node 1 has no input seed; it has none" in err


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_proxy_is_not_asked_for_this_machine(
    host: str, queue: Queue, fake: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert queue(server=f"http://{host}:{fake.server_port}")[0] == 0
    fake.requests.clear()
    monkeypatch.setenv("http_proxy", fake.address)
    queue(server="http://elsewhere.invalid")
    assert fake.requests == ["http://elsewhere.invalid/prompt"], "elsewhere it is"


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT for another process")
def test_ctrl_c_ends_without_a_traceback(fake: FakeServer) -> None:
    fake.says("/history/p1", {})
    command: list[Any] = [sys.executable, SCRIPT, WORKFLOW, "--server", fake.address]
    # A job in the background has Ctrl-C switched off, and so has all that it starts.
    heeding = None if os.name == "nt" else lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, preexec_fn=heeding)
    deadline = time.monotonic() + 60
    while "/history/p1" not in fake.requests and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in err
    assert "Stopped waiting" in err
