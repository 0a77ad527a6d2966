"""Makes task readers and checks their tasks: each is a `Task` with a unique id."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from pydantic_core import PydanticSerializationError

from ajet.class_path import class_path_in, load_class
from ajet.config.sections.task_reader import TASK_READERS
from ajet.errors import DataError
from ajet.schema.task import Task
from ajet.task_reader.task_reader_base import BaseTaskReader

logger = logging.getLogger(__name__)


def make_task_reader(reader_config: Any) -> BaseTaskReader:
    """Make the reader that `ajet.task_reader.type` names: a registered name or a class path.

    Raises:
        ConfigError: there is no such reader.
    """
    key = "ajet.task_reader.type"
    path = class_path_in(TASK_READERS, reader_config.type, key)
    reader: type[BaseTaskReader] = load_class(path, BaseTaskReader, key)
    return reader(reader_config)


def training_tasks(reader: BaseTaskReader) -> list[Task]:
    """The training tasks: at least one, each with a unique id.

    Raises:
        DataError: there is no task, an id occurs twice, or an item is not a `Task`.
    """
    source = f"{type(reader).__name__}.get_training_tasks()"
    tasks = with_unique_ids(_located(reader.get_training_tasks(), source))
    if not tasks:
        raise DataError(f"{source} returned no task; expected at least one")
    return tasks


def validation_tasks(reader: BaseTaskReader) -> list[Task]:
    """The validation tasks, each with a unique id; may be empty.

    Raises:
        DataError: an id occurs twice, or an item is not a `Task`.
    """
    source = f"{type(reader).__name__}.get_validation_tasks()"
    return with_unique_ids(_located(reader.get_validation_tasks(), source))


def with_unique_ids(located: Iterable[tuple[str, Task]]) -> list[Task]:
    """Fill in missing ids and refuse duplicate ones.

    A missing id is a hash of the content. Equal tasks get numbered ids, and one warning with their
    number is logged.

    Args:
        located: each task with the place it comes from, for messages.

    Raises:
        DataError: two tasks have the same id, or a task cannot be written as JSON; the message
            names the places.
    """
    places: dict[str, str] = {}
    repeats: Counter[str] = Counter()
    first_repeat = ""
    tasks = []
    for place, task in located:
        if not task.task_id:
            content_id = _content_id(task, place)
            repeats[content_id] += 1
            number = repeats[content_id]
            if number > 1 and not first_repeat:
                first_repeat = f"{place} equals {places.get(content_id, 'an earlier one')}"
            numbered = content_id if number == 1 else f"{content_id}-{number}"
            task = task.model_copy(update={"task_id": numbered})
        first = places.setdefault(task.task_id, place)
        if first != place:
            raise DataError(
                f'{place}: task_id "{task.task_id}" is already used at {first}: give each task '
                "a unique id"
            )
        tasks.append(task)
    if first_repeat:
        logger.warning(
            "%d tasks are equal to earlier ones (%s): each becomes a separate task with a "
            "numbered id; remove them if that is not intended",
            repeats.total() - len(repeats),
            first_repeat,
        )
    return tasks


def _content_id(task: Task, place: str) -> str:
    try:
        return task.content_id()
    except PydanticSerializationError as error:
        raise DataError(f"{place}: the task cannot be written as JSON: {error}") from error


def _located(tasks: Iterable[Task], source: str) -> Iterator[tuple[str, Task]]:
    for index, task in enumerate(tasks):
        place = f"{source}[{index}]"
        if not isinstance(task, Task):
            raise DataError(f"{place}: got a {type(task).__name__}, expected a Task")
        yield place, task
