"""The reader `tracing`: imports what is new in the logs, and gives all tasks in two splits."""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path

from ajet.errors import DataError
from ajet.schema.task import Task
from ajet.task_reader.task_reader_base import BaseTaskReader
from ajet.tracing.import_traces import KEY, import_traces, read_tasks
from ajet.tracing.logged_calls import key_of_task

logger = logging.getLogger(__name__)


class TracingTaskReader(BaseTaskReader):
    """Tasks from logs. A task may be edited or removed in the output file; the edit stays.

    Args:
        reader_config: has `tracing`.
    """

    _splits: tuple[list[Task], list[Task]] | None = None

    def get_training_tasks(self) -> list[Task]:
        """The tasks of the conversations that are not for validation.

        Raises:
            DataError: the logs cannot be read, or have no task.
        """
        return self._read()[0]

    def get_validation_tasks(self) -> list[Task]:
        """The tasks of the other conversations. Errors as for training."""
        return self._read()[1]

    def _read(self) -> tuple[list[Task], list[Task]]:
        if self._splits is None:
            settings = self.reader_config.tracing
            report = import_traces(settings)
            for line in report.lines():
                logger.info("%s", line)
            tasks = read_tasks(Path(settings.train_output_path))
            if not tasks:
                raise DataError(f"{KEY}: the logs have no task: {'; '.join(report.lines())}")
            self._splits = split(tasks, settings.validation_share, settings.split_seed)
        return self._splits


def split(tasks: list[Task], share: float, seed: int) -> tuple[list[Task], list[Task]]:
    """Training and validation tasks, by a hash of the conversation.

    Tasks that are added later change nothing for the others. If no training task would be left, as
    may happen with very few conversations, all tasks are training tasks.
    """
    training: list[Task] = []
    validation: list[Task] = []
    for task in tasks:
        conversation = str(task.metadata.get("conversation") or key_of_task(task))
        number = hashlib.sha256(f"{seed} {conversation}".encode()).digest()[:8]
        is_validation = int.from_bytes(number, "big") < share * 2**64
        (validation if is_validation else training).append(task)
    if not training:
        logger.warning(
            "%s: all %d tasks are in the validation split: they are used for training instead; "
            "add logs, or lower validation_share",
            KEY,
            len(tasks),
        )
        return tasks, []
    return training, validation
