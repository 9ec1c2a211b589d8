"""Runs the command line: `python -m audiox_ext`."""

import sys

from .cli.main import main

sys.exit(main())
