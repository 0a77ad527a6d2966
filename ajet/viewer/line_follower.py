"""JSON lines of a file that may be growing, be replaced, or have been damaged."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, NamedTuple

MAX_LINE_BYTES = 64 * 1024 * 1024
"""A longer line counts as damaged: it is skipped without being held in memory."""


class FollowedLine(NamedTuple):
    """One whole line. A tuple: a large run has 100,000 of them to make."""

    offset: int
    """Bytes before it in the file."""
    length: int
    """Bytes, line feed included."""
    record: dict[str, Any]


class LineFollower:
    """Reads the lines that were added since the last call. One thread at a time.

    A viewer shows what is there: a damaged line is counted and skipped, where the readers of a
    run that continues refuse the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.num_damaged = 0
        self.is_restarted = False
        """The last call began at the start of a file that is not the one read before."""
        self.num_cut = 0
        """Bytes at the end of the file, as of the last call, that have no line feed yet."""
        self._offset = 0
        self._inode: int | None = None

    @property
    def offset(self) -> int:
        """Bytes read so far."""
        return self._offset

    def size(self) -> int:
        """Bytes of the file now; 0 where there is none."""
        try:
            return self.path.stat().st_size
        except OSError:
            return 0

    def read(self, max_bytes: int = 1 << 62) -> list[FollowedLine]:
        """The whole lines of about the next `max_bytes`; none where nothing was added.

        The last line counts only once its line feed is there: a run may be writing it.
        """
        self.is_restarted, self.num_cut = False, 0
        try:
            file = self.path.open("rb")
        except OSError:
            self._restart(None)
            return []
        with file:
            self._look_for_replacement(file.fileno())
            file.seek(self._offset)
            lines: list[FollowedLine] = []
            stop = self._offset + max_bytes
            while self._offset < stop:
                raw = file.readline(MAX_LINE_BYTES)
                if not raw.endswith(b"\n"):
                    if len(raw) < MAX_LINE_BYTES or not _skip_line(file):
                        self.num_cut = file.tell() - self._offset
                        break
                    self.num_damaged += 1
                    self._offset = file.tell()
                    continue
                record = _record(raw)
                if record is None:
                    self.num_damaged += 1
                else:
                    lines.append(FollowedLine(self._offset, len(raw), record))
                self._offset += len(raw)
            return lines

    def _look_for_replacement(self, descriptor: int) -> None:
        """A resumed run replaces the file by one without the lines that it writes again."""
        stat = os.fstat(descriptor)
        if stat.st_ino != self._inode or stat.st_size < self._offset:
            self._restart(stat.st_ino)

    def _restart(self, inode: int | None) -> None:
        self.is_restarted = self._offset > 0
        self._inode, self._offset, self.num_damaged = inode, 0, 0


def _skip_line(file: Any) -> bool:
    """Whether the line ends somewhere."""
    while chunk := file.readline(MAX_LINE_BYTES):
        if chunk.endswith(b"\n"):
            return True
    return False


def _record(raw: bytes) -> dict[str, Any] | None:
    try:
        record = json.loads(raw.decode())
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None
