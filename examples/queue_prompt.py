#!/usr/bin/env python3
"""Queue a workflow in API form on a running ComfyUI, wait for it, and list the files it wrote.

    python examples/queue_prompt.py examples/api/text_to_audio.json --set "2.prompt=A dog barks twice"

Values after --set are read as JSON if possible, else as text. Uses the standard library only. Exit status:
0 for success; 1 if the server refused the prompt, or it failed in whole or in part (standard error has the
message); 2 for wrong usage; 130 after Ctrl-C.
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
    """The prompt was refused or failed; the message is for the user."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: the command line; None for the program's own.

    Returns:
        The exit status.
    """
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
        sys.stderr.write("Stopped waiting. The prompt stays in ComfyUI's queue.\n")
        return 130
    return 0


def read_address(text: str) -> str:
    """Read the server's address.

    Args:
        text: a URL, or host:port.

    Returns:
        A URL without a slash at its end.

    Raises:
        ValueError: the text is not a web address.
    """
    address = (text if "://" in text else f"http://{text}").rstrip("/")
    problem = ""
    try:
        parts = urllib.parse.urlsplit(address)
        _ = parts.port  # reading it checks it
        if parts.scheme not in ("http", "https") or not parts.hostname:
            problem = "the host is missing, or the scheme is not http"
        elif any(character.isspace() or not character.isprintable() for character in address):
            problem = "it contains spaces or control characters"
    except ValueError as error:
        problem = str(error)
    if problem:
        raise ValueError(f"--server {text}: {problem}. Write, for example, http://127.0.0.1:8188.")
    return address


def read_prompt(path: Path) -> Prompt:
    """Read a workflow in API form.

    Args:
        path: the file.

    Raises:
        OSError: the file cannot be read.
        ValueError: the file is not a workflow in API form.
    """
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
        raise ValueError(f"{path} is not a workflow in API form. Export one with Export (API).")
    return prompt


def apply_change(prompt: Prompt, change: str) -> None:
    """Apply one --set option.

    Args:
        prompt: changed in place.
        change: NODE.INPUT=VALUE.

    Raises:
        ValueError: the form is wrong, or the prompt has no such node or input.
    """
    target, equals, text = change.partition("=")
    node, dot, name = target.partition(".")
    if not (equals and dot and name):
        raise ValueError(f"--set {change}: write NODE.INPUT=VALUE, such as 2.prompt=Rain.")
    if node not in prompt:
        raise ValueError(f"--set {change}: there is no node {node}; the nodes are {', '.join(prompt)}.")
    inputs = prompt[node].get("inputs")
    if not isinstance(inputs, dict) or name not in inputs:
        choices = f"it has {', '.join(inputs)}" if isinstance(inputs, dict) and inputs else "it has none"
        raise ValueError(f"--set {change}: node {node} has no input {name}; {choices}.")
    try:
        inputs[name] = json.loads(text)
    except json.JSONDecodeError:
        inputs[name] = text


def run(server: str, prompt: Prompt, timeout: float) -> Iterator[str]:
    """Queue a prompt and wait until it ends.

    Args:
        server: ComfyUI's URL.
        prompt: the workflow in API form.
        timeout: seconds to wait.

    Yields:
        One line per file that the prompt wrote.

    Raises:
        FailedError: the prompt was refused or failed, or the server skipped a part of it; the files of the
            other parts are yielded first.
    """
    response = _request_json(server + "/prompt", {"prompt": prompt, "client_id": uuid.uuid4().hex})
    prompt_id = response.get("prompt_id")
    if not isinstance(prompt_id, str):
        raise FailedError(f"The server at {server} is not ComfyUI: its response has no prompt_id.")
    entry = _wait(server, prompt_id, timeout)
    try:
        status = entry["status"]
        if status["status_str"] != "success":
            raise FailedError(_describe_failure(status["messages"]))
        files = list(_list_files(entry["outputs"]))
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise FailedError(f"The history from {server} cannot be understood ({error!r}).") from None
    for name, query in files:
        yield f"{name}  {server}/view?{query}"
    if response.get("node_errors"):
        # The server runs the valid outputs and responds with status 200 all the same.
        raise FailedError(
            "The server skipped a part of the prompt:\n"
            + "\n".join(_describe_node_errors(response["node_errors"]))
        )


def _wait(server: str, prompt_id: str, timeout: float) -> dict[str, Any]:
    """Wait until a prompt ends, and return its history entry."""
    deadline = time.monotonic() + timeout
    while prompt_id not in (
        history := _request_json(f"{server}/history/{urllib.parse.quote(prompt_id, safe='')}")
    ):
        if time.monotonic() > deadline:
            raise FailedError(
                f"The prompt did not end within {timeout:g} s; it is still in the queue of {server}."
            )
        time.sleep(0.5)
    return history[prompt_id]


def _list_files(outputs: dict[str, dict[str, Any]]) -> Iterator[tuple[str, str]]:
    """List (folder and name, query for /view) of each file in a history entry's outputs."""
    for output in outputs.values():
        for values in output.values():
            for file in values if isinstance(values, list) else []:
                if isinstance(file, dict) and "filename" in file:
                    parts = (file.get("type"), file.get("subfolder"), file["filename"])
                    yield "/".join(part for part in parts if part), urllib.parse.urlencode(file)


