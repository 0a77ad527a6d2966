"""Where log lines go. No other module sets handlers."""

from __future__ import annotations

import contextlib
import logging
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

from ajet.monitor.terminal import log_stream

NOISY = ("httpx", "httpx2", "httpcore", "httpcore2", "openai", "urllib3", "matplotlib")
"""Libraries that log at least one line for every request."""
KEEP_INTERVAL_S = 1.0

_kept: list[logging.Handler] = []
"""The handlers of a run, which stay until it ends."""


class StderrHandler(logging.Handler):
    """A log handler that looks up the stream anew for each line: see `log_stream`."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record as a line; a closed terminal never stops the run."""
        level = f"{record.levelname.lower()}: " if record.levelno > logging.INFO else ""
        try:
            log_stream().write(f"{level}{self.format(record)}\n")
        except (OSError, ValueError):
            self.handleError(record)


class FileHandler(logging.FileHandler):
    """A log file that neither ends nor hides anything when its disk is full."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        """Leave a line out that cannot be written; other errors are shown as ever."""
        if not isinstance(sys.exception(), OSError):
            super().handleError(record)

    def close(self) -> None:
        """Close the file, without the lines that cannot be written."""
        with contextlib.suppress(OSError):
            super().close()


def log_to_console() -> None:
    """Log to stderr: AgentJet's messages from INFO, other libraries' from WARNING.

    A second call does nothing.
    """
    if any(isinstance(handler, StderrHandler) for handler in logging.getLogger().handlers):
        return
    handler = StderrHandler()
    handler.addFilter(lambda record: record.levelno >= logging.WARNING or _is_ours(record))
    _add(handler)
    for name in NOISY:
        logging.getLogger(name).setLevel(logging.WARNING)


def log_to_file(path: Path) -> logging.Handler:
    """Append everything from INFO to a file.

    Returns:
        The handler, for `end_log` when the run is over.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = FileHandler(path, encoding="utf-8")
    handler.setFormatter(
        logging.Formatter("%(asctime)s %(levelname)s %(threadName)s %(name)s: %(message)s")
    )
    _add(handler)
    _kept.append(handler)
    return handler


def end_log(handler: logging.Handler) -> None:
    """Close a log that `log_to_file` has begun."""
    _kept.remove(handler)
    logging.getLogger().removeHandler(handler)
    handler.close()


@contextlib.contextmanager
def logging_kept() -> Iterator[None]:
    """Call `keep_logging` regularly until the block is left."""
    console = [each for each in logging.getLogger().handlers if isinstance(each, StderrHandler)]
    ended = threading.Event()

    def keep() -> None:
        while not ended.wait(KEEP_INTERVAL_S):
            keep_logging()

    thread = threading.Thread(target=keep, daemon=True)
    _kept.extend(console)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        for handler in console:
            _kept.remove(handler)


def keep_logging() -> None:
    """Undo what user code that configures logging does to the lines of the run.

    `logging.basicConfig(force=True)` removes all handlers. `dictConfig` and `fileConfig` do so too,
    and by default they disable all loggers that they do not name. What is set for the logger `ajet`
    itself stays: it is a decision about our lines.
    """
    root = logging.getLogger()
    for handler in list(_kept):
        if handler not in root.handlers:
            root.addHandler(handler)
    for name, found in list(root.manager.loggerDict.items()):
        if name.startswith("ajet.") and isinstance(found, logging.Logger):
            found.disabled = False


def _add(handler: logging.Handler) -> None:
    root = logging.getLogger()
    root.addHandler(handler)
    root.setLevel(logging.INFO)


def log_to(handler: logging.Handler, error: BaseException) -> None:
    """Write an error and its traceback to one handler only."""
    trace = (type(error), error, error.__traceback__)
    record = logging.LogRecord(
        "ajet", logging.ERROR, __file__, 0, "the run ended: %s", (error,), trace
    )
    handler.handle(record)


def _is_ours(record: logging.LogRecord) -> bool:
    return record.name.partition(".")[0] == "ajet"
