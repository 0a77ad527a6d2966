"""Makes task readers and checks their tasks: each is a `Task` with a unique id."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from ajet.class_path import class_path_in, load_class
from ajet.config.sections.task_reader import TASK_READERS
from ajet.errors import DataError
from ajet.schema.task import Task
from ajet.task_reader.selection import select_tasks
from ajet.task_reader.task_index import TaskIndex
from ajet.task_reader.task_reader_base import BaseTaskReader
from ajet.task_reader.unique_ids import with_unique_ids


def make_task_reader(reader_config: Any) -> BaseTaskReader:
    """Make the reader that `ajet.task_reader.type` names: a registered name or a class path.

    Raises:
        ConfigError: there is no such reader.
    """
    key = "ajet.task_reader.type"
    path = class_path_in(TASK_READERS, reader_config.type, key)
    reader: type[BaseTaskReader] = load_class(path, BaseTaskReader, key)
    return reader(reader_config)


def training_tasks(reader: BaseTaskReader) -> Sequence[Task]:
    """The training tasks: at least one, each with a unique id.

    Raises:
        DataError: there is no task, an id occurs twice, or an item is not a `Task`.
    """
    source = f"{type(reader).__name__}.get_training_tasks()"
    tasks = _checked(reader.get_training_tasks(), source)
    tasks = select_tasks(tasks, reader.reader_config, "training")
    if not tasks:
        raise DataError(f"{source} returned no task; expected at least one")
    return tasks


def validation_tasks(reader: BaseTaskReader) -> Sequence[Task]:
    """The validation tasks, each with a unique id; may be empty.

    Raises:
        DataError: an id occurs twice, or an item is not a `Task`.
    """
    source = f"{type(reader).__name__}.get_validation_tasks()"
    tasks = _checked(reader.get_validation_tasks(), source)
    return select_tasks(tasks, reader.reader_config, "validation")


def _checked(tasks: Iterable[Task], source: str) -> Sequence[Task]:
    if isinstance(tasks, TaskIndex):  # checked by its reader, and too many to be made at once
        return tasks
    return with_unique_ids(_located(tasks, source))


def _located(tasks: Iterable[Task], source: str) -> Iterator[tuple[str, Task]]:
    for index, task in enumerate(tasks):
        place = f"{source}[{index}]"
        if not isinstance(task, Task):
            raise DataError(f"{place}: got a {type(task).__name__}, expected a Task")
        yield place, task
