"""The programs `ajet` and `python -m ajet`: the command line.

Importing it takes a third of a second, in which Ctrl-C would end with a traceback.
"""

from __future__ import annotations

import os
import sys

try:
    from ajet.cli import main
except KeyboardInterrupt:
    print("interrupted", file=sys.stderr, flush=True)
    # Not `sys.exit`: see `keep_outcome` in `ajet/launcher/signals.py`.
    os._exit(130)

if __name__ == "__main__":
    main()
