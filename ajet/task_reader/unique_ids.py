"""Ids of tasks: made from the content where they are missing, and no two equal."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable

from pydantic_core import PydanticSerializationError

from ajet.boundary import caught_error, text_of
from ajet.errors import DataError
from ajet.schema.task import Task

logger = logging.getLogger(__name__)


def with_unique_ids(located: Iterable[tuple[str, Task]]) -> list[Task]:
    """Fill in missing ids and refuse duplicate ones.

    A missing id is a hash of the content. Equal tasks get numbered ids, and one warning with their
    number is logged.

    Args:
        located: each task with the place it comes from, for messages.

    Raises:
        DataError: two tasks have the same id, an id is no text, or a task cannot be written as
            JSON; the message names the places.
    """
    places: dict[str, str] = {}
    repeats: Counter[str] = Counter()
    first_repeat = ""
    tasks: list[Task] = []
    for place, task in located:
        if not _is_text(task.task_id):
            raise DataError(
                f"{place}: the task_id {task.task_id!a} has half of a surrogate pair, which is no "
                "character and cannot be written to a file: replace it"
            )
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
        if not tasks:
            _require_data(task, place)
        tasks.append(task)
    if first_repeat:
        logger.warning(
            "%d tasks are equal to earlier ones (%s): each becomes a separate task with a "
            "numbered id; remove them if that is not intended",
            repeats.total() - len(repeats),
            first_repeat,
        )
    return tasks


def _is_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _require_data(task: Task, place: str) -> None:
    """Refuse what every episode would fail with. Only the first task: checking each takes long."""
    with caught_error() as caught:
        task.model_copy(deep=True)
    if caught.error:
        raise DataError(
            f"{place}: the task cannot be copied, as each episode needs ({text_of(caught.error)}): "
            "keep texts, numbers, lists and dicts in its metadata"
        ) from caught.error


def _content_id(task: Task, place: str) -> str:
    try:
        return task.content_id()
    except PydanticSerializationError as error:
        raise DataError(f"{place}: the task cannot be written as JSON: {error}") from error
