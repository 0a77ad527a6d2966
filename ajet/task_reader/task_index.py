"""Tasks of large sources: an index in memory, and each task made when it is taken."""

from __future__ import annotations

import hashlib
import re
from array import array
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Protocol, overload

import numpy as np

from ajet.schema.task import Task
from ajet.task_reader.unique_ids import with_unique_ids

MAX_IN_MEMORY = 10_000
"""Sources with no more tasks are read into a list, which other machines can get as it is."""
BATCH_SIZE = 1000
LIKE_A_CONTENT_ID = re.compile(r"[0-9a-f]{16}(-\d+)?")


class TaskSource(Protocol):
    """Rows of a file or table, in a fixed order."""

    def read(self, index: int) -> Task:
        """The task of a row; its id is empty where the row has none."""

    def place(self, index: int) -> str:
        """Where the row is, for messages."""


class TaskIndex(Sequence[Task]):
    """The tasks of a source, with the same ids as a list of them would have.

    Args:
        source: reads a task.
        ids: index -> id, for the rows where it is neither in the row nor made from its content
            alone.
        fingerprint: of all rows, in order.
        hashes: one for each task; equal for rows with the same id or, without ids, equal content.
    """

    def __init__(
        self, source: TaskSource, *, ids: dict[int, str], fingerprint: str, hashes: array[int]
    ) -> None:
        self._source = source
        self._ids = ids
        self._count = len(hashes)
        self.fingerprint = fingerprint
        self.hashes = hashes

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> Task: ...
    @overload
    def __getitem__(self, index: slice) -> list[Task]: ...
    def __getitem__(self, index: int | slice) -> Task | list[Task]:
        if isinstance(index, slice):
            return [self._task(i) for i in range(*index.indices(self._count))]
        return self._task(range(self._count)[index])

    def __iter__(self) -> Iterator[Task]:
        return map(self._task, range(self._count))

    def _task(self, index: int) -> Task:
        task = self._source.read(index)
        task_id = self._ids.get(index) or task.task_id or task.content_id()
        return task.model_copy(update={"task_id": task_id})


class IndexBuilder:
    """Collects the identity of each row in one pass: 8 bytes per task.

    Rows whose hashes are equal are read again at the end, to compare what they really are.
    """

    def __init__(self) -> None:
        self._hashes = array("q")
        self._digest = hashlib.sha256()
        self._num_without_id = 0
        self._has_lookalike = False

    def add(self, rows: Iterable[tuple[str, bytes]]) -> None:
        """Add the next rows, each with its id and its content.

        A content is equal for equal rows, and looked at only where the id is "".
        """
        for batch in _batched(rows):
            contents = [_bytes_of_id(task_id) if task_id else row for task_id, row in batch]
            self._digest.update(b"\n".join(contents) + b"\n")
            self._hashes.extend(map(hash, contents))
            ids = [task_id for task_id, _ in batch if task_id]
            self._num_without_id += len(batch) - len(ids)
            self._has_lookalike = self._has_lookalike or any(map(LIKE_A_CONTENT_ID.fullmatch, ids))

    def finish(self, source: TaskSource) -> Sequence[Task]:
        """The tasks of all rows; a list where they are few.

        Raises:
            DataError: an id occurs twice.
        """
        count = len(self._hashes)
        suspects = self._suspects()
        tasks = with_unique_ids((source.place(i), source.read(i)) for i in suspects)
        index = TaskIndex(
            source,
            ids={i: task.task_id for i, task in zip(suspects, tasks, strict=True)},
            fingerprint=self._digest.hexdigest()[:16],
            hashes=self._hashes,
        )
        return list(index) if count <= MAX_IN_MEMORY else index

    def _suspects(self) -> list[int]:
        """Rows that may have the id of another, in order."""
        if self._has_lookalike and self._num_without_id:
            # An id in a row may be the one that another row's content gives.
            return list(range(len(self._hashes)))
        hashes = np.frombuffer(self._hashes, dtype=np.int64) if self._hashes else np.empty(0)
        order = np.argsort(hashes, kind="stable")
        same = hashes[order[1:]] == hashes[order[:-1]]
        found: list[int] = np.union1d(order[1:][same], order[:-1][same]).tolist()
        return found


def _batched(rows: Iterable[tuple[str, bytes]]) -> Iterator[list[tuple[str, bytes]]]:
    rows = iter(rows)
    while batch := list(islice(rows, BATCH_SIZE)):
        yield batch


def hash_of_id(task_id: str) -> int:
    """The hash that `IndexBuilder` keeps for a row with this id. Valid in this process only."""
    return hash(_bytes_of_id(task_id))


def _bytes_of_id(task_id: str) -> bytes:
    return task_id.encode("utf-8", "surrogatepass")