def _request_json(url: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    """Send a request and return the JSON object of the response, or raise `FailedError`."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data=data, headers={"Content-Type": "application/json"})
    try:
        with _choose_opener(url).open(request, timeout=60) as response:
            text = response.read()
    except urllib.error.HTTPError as error:
        raise FailedError(_describe_refusal(_read_body(error), error.code)) from None
    except (OSError, http.client.HTTPException, ValueError) as error:  # ValueError: an impossible host name
        reason = str(error) or type(error).__name__
        raise FailedError(f"ComfyUI does not answer at {url}: {reason}. Is it running there?") from None
    try:
        content = json.loads(text)
    except ValueError:
        raise FailedError(f"The server at {url} is not ComfyUI: its response is not JSON.") from None
    if not isinstance(content, dict):
        kind = type(content).__name__
        raise FailedError(f"The server at {url} is not ComfyUI: its response is {kind}, not an object.")
    return content


def _choose_opener(url: str) -> urllib.request.OpenerDirector:
    """Bypass a proxy (http_proxy) for this machine: the proxy would look for ComfyUI on its own host."""
    host = urllib.parse.urlsplit(url).hostname or ""
    try:
        is_local = ipaddress.ip_address(host).is_loopback
    except ValueError:
        is_local = host == "localhost" or host.endswith(".localhost")
    return urllib.request.build_opener(*([urllib.request.ProxyHandler({})] if is_local else []))


def _read_body(error: urllib.error.HTTPError) -> str:
    """Read the text of an error response; empty if the connection broke."""
    try:
        return error.read().decode(errors="replace")
    except (OSError, http.client.HTTPException):
        return ""


def _describe_refusal(text: str, code: int) -> str:
    """Describe a response with an error status."""
    try:
        body = json.loads(text)
        lines = [body["error"]["message"], *_describe_node_errors(body.get("node_errors") or {})]
        return "ComfyUI refused the prompt: " + "\n".join(lines)
    except (ValueError, KeyError, TypeError):
        return f"ComfyUI refused the prompt (HTTP {code}): {text.strip()[:1000] or 'no reason given'}"


def _describe_node_errors(node_errors: dict[str, Any]) -> list[str]:
    """Describe each error in one line."""
    try:
        return [
            f"  node {node} ({problem['class_type']}): {error['message']}: {error['details']}"
            for node, problem in dict(node_errors).items()
            for error in problem["errors"]
        ]
    except (KeyError, TypeError, ValueError):
        return [f"  {node_errors}"]


def _describe_failure(messages: list[list[Any]]) -> str:
    """Describe how a prompt ended."""
    for kind, data in messages:
        if kind == "execution_error":
            return f"{data['node_type']} (node {data['node_id']}) failed: {data['exception_message'].strip()}"
        if kind == "execution_interrupted":
            return "The prompt was interrupted."
    return "The prompt failed without a message."


if __name__ == "__main__":
    sys.exit(main())
