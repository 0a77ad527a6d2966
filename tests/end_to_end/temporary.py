"""A temporary folder for a run, in which it must leave nothing."""

from __future__ import annotations

import fnmatch
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ajet.launcher.ray_cluster import folder_for_ray

NAMED = ("torchinductor_*",)
"""Patterns of what a run may leave: torch's cache, which all runs of a user share."""
NAMED_IF_KILLED = ("ajet-*",)
"""Patterns of what a run that was killed may leave, too: its private folders."""


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """A folder for `TMPDIR`, with a path that is short enough for sockets."""
    with tempfile.TemporaryDirectory(prefix="t", dir=folder_for_ray()) as name:
        yield Path(name)


def left_files(temporary: Path, named: tuple[str, ...]) -> str:
    """What is left in the temporary folder, except for names of these patterns, in words."""
    left = [
        str(path.relative_to(temporary))
        for path in sorted(temporary.iterdir())
        if not any(fnmatch.fnmatch(path.name, pattern) for pattern in named)
    ]
    return f"left in the temporary folder: {', '.join(left)}" if left else ""


def assert_only_named_left(temporary: Path, code: int) -> None:
    """Check the folder after a run that ended with this exit code."""
    named = (*NAMED, *NAMED_IF_KILLED) if code < 0 else NAMED
    assert left_files(temporary, named) == ""
