"""Folders that exist in full or not at all, whenever the process dies."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

logger = logging.getLogger(__name__)


@contextmanager
def written_aside(final: Path) -> Iterator[Path]:
    """A folder to fill; once filled, it is on the disk under the name `final`.

    What was called `final` before is replaced. If filling fails, nothing is left.
    """
    partial = _aside(final)
    partial.mkdir(parents=True)
    try:
        yield partial
        for path in (*partial.rglob("*"), partial):
            _sync(path)
        remove_folder(final)
        partial.rename(final)
        _sync(final.parent)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def remove_folder(path: Path) -> None:
    """Remove a folder, if there is one, such that its name never stands for a part of it."""
    if path.exists():
        old = _aside(path).with_suffix(f".partial-{os.getpid()}-old")
        path.rename(old)
        shutil.rmtree(old)


def remove_leftovers(folder: Path) -> None:
    """Remove what processes that died while writing or removing left in a folder."""
    for leftover in folder.glob(".*.partial-*"):
        logger.warning("removing %s: the process that wrote it died", leftover)
        shutil.rmtree(leftover)


def _aside(path: Path) -> Path:
    return path.with_name(f".{path.name}.partial-{os.getpid()}")


def _sync(path: Path) -> None:
    """Wait until a file, or a folder's list of names, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
