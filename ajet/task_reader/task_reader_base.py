"""The base class of task readers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ajet.schema.task import Task


class BaseTaskReader:
    """A source of tasks. Set the class path of your own reader as `ajet.task_reader.type`.

    Args:
        reader_config: the section `ajet.task_reader`, with attribute access.
    """

    needs_services = False
    """Whether tasks can be read only while the services of the run are running."""

    def __init__(self, reader_config: Any) -> None:
        self.reader_config = reader_config

    def get_training_tasks(self) -> Iterable[Task]:
        """The training tasks, in a fixed order; called once per run."""
        raise NotImplementedError(
            f"{type(self).__name__} has no get_training_tasks(): a subclass of BaseTaskReader "
            "(ajet.task_reader.task_reader_base) needs `def get_training_tasks(self)`"
        )

    def not_ready(self) -> str | None:
        """Why tasks cannot be read without costs, for `ajet check`; None: they can."""
        return None

    def get_validation_tasks(self) -> Iterable[Task]:
        """The validation tasks, in a fixed order; may be empty."""
        return []
