"""Files of a run folder that survive a kill.

A file that is written in one go is complete or absent. A file with one JSON object per line may
end in a torn line, which is never read as data.
"""

from __future__ import annotations

import json
import logging
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ajet.errors import DataError

logger = logging.getLogger(__name__)

ASIDE_SUFFIX = ".tmp"
"""Suffix of a file that is being written; a killed run may leave such a file behind."""


@contextmanager
def written_aside(path: Path) -> Iterator[Path]:
    """Yield a temporary path that becomes `path` if the block ends without an error."""
    aside = path.with_name(path.name + ASIDE_SUFFIX)
    try:
        yield aside
        # Before the rename: after a power cut, a renamed file could otherwise be empty.
        with aside.open("rb") as file:
            os.fsync(file.fileno())
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def append_json_lines(path: Path, records: Iterable[Mapping[str, Any]]) -> None:
    """Append one line per record, in a single write."""
    lines = (json.dumps(record, allow_nan=False) + "\n" for record in records)
    # Opened per call: that costs nothing once per step, and a killed run leaves nothing unflushed.
    with path.open("ab") as file:
        file.write("".join(lines).encode())


def read_json_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The records of a file that is still growing or that a killed process left behind.

    Raises:
        DataError: a line other than the torn last one is not a JSON object with a `step`.
    """
    return (record for _, record in _numbered(path))


def start_json_lines(path: Path, is_kept: Callable[[dict[str, Any]], bool] | None) -> None:
    """Create the file, or drop the lines that a resumed run will write again.

    Args:
        path: the file.
        is_kept: which records of an existing file stay, byte for byte; a torn last line never
            does, and a warning says so. None creates a new file.

    Raises:
        FileExistsError: `is_kept` is None and the file exists.
        DataError: a line is not a JSON object with a `step`.
    """
    if is_kept is None:
        path.touch(exist_ok=False)
    elif path.exists():
        if torn := _torn_line(path):
            logger.warning("%s: the last line is incomplete and dropped: %.80s", path, torn)
        with written_aside(path) as aside, aside.open("wb") as file:
            file.writelines(line for line, record in _numbered(path) if is_kept(record))


def _torn_line(path: Path) -> str:
    """The line at the end that a killed process did not write to its end; empty without one."""
    with path.open("rb") as file:
        last = deque(file, maxlen=1)
    return "".join(line.decode(errors="replace") for line in last if not line.endswith(b"\n"))


def _numbered(path: Path) -> Iterator[tuple[bytes, dict[str, Any]]]:
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.endswith(b"\n"):
                return
            try:
                record = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise DataError(
                    f"{path}, line {number}: not JSON: {error}; remove the line"
                ) from error
            if not isinstance(record, dict) or type(record.get("step")) is not int:
                raise DataError(
                    f'{path}, line {number}: expected a JSON object with a "step"; remove the line'
                )
            yield line, record
