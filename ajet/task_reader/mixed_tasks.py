"""The tasks of several sources as one sequence that still knows its sources."""

from __future__ import annotations

import bisect
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import overload

import numpy as np

from ajet.errors import DataError
from ajet.schema.task import Task
from ajet.task_reader.task_index import TaskIndex, hash_of_id


@dataclass(slots=True, kw_only=True, frozen=True)
class MixedPart:
    """The tasks of one source among those of all."""

    name: str
    tasks: Sequence[Task]
    schedule: Mapping[int, float]
    """Steps and weights, see `weight_at`."""
    start: int = 0
    """Index of its first task among all."""

    @property
    def end(self) -> int:
        """Index after its last task."""
        return self.start + len(self.tasks)


class MixedTasks(Sequence[Task]):
    """The tasks of all sources, one source after the other.

    Args:
        parts: at least one; their `start` is filled in here.
    """

    def __init__(self, parts: Sequence[MixedPart]) -> None:
        self.parts: list[MixedPart] = []
        for part in parts:
            self.parts.append(replace(part, start=self.parts[-1].end if self.parts else 0))
        self._ends = [part.end for part in self.parts]

    def __len__(self) -> int:
        return self._ends[-1]

    @overload
    def __getitem__(self, index: int) -> Task: ...
    @overload
    def __getitem__(self, index: slice) -> list[Task]: ...
    def __getitem__(self, index: int | slice) -> Task | list[Task]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        index = range(len(self))[index]
        part = self.parts[bisect.bisect_right(self._ends, index)]
        return part.tasks[index - part.start]

    def __iter__(self) -> Iterator[Task]:
        return (task for part in self.parts for task in part.tasks)

    def refuse_shared_ids(self) -> None:
        """Check that no task is in two sources.

        Equal rows without an id are only seen where both sources are small, or of one format.

        Raises:
            DataError: one is.
        """
        hashes = [np.frombuffer(_hashes(part.tasks), dtype=np.int64) for part in self.parts]
        for number, part in enumerate(self.parts):
            for earlier, other in zip(self.parts[:number], hashes[:number], strict=True):
                shared = np.intersect1d(other, hashes[number])
                first = _ids_with(earlier, other, shared)
                if both := sorted(first & _ids_with(part, hashes[number], shared)):
                    raise DataError(
                        f"ajet.task_reader.mixture: task {both[0]!a} is in the sources "
                        f"{earlier.name} and {part.name}, and {len(both) - 1} more are in both: "
                        "give each task an id of its own, or set ajet.task_reader.deduplication "
                        "to query"
                    )


def _hashes(tasks: Sequence[Task]) -> array[int]:
    if isinstance(tasks, TaskIndex):
        return tasks.hashes
    return array("q", [hash_of_id(task.task_id) for task in tasks])


def _ids_with(part: MixedPart, hashes: np.ndarray, wanted: np.ndarray) -> set[str]:
    """The ids of the tasks that have one of these hashes."""
    return {part.tasks[int(index)].task_id for index in np.flatnonzero(np.isin(hashes, wanted))}
