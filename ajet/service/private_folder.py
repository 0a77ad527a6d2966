"""Folders for what the child processes of a run leave in the temporary folder.

vLLM, Ray, verl and Trinity-RFT make sockets and lock files there and do not remove them. So they
get a private folder as their temporary folder, which is removed with them. What a run that was
killed could not remove, the next such run or `ajet kill` removes: each folder has a file that is
locked as long as its run lives, so that a folder in use is never removed, not even from another
container.

The path of a socket is limited to 107 bytes, so folders for sockets are made in `short_folder()`.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PREFIX = "ajet-"
_LOCK = "owner.lock"
_LONGEST_PARENT = 40
"""Bytes. `/ajet-vllm-12345678` and the longest name of a socket in it, 47 bytes, fit after it."""


@contextmanager
def private_folder(kind: str, parent: Path | None = None) -> Iterator[Path]:
    """Make a folder that only this user can open, and remove it when the block is left.

    Folders of runs that were killed are removed first.

    Args:
        kind: becomes part of its name.
        parent: where to make it; None: in the temporary folder.
    """
    parent = parent or Path(tempfile.gettempdir())
    remove_left_behind(parent)
    folder = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{kind}-", dir=parent))
    try:
        with (folder / ".new").open("wb") as file:
            # `flock`, because another `open` in this process must not get it, as with `lockf`.
            fcntl.flock(file, fcntl.LOCK_EX)
            # Renamed only when it is locked: a run that finds the file unlocked removes the folder.
            (folder / ".new").rename(folder / _LOCK)
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def temporary_files_in(folder: Path) -> Iterator[None]:
    """Let this process, and those that it starts, make temporary files in a folder.

    Only while the block runs: for libraries that do so when they are imported or started.
    """
    before, variable = tempfile.tempdir, os.environ.get("TMPDIR")
    tempfile.tempdir = os.environ["TMPDIR"] = str(folder)
    try:
        yield
    finally:
        tempfile.tempdir = before
        if variable is None:
            del os.environ["TMPDIR"]
        else:
            os.environ["TMPDIR"] = variable


def short_folder(longest: int = _LONGEST_PARENT) -> Path:
    """The temporary folder, or `/tmp` if its path is too long for folders with sockets.

    Args:
        longest: bytes that the path may have.
    """
    folder = tempfile.gettempdir()
    return Path(folder if len(os.fsencode(folder)) <= longest else "/tmp")


def remove_left_behind(parent: Path) -> int:
    """Remove this user's folders whose run has ended without removing them.

    Args:
        parent: where they are.

    Returns:
        How many there were.
    """
    number = 0
    for path in parent.glob(f"{PREFIX}*/{_LOCK}"):
        with suppress(OSError):  # it has just been removed, or is another user's
            if path.parent.lstat().st_uid != os.geteuid() or path.parent.is_symlink():
                continue
            with path.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(path.parent)
                number += 1
    return number
