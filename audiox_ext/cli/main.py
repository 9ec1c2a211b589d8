"""The command line: `python -m audiox_ext COMMAND`."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from ..errors import AudioXError
from ..utf8 import get_logger
from .finetune import add_train
from .generate import add_edit, add_extend, add_generate
from .inspect import add_convert, add_inspect, add_level, add_view
from .streams import forgiving_output
from .threads import let_threads_sleep
from .video import add_extract

log = get_logger(__name__)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        arguments: words of the command line, by default those of this process.

    Returns:
        The exit status, see `run_command`.
    """
    return run_command(build_parser(), arguments, "audiox_ext")


def run_command(parser: argparse.ArgumentParser, arguments: Sequence[str] | None, program: str) -> int:
    """Parse and run a command.

    Args:
        parser: parser of all commands; it sets `run`, the command's function, and `command`, its name.
        arguments: words of the command line, by default those of this process.
        program: name to print before an error.

    Returns:
        The exit status: 0 on success, 1 after an error, which is printed to stderr, 130 when interrupted.
    """
    let_threads_sleep()
    with forgiving_output():
        options = parser.parse_args(arguments)
        logging.basicConfig(
            level=logging.INFO if options.verbose else logging.WARNING, format="%(levelname)s: %(message)s"
        )
        try:
            options.run(options)
        except (AudioXError, OSError) as error:
            if not isinstance(error, AudioXError):
                log.info("The system reported an error:", exc_info=True)
            print(f"{program} {options.command}: {error}", file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            print("\nInterrupted. No incomplete file was left behind.", file=sys.stderr)
            return 130
        return 0


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of all commands."""
    parser = argparse.ArgumentParser(
        prog="python -m audiox_ext",
        description="Make sound and music from text, video and audio with AudioX models.",
        epilog="COMMAND --help shows the options of a command.",
    )
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("-v", "--verbose", action="store_true", help="print progress messages")
    common.add_argument(
        "--models",
        type=Path,
        metavar="FOLDER",
        help="folder with one subfolder per model (default: $AUDIOX_MODELS or ~/.cache/audiox)",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", title="commands")
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
