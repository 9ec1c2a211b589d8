"""The command line: `python -m audiox_ext COMMAND`, COMMAND being `generate`, `edit`, `convert` and so on."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from .cli_look import add_convert, add_inspect, add_level, add_view
from .cli_make import add_edit, add_extend, add_generate
from .cli_training import add_dataset, add_train
from .cli_video import add_extract
from .errors import AudioXError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command. Returns the exit status: 0, 1 for an error told on stderr, 130 when interrupted."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(
        level=logging.INFO if options.verbose else logging.WARNING, format="%(levelname)s: %(message)s"
    )
    try:
        options.run(options)
    except AudioXError as error:
        print(f"audiox_ext {options.command}: {error}", file=sys.stderr)
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
        add_dataset,
        add_train,
    ):
        add(commands, common)
    return parser
