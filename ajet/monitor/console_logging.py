"""Log lines on the console that also carries the progress display."""

from __future__ import annotations

import logging

from rich.console import Console
from rich.text import Text

STYLES = {logging.WARNING: "yellow", logging.ERROR: "red", logging.CRITICAL: "bold red"}


class ConsoleLogHandler(logging.Handler):
    """Prints records through the console, above what moves there.

    Args:
        console: `Progress.console`.
        level: least level that is printed.
    """

    def __init__(self, console: Console, level: int = logging.NOTSET) -> None:
        super().__init__(level)
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        """Print one record; a console that cannot take it never stops the run."""
        try:
            line = Text(self.format(record), style=STYLES.get(record.levelno, ""))
            self._console.print(line, soft_wrap=True)
        except (OSError, ValueError):
            self.handleError(record)
