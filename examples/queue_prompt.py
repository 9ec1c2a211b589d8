#!/usr/bin/env python3
"""Queue a workflow in API form on a running ComfyUI, wait for it, and name the files it made.

    python examples/queue_prompt.py examples/api/text_to_audio.json \\
        --set 1.accept_cc_by_nc=true --set "2.prompt=A dog barks twice"

Values after --set are read as JSON where they are JSON, else as text. Standard library only. The exit status
is 0 after success, 1 when the server refused or failed the prompt or a part of it (its message goes to
standard error), 2 for wrong usage, 130 after Ctrl-C.
"""

from __future__ import annotations

import argparse
import http.client
import ipaddress
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
    try:
        server = read_address(options.server)
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
    except KeyboardInterrupt:
        sys.stderr.write("Stopped waiting; what is queued stays in ComfyUI's queue.\n")
        return 130
    return 0


def read_address(text: str) -> str:
    """The server's URL, without a slash at its end. Raises ValueError for what is no web address."""
    address = (text if "://" in text else f"http://{text}").rstrip("/")
    problem = ""
    try:
        parts = urllib.parse.urlsplit(address)
        _ = parts.port  # read only to have it checked
        if parts.scheme not in ("http", "https") or not parts.hostname:
            problem = "a host is missing, or it is not http"
        elif any(character.isspace() or not character.isprintable() for character in address):
            problem = "it holds spaces or control characters"
    except ValueError as error:
        problem = str(error)
    if problem:
        raise ValueError(f"--server {text}: {problem}. Write it like http://127.0.0.1:8188.")
    return address


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
    inputs = prompt[node].get("inputs")
    if not isinstance(inputs, dict) or name not in inputs:
        has = f"it has {', '.join(inputs)}" if isinstance(inputs, dict) and inputs else "it has none"
        raise ValueError(f"--set {change}: node {node} has no input {name}; {has}.")
    try:
        inputs[name] = json.loads(text)
    except json.JSONDecodeError:
        inputs[name] = text


def run(server: str, prompt: Prompt, timeout: float) -> Iterator[str]:
    """Queue the prompt and wait; yields one line for each file made.

    Raises `FailedError`, also when the server left out a part of the prompt; files of the rest come first.
    """
    answer = _json(server + "/prompt", {"prompt": prompt, "client_id": uuid.uuid4().hex})
    prompt_id = answer.get("prompt_id")
    if not isinstance(prompt_id, str):
        raise FailedError(f"What answers at {server} is not ComfyUI: it gave no prompt_id.")
    entry = _wait(server, prompt_id, timeout)
    try:
        status = entry["status"]
        if status["status_str"] != "success":
            raise FailedError(_failure(status["messages"]))
        files = list(_files(entry["outputs"]))
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise FailedError(f"{server} gave a history that cannot be understood ({error!r}).") from None
    for place, query in files:
        yield f"{place}  {server}/view?{query}"
    if answer.get("node_errors"):
        # The server runs the outputs that are sound and answers 200 all the same.
        raise FailedError(
            "A part of the prompt was left out:\n" + "\n".join(_complaints(answer["node_errors"]))
        )


def _wait(server: str, prompt_id: str, timeout: float) -> dict[str, Any]:
    """The history entry of a prompt that has ended in whatever way."""
    deadline = time.monotonic() + timeout
    while prompt_id not in (history := _json(f"{server}/history/{urllib.parse.quote(prompt_id, safe='')}")):
        if time.monotonic() > deadline:
            raise FailedError(
                f"The prompt did not end within {timeout:g} s; it is still in the queue of {server}."
            )
        time.sleep(0.5)
    return history[prompt_id]


def _files(outputs: dict[str, dict[str, Any]]) -> Iterator[tuple[str, str]]:
    """(folder and name, query for /view) of each file in a history's outputs."""
    for output in outputs.values():
        for values in output.values():
            for file in values if isinstance(values, list) else []:
                if isinstance(file, dict) and "filename" in file:
                    parts = (file.get("type"), file.get("subfolder"), file["filename"])
                    yield "/".join(part for part in parts if part), urllib.parse.urlencode(file)


def _json(url: str, body: object = None) -> dict[str, Any]:
    """The object that the server answers with. Raises `FailedError`."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data=data, headers={"Content-Type": "application/json"})
    try:
        with _opener(url).open(request, timeout=60) as answer:
            text = answer.read()
    except urllib.error.HTTPError as error:
        raise FailedError(_refusal(_rest_of(error), error.code)) from None
    except (OSError, http.client.HTTPException, ValueError) as error:  # ValueError: a host that cannot be one
        reason = str(error) or type(error).__name__
        raise FailedError(f"ComfyUI does not answer at {url}: {reason}. Is it running there?") from None
    try:
        found = json.loads(text)
    except ValueError:
        raise FailedError(f"What answers at {url} is not ComfyUI: it did not give JSON.") from None
    if not isinstance(found, dict):
        raise FailedError(f"What answers at {url} is not ComfyUI: it gave {type(found).__name__}.")
    return found


def _opener(url: str) -> urllib.request.OpenerDirector:
    """Goes past a proxy (http_proxy) to this machine: a proxy would look for ComfyUI on its own."""
    host = urllib.parse.urlsplit(url).hostname or ""
    try:
        own = ipaddress.ip_address(host).is_loopback
    except ValueError:
        own = host == "localhost" or host.endswith(".localhost")
    return urllib.request.build_opener(*([urllib.request.ProxyHandler({})] if own else []))


def _rest_of(error: urllib.error.HTTPError) -> str:
    try:
        return error.read().decode(errors="replace")
    except (OSError, http.client.HTTPException):
        return ""


def _refusal(text: str, code: int) -> str:
    """What an answer with an error status says."""
    try:
        body = json.loads(text)
        lines = [body["error"]["message"], *_complaints(body.get("node_errors") or {})]
        return "ComfyUI refused the prompt: " + "\n".join(lines)
    except (ValueError, KeyError, TypeError):
        return f"ComfyUI refused the prompt (HTTP {code}): {text.strip()[:1000] or 'no reason given'}"


def _complaints(node_errors: object) -> list[str]:
    """One line for each thing that the server found wrong with a node."""
    try:
        return [
            f"  node {node} ({problem['class_type']}): {error['message']}: {error['details']}"
            for node, problem in dict(node_errors).items()  # type: ignore[call-overload]
            for error in problem["errors"]
        ]
    except (KeyError, TypeError, ValueError):
        return [f"  {node_errors}"]


def _failure(messages: list[list[Any]]) -> str:
    for kind, data in messages:
        if kind == "execution_error":
            return f"{data['node_type']} (node {data['node_id']}) failed: {data['exception_message'].strip()}"
        if kind == "execution_interrupted":
            return "The prompt was interrupted."
    return "The prompt failed without a message."


if __name__ == "__main__":
    sys.exit(main())
