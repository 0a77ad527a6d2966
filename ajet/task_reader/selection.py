"""Which of a reader's tasks are used: filters, and one task per query."""

from __future__ import annotations

import hashlib
import logging
from array import array
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ajet.class_path import class_path_in, load_function
from ajet.config.sections.task_reader import TASK_FILTERS
from ajet.errors import DataError
from ajet.schema.task import Task
from ajet.task_reader.mixed_tasks import MixedTasks
from ajet.task_reader.task_index import TaskIndex

logger = logging.getLogger(__name__)

KEY = "ajet.task_reader.filters"

Filter = Callable[[Task], bool]


def has_answer(task: Task) -> bool:
    """Whether `metadata["answer"]` is there and not empty."""
    return task.metadata.get("answer") not in (None, "")


def select_tasks(tasks: Sequence[Task], reader_config: Any, split: str) -> Sequence[Task]:
    """The tasks that all filters keep, and the first one of each query.

    Args:
        tasks: each with its id.
        reader_config: may have `filters` and `deduplication`.
        split: for the log.

    Raises:
        ConfigError: a filter cannot be loaded.
        DataError: a filter returns something else than True or False, or no task is left.
    """
    names: list[str] = getattr(reader_config, "filters", [])
    tests = {name: _load(name, reader_config) for name in names}
    if getattr(reader_config, "deduplication", None) == "query":
        tests["deduplication"] = FirstOfQuery()
    if not tests or not tasks:
        return tasks
    dropped = dict.fromkeys(tests, 0)
    selected: Sequence[Task]
    if isinstance(tasks, MixedTasks):
        parts = [replace(part, tasks=_kept(part.tasks, tests, dropped)) for part in tasks.parts]
        selected = MixedTasks(parts)
    else:
        selected = _kept(tasks, tests, dropped)
    text = ", ".join(f"{name} dropped {count}" for name, count in dropped.items())
    logger.info("%s: %d of %d tasks are used; %s", split, len(selected), len(tasks), text)
    if not selected:
        raise DataError(f"{KEY}: no {split} task is left of {len(tasks)}: {text}")
    return selected


def _kept(
    tasks: Sequence[Task], tests: dict[str, Filter], dropped: dict[str, int]
) -> Sequence[Task]:
    """The tasks that all tests keep; the others are counted in `dropped`."""
    kept = array("q")
    for index, task in enumerate(tasks):
        name = next((name for name, keep in tests.items() if not _verdict(name, keep, task)), None)
        if name is None:
            kept.append(index)
        else:
            dropped[name] += 1
    if not isinstance(tasks, TaskIndex):
        return [tasks[index] for index in kept]
    digest = hashlib.sha256(tasks.fingerprint.encode() + kept.tobytes()).hexdigest()[:16]
    hashes = array("q", [tasks.hashes[index] for index in kept])
    return TaskIndex(_Selected(tasks, kept), ids={}, fingerprint=digest, hashes=hashes)


class FirstOfQuery:
    """Keeps the first of all tasks whose query and opening messages are the same.

    Case and white space make no difference.
    """

    def __init__(self) -> None:
        self._seen: set[bytes] = set()

    def __call__(self, task: Task) -> bool:
        parts = [task.main_query, *(str(message) for message in task.init_messages)]
        text = "\n".join(" ".join(part.casefold().split()) for part in parts)
        digest = hashlib.sha256(text.encode()).digest()[:16]
        if digest in self._seen:
            return False
        self._seen.add(digest)
        return True


class _Selected:
    """Some tasks of an index, in the same order."""

    def __init__(self, tasks: TaskIndex, indices: array[int]) -> None:
        self._tasks = tasks
        self._indices = indices

    def read(self, index: int) -> Task:
        return self._tasks[self._indices[index]]

    def place(self, index: int) -> str:
        return f"task {self._indices[index]}"


def _load(name: str, reader_config: Any) -> Filter:
    """A filter is a function of a task, or a class that is made with the reader's settings."""
    found = load_function(class_path_in(TASK_FILTERS, name, KEY), KEY)
    return found(reader_config) if isinstance(found, type) else found


def _verdict(name: str, keep: Filter, task: Task) -> bool:
    verdict = keep(task)
    if not isinstance(verdict, bool | np.bool_):
        raise DataError(
            f"{KEY}: {name} returned {verdict!r} for task {task.task_id}; expected True to keep "
            "it, or False"
        )
    return bool(verdict)
