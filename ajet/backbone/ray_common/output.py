"""Sends the output of verl, Trinity and their libraries to a log file of the run."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path


@contextmanager
def redirect_output(path: Path) -> Iterator[None]:
    """Append what Python code in the block writes to stdout and stderr to a file."""
    # The file stays open: loggers that are set up in the block keep writing to it afterwards.
    file = path.open("a", encoding="utf-8", buffering=1)  # noqa: SIM115
    with (
        redirect_stdout(file),
        redirect_stderr(file),
        warnings.catch_warnings(),
        _levels_restored(logging.getLogger()),
    ):
        if not sys.warnoptions:
            warnings.simplefilter("ignore")
        yield


@contextmanager
def _levels_restored(logger: logging.Logger) -> Iterator[None]:
    """Restore the levels of a logger and its handlers after the block."""
    # Importing vLLM 0.28 silences the root logger and its handlers, and so our own warnings.
    silenced: list[logging.Logger | logging.Handler] = [logger, *logger.handlers]
    levels = [(each, each.level) for each in silenced]
    try:
        yield
    finally:
        for each, level in levels:
            each.setLevel(level)
