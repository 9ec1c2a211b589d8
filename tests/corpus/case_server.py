"""Runs bad inputs, each in a copy of this process, and measures what they cost. Needs Linux.

    python case_server.py FOLDER [COMFYUI BASE PACK | --self | --mutations]

FOLDER takes the files of the cases. With the other arguments it runs the cases of the nodes, in ComfyUI's
own process. Each line of stdin is the number of a case; the answer is a line of JSON, see `run_in_copy`.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import select
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
LONGEST = 15.0  # seconds until a case is killed; the time that it may take is of the processor's clock
LONGEST_OF_ITSELF = 8.0


def main() -> None:
    """Answer requests until stdin ends."""
    answers, requests = os.fdopen(os.dup(1), "w"), os.fdopen(os.dup(0), "r")
    os.dup2(2, 1)  # what the cases print is not an answer
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    longest = LONGEST_OF_ITSELF if sys.argv[-1] == "--self" else LONGEST
    folder, cases = load_cases()
    gc.collect()
    gc.freeze()  # collections in the copies need not look at what is shared
    answers.write("ready\n")
    answers.flush()
    for line in iter(requests.readline, ""):
        answers.write(json.dumps(run_in_copy(cases[int(line)], folder, int(line), longest)) + "\n")
        answers.flush()


def load_cases() -> tuple[Path, Sequence[Any]]:
    """Import what the cases need. Returns the folder for their files, and the cases."""
    folder, *comfyui = sys.argv[1:]
    if comfyui == ["--self"]:
        return _load_self_check(Path(folder).resolve())
    with_nodes = bool(comfyui) and comfyui != ["--mutations"]
    sys.path[:0] = [str(HERE), str(ROOT), str(ROOT / "tests"), str(ROOT / "tests" / "comfyui")]
    sys.path.insert(0, str(ROOT / "tests" / "fuzzing"))
    place = Path(folder).resolve()
    if with_nodes:
        sys.argv[1:] = comfyui
        import asyncio

        import in_comfyui

        assert asyncio.run(in_comfyui.comfy_nodes.load_custom_node(str(in_comfyui.PACK)))
        in_comfyui.load("audiox-pocket")
        with contextlib.suppress(ImportError):
            # A training imports it, and the first import starts fc-list.
            import matplotlib.font_manager  # noqa: F401
    from bad_inputs import list_cases, list_node_cases
    from good_files import import_engine, write_samples

    write_samples(place / "samples")
    if with_nodes:
        return place, list_node_cases()
    import_engine()
    if comfyui:
        from mutated_files import MutatedFiles

        return place, MutatedFiles()
    return place, list_cases()


def _load_self_check(folder: Path) -> tuple[Path, list[Any]]:
    """The cases that test this runner."""
    from self_check import CASES
    from watched_call import SECRETS

    (folder / "samples").mkdir()
    for name in SECRETS:
        (folder / "samples" / name).write_bytes(b"a secret")
    return folder, CASES


def run_in_copy(case: Any, folder: Path, number: int, longest: float) -> dict[str, Any]:
    """Run a case in a copy of this process.

    Returns:
        outcome: sentence (an AudioXError), status (of a command), raw (another exception), passed (no error)
            or killed.
        message: The sentence, or what else there is to say.
        seconds: Of the processor.
        growth: Bytes of memory at the peak, beyond those before the call.
        violations: What the case must not do: a file written outside, a program started, a connection.
    """
    reading, writing = os.pipe()
    process = os.fork()
    if process == 0:
        os.setsid()
        try:
            from watched_call import run_case

            result = run_case(case, folder, number)
            os.write(writing, json.dumps(result).encode())
        except BaseException as error:
            os.write(writing, json.dumps({"outcome": "raw", "message": f"no result: {error!r}"}).encode())
        finally:
            os._exit(0)
    os.close(writing)
    answer, deadline = b"", time.monotonic() + longest
    while select.select([reading], [], [], max(0.0, deadline - time.monotonic()))[0]:
        block = os.read(reading, 1 << 16)
        if not block:
            break
        answer += block
    os.close(reading)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process, signal.SIGKILL)
    status = os.waitpid(process, 0)[1]
    if answer.endswith(b"}"):
        return json.loads(answer)
    took = "it took too long" if time.monotonic() > deadline else f"wait status {status}"
    return {"outcome": "killed", "message": took}


if __name__ == "__main__":
    main()
