"""Every task of a data set has an id, and no two have the same."""

from __future__ import annotations

from collections.abc import Iterable

from ajet.errors import DataError
from ajet.schema.task import Task


def with_unique_ids(located: Iterable[tuple[str, Task]]) -> list[Task]:
    """Fill in missing ids and refuse duplicate ones.

    Args:
        located: each task with the place it comes from, for messages.

    Raises:
        DataError: two tasks have one id; the message names both places.
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
