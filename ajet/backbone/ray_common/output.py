"""What verl and its libraries print goes to a file of the run."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path


@contextmanager
def redirect_output(path: Path) -> Iterator[None]:
    """Standard output and errors of the block, from Python code, are appended to the file.

    It stays open: loggers that are set up within the block go on writing to it.
    """
    file = path.open("a", encoding="utf-8", buffering=1)  # noqa: SIM115
    with (
        redirect_stdout(file),
        redirect_stderr(file),
        warnings.catch_warnings(),
        _levels_kept(logging.getLogger()),
    ):
        if not sys.warnoptions:
            warnings.simplefilter("ignore")
        yield


@contextmanager
def _levels_kept(logger: logging.Logger) -> Iterator[None]:
    """What vLLM imports silences the root logger and its handlers, and with them our warnings."""
    silenced: list[logging.Logger | logging.Handler] = [logger, *logger.handlers]
    levels = [(each, each.level) for each in silenced]
    try:
        yield
    finally:
        for each, level in levels:
            each.setLevel(level)
