"""All tasks of a reader, whoever wrote it, made fit for a run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ajet.errors import DataError
from ajet.schema.task import Task
from ajet.task_reader.task_ids import with_unique_ids
from ajet.task_reader.task_reader_base import BaseTaskReader


def training_tasks(reader: BaseTaskReader) -> list[Task]:
    """The tasks to train on, at least one, each with an id of its own.

    Raises:
        DataError: there is none, an id occurs twice, or something is no `Task`.
    """
    source = f"{type(reader).__name__}.get_training_tasks()"
    tasks = with_unique_ids(_located(reader.get_training_tasks(), source))
    if not tasks:
        raise DataError(f"{source} gave no task")
    return tasks


def validation_tasks(reader: BaseTaskReader) -> list[Task]:
    """The tasks to evaluate on, perhaps none. Errors as for training."""
    source = f"{type(reader).__name__}.get_validation_tasks()"
    return with_unique_ids(_located(reader.get_validation_tasks(), source))


def _located(tasks: Iterable[Task], source: str) -> Iterator[tuple[str, Task]]:
    for index, task in enumerate(tasks):
        place = f"{source}[{index}]"
        if not isinstance(task, Task):
            raise DataError(f"{place}: got a {type(task).__name__}, expected a Task")
        yield place, task
