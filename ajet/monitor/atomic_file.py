"""Files that are whole or not there: written aside, then renamed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ASIDE_SUFFIX = ".tmp"
"""Ending of a file that is being written; one that a killed run left behind means nothing."""


@contextmanager
def written_aside(path: Path) -> Iterator[Path]:
    """A path to write to, which becomes `path` when the block ends without an error.

    The content is on disk before the rename, so that not even a power cut leaves half a file.
    """
    aside = path.with_name(path.name + ASIDE_SUFFIX)
    try:
        yield aside
        with aside.open("rb") as file:
            os.fsync(file.fileno())
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
