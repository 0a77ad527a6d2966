"""All tasks of a reader, checked: each is a `Task` with an id of its own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from ajet.class_path import class_path_in, load_class
from ajet.config.sections.task_reader import TASK_READERS
from ajet.errors import DataError
from ajet.schema.task import Task
from ajet.task_reader.task_reader_base import BaseTaskReader


def make_task_reader(reader_config: Any) -> BaseTaskReader:
    """The reader that `ajet.task_reader.type` names, registered or by its class path.

    Raises:
        ConfigError: there is no such reader.
    """
    key = "ajet.task_reader.type"
    path = class_path_in(TASK_READERS, reader_config.type, key)
    reader: type[BaseTaskReader] = load_class(path, BaseTaskReader, key)
    return reader(reader_config)


def training_tasks(reader: BaseTaskReader) -> list[Task]:
    """The tasks to train on: at least one, each with an id of its own.

    Raises:
        DataError: there is no task, an id occurs twice, or an item is not a `Task`.
    """
    source = f"{type(reader).__name__}.get_training_tasks()"
    tasks = with_unique_ids(_located(reader.get_training_tasks(), source))
    if not tasks:
        raise DataError(f"{source} gave no task")
    return tasks


def validation_tasks(reader: BaseTaskReader) -> list[Task]:
    """The tasks to evaluate on; may be empty.

    Raises:
        DataError: an id occurs twice, or an item is not a `Task`.
    """
    source = f"{type(reader).__name__}.get_validation_tasks()"
    return with_unique_ids(_located(reader.get_validation_tasks(), source))


def with_unique_ids(located: Iterable[tuple[str, Task]]) -> list[Task]:
    """Fill in missing ids and refuse duplicate ones.

    Args:
        located: each task with the place it comes from, for messages.

    Raises:
        DataError: two tasks have the same id; the message names both places.
    """
    places: dict[str, str] = {}
    tasks = []
    for place, task in located:
        if not task.task_id:
            task = task.model_copy(update={"task_id": task.content_id()})
            fix = "the two are equal; remove one, or give each a task_id of its own"
        else:
            fix = "give each task an id of its own"
        first = places.setdefault(task.task_id, place)
        if first != place:
            raise DataError(f'{place}: task_id "{task.task_id}" is already at {first}: {fix}')
        tasks.append(task)
    return tasks


def _located(tasks: Iterable[Task], source: str) -> Iterator[tuple[str, Task]]:
    for index, task in enumerate(tasks):
        place = f"{source}[{index}]"
        if not isinstance(task, Task):
            raise DataError(f"{place}: got a {type(task).__name__}, expected a Task")
        yield place, task
