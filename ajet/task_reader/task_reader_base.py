"""What every source of tasks is."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ajet.schema.task import Task


class BaseTaskReader:
    """A source of tasks. Users' own are named in `ajet.task_reader.type` by their class path.

    Args:
        reader_config: the section `ajet.task_reader`, with attribute access.
    """

    needs_services = False
    """Whether the tasks can be read only when the services of the run are running."""

    def __init__(self, reader_config: Any) -> None:
        self.reader_config = reader_config

    def get_training_tasks(self) -> Iterable[Task]:
        """The tasks to train on, in a fixed order; it is called once for a run."""
        raise NotImplementedError(f"{type(self).__name__} has no get_training_tasks()")

    def get_validation_tasks(self) -> Iterable[Task]:
        """The tasks to evaluate on, in a fixed order; none if there are none."""
        return []
