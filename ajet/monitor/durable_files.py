"""Files of a run folder that survive a kill.

A file that is written in one go is complete or absent. A file with one JSON object per line may
end in a torn line, which is never read as data.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ajet.errors import DataError

ASIDE_SUFFIX = ".tmp"
"""Ending of a file that is being written; one that a killed run left behind means nothing."""


@contextmanager
def written_aside(path: Path) -> Iterator[Path]:
    """A path to write to, which becomes `path` when the block ends without an error.

    The content is on disk before the rename, so that not even a power cut leaves half a file.
    """
    aside = path.with_name(path.name + ASIDE_SUFFIX)
    try:
        yield aside
        with aside.open("rb") as file:
            os.fsync(file.fileno())
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def append_json_lines(path: Path, records: Iterable[Mapping[str, Any]]) -> None:
    """Append one line a record, in one write.

    The file is opened for each call: once a step this costs nothing, and nothing stays open.
    """
    lines = (json.dumps(record, allow_nan=False) + "\n" for record in records)
    with path.open("ab") as file:
        file.write("".join(lines).encode())


def read_json_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The records of a file that may be growing, or that a killed process left.

    Raises:
        DataError: a line other than the torn last one is not a JSON object.
    """
    return (record for _, record in _numbered(path))


def start_json_lines(path: Path, is_kept: Callable[[dict[str, Any]], bool] | None) -> None:
    """Make `path` ready for a run's lines.

    Args:
        path: of the file.
        is_kept: None makes a new file. Otherwise lines that are not kept are dropped, and a torn
            last line with them: the run is about to write them again. The other lines keep their
            bytes.

    Raises:
        FileExistsError: a new run finds the lines of another.
        DataError: a line is not a JSON object.
    """
    if is_kept is None:
        path.touch(exist_ok=False)
    elif path.exists():
        with written_aside(path) as aside, aside.open("wb") as file:
            file.writelines(line for line, record in _numbered(path) if is_kept(record))


def _numbered(path: Path) -> Iterator[tuple[bytes, dict[str, Any]]]:
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.endswith(b"\n"):
                return
            try:
                record = json.loads(line)
            except ValueError as error:
                raise DataError(f"{path}, line {number}: not JSON: {error}") from error
            if not isinstance(record, dict):
                raise DataError(f"{path}, line {number}: expected a JSON object")
            yield line, record
