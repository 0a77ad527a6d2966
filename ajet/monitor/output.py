"""Output and log of a run: what happens to them never ends the run or silences it.

1. The terminal or the reader of a pipe may go away, a disk may be full: the text is dropped.
   If nothing is read for some seconds (after Ctrl-S), text is dropped until reading continues.
2. A character that the encoding does not have becomes a question mark.
3. User code may replace `sys.stdout` for a while, as `contextlib.redirect_stdout` does, and threads
   that do so at once leave it replaced. Progress and log lines use the streams of the start.
4. User code that keeps a stream from the start, as loggers do, writes above the progress display.
5. User code may configure logging: the log lines of the run still come. No other module sets
   handlers.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import stat
import sys
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TextIO, cast

logger = logging.getLogger(__name__)


NOISY = ("httpx", "httpx2", "httpcore", "httpcore2", "openai", "urllib3", "matplotlib")
"""Libraries that log at least one line for every request."""
KEEP_INTERVAL_S = 1.0

_kept: list[logging.Handler] = []
"""The handlers of a run, which stay until it ends."""

READER_PATIENCE_S = 5
"""Seconds that a write waits until the output is read."""
_PIPE_CHARACTERS, _TERMINAL_CHARACTERS = 1000, 200
"""What can be written without blocking where `poll` says that there is room: PIPE_BUF bytes."""

_one_writer = threading.RLock()


def _renew_lock() -> None:
    global _one_writer
    _one_writer = threading.RLock()


os.register_at_fork(after_in_child=_renew_lock)  # a thread that holds it is not in the child


def _longest_write(stream: TextIO) -> int | None:
    """How many characters can be written at once; None: any number, since it does not block."""
    try:
        mode = os.fstat(stream.fileno()).st_mode
    except (OSError, ValueError):  # no file, or closed
        return None
    if stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode):
        return _PIPE_CHARACTERS
    return _TERMINAL_CHARACTERS if stat.S_ISCHR(mode) and stream.isatty() else None


class SteadyStream:
    """A text stream whose `write` and `flush` never raise; all else is the stream's own."""

    def __init__(self, stream: TextIO, *, is_of_run: bool = True) -> None:
        self._stream = stream
        self._longest = _longest_write(stream)
        self._is_lost = False
        self._num_dropped = 0
        """Characters since the reader has stopped reading."""
        self._is_stalled = False
        self._shown_by: TextIO | None = None
        self.is_of_run = is_of_run
        """True for the output of a run, which continues without a reader."""

    def write(self, text: str) -> int:
        """Write the text, above the progress display while one is shown."""
        return self._shown_by.write(text) if self._shown_by else self.write_through(text)

    def write_through(self, text: str) -> int:
        """Write the text to the stream itself, as far as that can."""
        try:
            if self._longest is None or not text:  # Click probes with b"" whether this is binary
                self._stream.write(text)
            else:
                self._write_unless_blocked(text, self._longest)
        except UnicodeEncodeError:
            encoding = self._stream.encoding
            self.write_through(text.encode(encoding, "replace").decode(encoding))
        except (OSError, ValueError) as error:  # ValueError: the stream is closed
            self._lose(error)
        return len(text)

    def _write_unless_blocked(self, text: str, longest: int) -> None:
        with _one_writer:  # so that there is still room after `_has_room`
            for start in range(0, len(text), longest):
                if not self._has_room():
                    self._num_dropped += len(text) - start
                    return
                if self._is_stalled:
                    number, self._num_dropped, self._is_stalled = self._num_dropped, 0, False
                    self._stream.write(f"\n({number} characters were not read and are left out)\n")
                self._stream.write(text[start : start + longest])
                self._stream.flush()

    def _has_room(self) -> bool:
        """True if a write would not block. The first one that would waits `READER_PATIENCE_S`."""
        waiting = select.poll()
        waiting.register(self._stream.fileno(), select.POLLOUT)
        if waiting.poll(0 if self._is_stalled else 1000 * READER_PATIENCE_S):
            return True
        if not self._is_stalled:
            self._is_stalled = True  # first, since the warning may come back here
            logger.warning("nobody reads the output; it is left out meanwhile, the run continues")
        return False

    @contextlib.contextmanager
    def shown_by(self, display: TextIO) -> Iterator[None]:
        """Hand what is written to a display, which itself writes to `below`."""
        self._shown_by = display
        try:
            yield
        finally:
            self._shown_by = None

    @property
    def below(self) -> TextIO:
        """The stream for a display that takes over this one."""
        return cast(TextIO, _Below(self))

    def writelines(self, lines: Iterable[str]) -> None:
        """Write each of the lines."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Flush the stream as far as it can."""
        try:
            self._stream.flush()
        except (OSError, ValueError) as error:
            self._lose(error)

    def release(self) -> None:
        """Drop what cannot be written: the interpreter would fail on it when it exits."""
        if self._is_lost:
            with contextlib.suppress(OSError, ValueError):
                nothing = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nothing, self._stream.fileno())
                os.close(nothing)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _lose(self, error: Exception) -> None:
        if not self._is_lost:
            self._is_lost = True  # first, since the warning may come back here
            # A command that only shows something may be read by `head`.
            if self.is_of_run or not isinstance(error, BrokenPipeError):
                logger.warning("output is lost from here on: %s; the run continues", error)


class _Below:
    """A steady stream for the display that is in front of it."""

    def __init__(self, steady: SteadyStream) -> None:
        self._steady = steady
        self.write = steady.write_through

    def __getattr__(self, name: str) -> Any:
        return getattr(self._steady, name)


_log_stream: TextIO | None = None


def log_stream() -> TextIO:
    """Where log lines for people go: above the progress display while one is shown."""
    return _log_stream or sys.stderr


@contextlib.contextmanager
def log_to_stream(stream: TextIO) -> Iterator[None]:
    """Send log lines to this stream until the block is left, whatever `sys.stderr` is."""
    global _log_stream
    before, _log_stream = _log_stream, stream
    try:
        yield
    finally:
        _log_stream = before


@contextlib.contextmanager
def steady_output(*, is_of_run: bool = True) -> Iterator[None]:
    """Make `sys.stdout` and `sys.stderr` steady within the block; afterwards both are as before.

    Args:
        is_of_run: whether a run begins; in a block of a command it makes the output that of a run.
    """
    before = sys.stdout, sys.stderr
    if any(stream is None or isinstance(stream, SteadyStream) for stream in before):
        for stream in before:
            if isinstance(stream, SteadyStream) and is_of_run:
                stream.is_of_run = True
        yield
        return
    steady = [SteadyStream(stream, is_of_run=is_of_run) for stream in before]
    sys.stdout, sys.stderr = (cast(TextIO, stream) for stream in steady)
    try:
        with log_to_stream(sys.stderr):
            yield
    finally:
        sys.stdout, sys.stderr = before
        for stream in steady:
            stream.flush()
            stream.release()


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
