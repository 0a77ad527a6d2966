"""Reads tasks from JSONL files."""

from __future__ import annotations

import json
import marshal
import os
from array import array
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import from_json

from ajet.errors import DataError
from ajet.schema.task import Task
from ajet.task_reader.task_index import IndexBuilder
from ajet.task_reader.task_reader_base import BaseTaskReader

SECTION = "ajet.task_reader.jsonl_dataset_file"

MAX_DEPTH = 200
"""Deepest nesting of a record; pydantic writes no more than 255 levels, and a run adds some."""


class JsonlTaskReader(BaseTaskReader):
    """One JSON object per line, with the fields of `Task`.

    `query_key` is the key of the query. Keys that are no field of `Task` go to its metadata. Blank
    lines are skipped. A null field of a task counts as absent; an integer `task_id` becomes text.
    Equal rows without an id get numbered ids.

    Args:
        reader_config: uses `jsonl_dataset_file.training.file_path`, `.validation.file_path` and
            `.query_key`.
    """

    def __init__(self, reader_config: Any) -> None:
        super().__init__(reader_config)
        self._files = reader_config.jsonl_dataset_file

    def get_training_tasks(self) -> Sequence[Task]:
        """All tasks of the training file.

        Raises:
            DataError: the file is missing, empty or malformed; the message names the line.
        """
        if self._files.training.file_path is None:
            raise DataError(f"{SECTION}.training.file_path is not set, expected a JSONL file")
        return read_jsonl(self._files.training.file_path, self._files.query_key)

    def get_validation_tasks(self) -> Sequence[Task]:
        """All tasks of the validation file; empty without a file. Raises the same errors."""
        if self._files.validation.file_path is None:
            return []
        return read_jsonl(self._files.validation.file_path, self._files.query_key)


def read_jsonl(path: str | Path, query_key: str) -> Sequence[Task]:
    """Read all tasks of a file; each gets an id.

    Every line is checked. Of a large file only the positions of the lines are kept.

    Raises:
        DataError: the file cannot be read, has no task, a malformed line or an id twice.
    """
    lines = JsonlLines(path, query_key)
    tasks = lines.index()
    if not tasks:
        raise DataError(f"{path}: the file has no task; expected one JSON object per line")
    return tasks


class JsonlLines:
    """A file, and where its tasks are.

    Args:
        path: the file.
        query_key: the field that holds the query.
    """

    def __init__(self, path: str | Path, query_key: str) -> None:
        self._path = str(path)
        self._query_key = query_key
        self._offsets = array("q")
        self._numbers = array("q")
        self._version = (0, 0)

    def index(self) -> Sequence[Task]:
        """Check every line and remember where it is.

        Raises:
            DataError: the file cannot be read, has a malformed line or an id twice.
        """
        builder = IndexBuilder()
        try:
            with open(self._path, "rb") as lines:
                self._version = _version(os.fstat(lines.fileno()))
                builder.add(self._identities(lines))
        except OSError as error:
            raise DataError(f"{self._path}: {error.strerror} (see {SECTION})") from error
        return builder.finish(self)

    def _identities(self, lines: Iterable[bytes]) -> Iterator[tuple[str, bytes]]:
        """The id and content of each task; its position is kept."""
        offset = 0
        for number, line in enumerate(lines, 1):
            if not line.isspace():
                yield self._identity(line, number)
                self._offsets.append(offset)
                self._numbers.append(number)
            offset += len(line)

    def read(self, index: int) -> Task:
        """The task of a line.

        Raises:
            DataError: the file was changed since it was indexed.
        """
        # Opened each time: processes on other machines get a copy of this object.
        try:
            with open(self._path, "rb") as lines:
                is_same = _version(os.fstat(lines.fileno())) == self._version
                lines.seek(self._offsets[index])
                line = lines.readline()
        except OSError as error:
            raise DataError(f"{self.place(index)}: {error.strerror} (see {SECTION})") from error
        if not is_same:
            raise DataError(
                f"{self.place(index)}: the file changed while the run was using it: start again"
            )
        return _task(_record(line, self.place(index)), self._query_key, self.place(index))

    def place(self, index: int) -> str:
        """The file and the number of the line."""
        return f"{self._path}:{self._numbers[index]}"

    def _identity(self, line: bytes, number: int) -> tuple[str, bytes]:
        """A line's id and content. Usual lines take the short way; the others are read in full."""
        try:
            # The fastest for short lines.
            record = from_json(line, cache_strings="none", allow_inf_nan=False)
        except ValueError:
            record = None
        if isinstance(record, dict) and record.keys().isdisjoint(UNUSUAL_FIELDS):
            query = record.pop(self._query_key, None)
            task_id = record.pop("task_id", None)
            if query and isinstance(query, str) and (not task_id or isinstance(task_id, str)):
                return task_id or "", b"" if task_id else marshal.dumps((query, record), 2)
        place = f"{self._path}:{number}"
        task = _task(_record(line, place), self._query_key, place)
        metadata = task.metadata
        if b"NaN" in line or b"Infinity" in line:  # in a task's content, they are null
            metadata = json.loads(task.model_dump_json())["metadata"]
        content = (task.main_query, metadata)
        if task.init_messages or task.env_type:
            content += (task.init_messages, task.env_type)  # type: ignore[assignment]
        return task.task_id, marshal.dumps(content, 2)


