#!/usr/bin/env python3
"""Queue a workflow in API form on a running ComfyUI, wait for it, and name the files it made.

    python examples/queue_prompt.py examples/api/text_to_audio.json \\
        --set 1.accept_cc_by_nc=true --set "2.prompt=A dog barks twice"

Values after --set are read as JSON where they are JSON, else as text. Standard library only. The exit status
is 0 after success, 1 when the server refused or failed the prompt (its message goes to standard error), 2 for
wrong usage.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

Prompt = dict[str, dict[str, Any]]


class FailedError(Exception):
    """The prompt did not come to a good end; the message is for the user."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument(
        "workflow", type=Path, help="a workflow in API form, such as examples/api/text_to_audio.json"
    )
    parser.add_argument(
        "--server", default="http://127.0.0.1:8188", help="address of ComfyUI (default: %(default)s)"
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NODE.INPUT=VALUE",
        help="replace an input's value; repeatable",
    )
    parser.add_argument("--timeout", type=float, default=3600, help="seconds to wait (default: %(default)s)")
    options = parser.parse_args(arguments)
    server = options.server.rstrip("/")
    server = server if "://" in server else f"http://{server}"
    try:
        prompt = read_prompt(options.workflow)
        for change in options.set:
            apply_change(prompt, change)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    try:
        for line in run(server, prompt, options.timeout):
            sys.stdout.write(line + "\n")
    except FailedError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


def read_prompt(path: Path) -> Prompt:
    """The prompt in a file. Raises ValueError when the file is not a workflow in API form."""
    try:
        prompt = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is not JSON: {error}") from None
    if isinstance(prompt, dict) and "nodes" in prompt:
        raise ValueError(
            f"{path} is a workflow for the editor. Use its API form, or export it with Export (API)."
        )
    if not isinstance(prompt, dict) or not all(
        isinstance(n, dict) and "class_type" in n for n in prompt.values()
    ):
        raise ValueError(f"{path} is not a workflow in API form.")
    return prompt


def apply_change(prompt: Prompt, change: str) -> None:
    """Apply one NODE.INPUT=VALUE. Raises ValueError when there is no such node or input."""
    target, equals, text = change.partition("=")
    node, dot, name = target.partition(".")
    if not (equals and dot and name):
        raise ValueError(f"--set {change}: write NODE.INPUT=VALUE, such as 2.prompt=Rain.")
    if node not in prompt:
        raise ValueError(f"--set {change}: there is no node {node}; the nodes are {', '.join(prompt)}.")
    inputs = prompt[node]["inputs"]
    if name not in inputs:
        raise ValueError(f"--set {change}: node {node} has no input {name}; it has {', '.join(inputs)}.")
    try:
        inputs[name] = json.loads(text)
    except json.JSONDecodeError:
        inputs[name] = text


def run(server: str, prompt: Prompt, timeout: float) -> Iterator[str]:
    """Queue the prompt and wait; yields one line for each file made. Raises `FailedError`."""
    answer = _json(server + "/prompt", {"prompt": prompt, "client_id": uuid.uuid4().hex})
    prompt_id = answer["prompt_id"]
    deadline = time.monotonic() + timeout
    while not (history := _json(f"{server}/history/{prompt_id}")):
        if time.monotonic() > deadline:
            raise FailedError(
                f"The prompt did not end within {timeout:g} s; it is still in the queue of {server}."
            )
        time.sleep(0.5)
    entry = history[prompt_id]
    if entry["status"]["status_str"] != "success":
        raise FailedError(_failure(entry["status"]["messages"]))
    for output in entry["outputs"].values():
        for files in output.values():
            for file in files:
                if isinstance(file, dict) and "filename" in file:
                    place = "/".join(
                        part for part in (file["type"], file["subfolder"], file["filename"]) if part
                    )
                    yield f"{place}  {server}/view?{urllib.parse.urlencode(file)}"


def _json(url: str, body: object = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data=data, headers={"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        raise FailedError(_refusal(error.read().decode(errors="replace"))) from None
    except (OSError, ValueError) as error:
        raise FailedError(f"ComfyUI does not answer at {url}: {error}. Is it running there?") from None


def _refusal(text: str) -> str:
    try:
        body = json.loads(text)
        lines = [body["error"]["message"]]
        for node, problem in body.get("node_errors", {}).items():
            for error in problem["errors"]:
                lines.append(
                    f"  node {node} ({problem['class_type']}): {error['message']}: {error['details']}"
                )
    except (ValueError, KeyError, TypeError):
        return f"ComfyUI refused the prompt: {text}"
    return "ComfyUI refused the prompt: " + "\n".join(lines)


def _failure(messages: list[list[Any]]) -> str:
    for kind, data in messages:
        if kind == "execution_error":
            return f"{data['node_type']} (node {data['node_id']}) failed: {data['exception_message'].strip()}"
        if kind == "execution_interrupted":
            return "The prompt was interrupted."
    return "The prompt failed without a message."


if __name__ == "__main__":
    sys.exit(main())
