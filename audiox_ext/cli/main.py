"""The command line: `python -m audiox_ext COMMAND`, COMMAND being `generate`, `edit`, `convert` and so on."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from ..errors import AudioXError
from .finetune import add_train
from .generate import add_edit, add_extend, add_generate
from .inspect import add_convert, add_inspect, add_level, add_view
from .video import add_extract


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command of this package. Returns the exit status, see `run_command`."""
    return run_command(_parser().parse_args(arguments), "audiox_ext")


def run_command(options: argparse.Namespace, program: str) -> int:
    """Run the parsed command. Returns the exit status.

    Args:
        options: parsed arguments; `options.run` is the command's function.
        program: name to print before an error.

    Returns:
        0; 1 for an error, which is printed to stderr; 130 when interrupted.
    """
    logging.basicConfig(
        level=logging.INFO if options.verbose else logging.WARNING, format="%(levelname)s: %(message)s"
    )
    try:
        options.run(options)
    except AudioXError as error:
        print(f"{program} {options.command}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nInterrupted; no file was left half-written.", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m audiox_ext", description="AudioX: text, video and audio to sound and music."
    )
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("-v", "--verbose", action="store_true", help="say what is being done")
    common.add_argument("--models", type=Path, metavar="FOLDER", help="folder that holds a folder a model")
    commands = parser.add_subparsers(dest="command", required=True)
    for add in (
        add_generate,
        add_edit,
        add_extend,
        add_extract,
        add_inspect,
        add_convert,
        add_view,
        add_level,
        add_train,
    ):
        add(commands, common)
    return parser
