"""`python -m audiox_ext`."""

import sys

from .cli import main

sys.exit(main())