UNUSUAL_FIELDS = {"init_messages", "env_type", "metadata"}
"""Fields that need a closer look than a query, an id and the rest."""


def _version(stat: os.stat_result) -> tuple[int, int]:
    return stat.st_size, stat.st_mtime_ns


def _record(line: bytes, place: str) -> dict[str, Any]:
    try:
        record = json.loads(line.decode("utf-8-sig"))
    except json.JSONDecodeError as error:
        raise DataError(f"{place}: not valid JSON: {error.msg} (column {error.colno})") from error
    except UnicodeDecodeError as error:
        hint = "save the file as UTF-8"
        if line.startswith((b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd", b"PAR1")):
            hint = "type huggingface_dat_repo reads compressed files and tables"
        raise DataError(
            f"{place}: not valid UTF-8: {error.reason} (byte {error.start}); {hint}"
        ) from error
    except RecursionError:
        raise _too_deep(place) from None
    except ValueError as error:  # an integer of more than 4,300 digits
        raise DataError(f"{place}: not readable: {error}") from error
    if not isinstance(record, dict):
        raise DataError(f"{place}: got a JSON {type(record).__name__}, expected an object")
    # Both checks cost nothing for the usual line: it has no such escape, and few brackets.
    if b"\\ud" in line.lower():
        _refuse_lone_surrogates(record, place)
    if line.count(b"[") + line.count(b"{") > MAX_DEPTH and _depth(record) > MAX_DEPTH:
        raise _too_deep(place)
    return record


def _refuse_lone_surrogates(record: dict[str, Any], place: str) -> None:
    try:
        json.dumps(record, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise DataError(
            f"{place}: a text has half of a surrogate pair ({error.object[error.start]!a}), which "
            "is no character: replace it, or remove the row"
        ) from error


def _depth(value: Any) -> int:
    """The number of nested lists and objects; a loop, because recursion has a limit of its own."""
    depth, level = 0, [value]
    while level := [x for x in level if isinstance(x, dict | list)]:
        depth += 1
        level = [y for x in level for y in (x.values() if isinstance(x, dict) else x)]
    return depth


def _too_deep(place: str) -> DataError:
    return DataError(f"{place}: nested too deeply: expected at most {MAX_DEPTH} levels")


def _task(record: dict[str, Any], query_key: str, place: str) -> Task:
    keys = ", ".join(record)
    fields = {"main_query": record.pop(query_key, "")}
    for name in ("init_messages", "task_id", "env_type", "metadata"):
        if name in record:
            fields[name] = record.pop(name)
    # Data tools fill absent columns with null, and number rows with integers.
    fields = {name: value for name, value in fields.items() if value is not None}
    task_id = fields.get("task_id")
    if isinstance(task_id, int) and not isinstance(task_id, bool):
        fields["task_id"] = str(task_id)
    try:
        task = Task(**fields)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"]))
        raise DataError(f"{place}: {field}: {first['msg']}, got {first['input']!r}") from error
    if not task.main_query and not task.init_messages:
        raise DataError(
            f'{place}: no query in "{query_key}" or "init_messages"; the keys are '
            f"{keys or 'none'} (set {SECTION}.query_key to the right one)"
        )
    if both := sorted(record.keys() & task.metadata.keys()):
        raise DataError(f'{place}: "{both[0]}" is in the object and in its metadata: remove one')
    task.metadata.update(record)
    return task
