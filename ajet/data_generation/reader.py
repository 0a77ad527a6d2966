"""The reader `data_generation`: makes the tasks if they are not there yet, and reads them."""

from __future__ import annotations

import logging
from typing import Any

from ajet.data_generation.task_files import ABOUT, TaskFiles, require_tasks
from ajet.schema.task import Task
from ajet.task_reader.task_reader_base import BaseTaskReader

logger = logging.getLogger(__name__)


class DataGenerationTaskReader(BaseTaskReader):
    """Tasks that a model writes. Edits of the files in `output_dir` count.

    Args:
        reader_config: has `data_generation`.
    """

    needs_services = True
    """The model may be a service of the run."""

    def __init__(self, reader_config: Any) -> None:
        super().__init__(reader_config)
        self._files = TaskFiles(reader_config.data_generation)
        self._is_ready = False

    def get_training_tasks(self) -> list[Task]:
        """The tasks like the examples.

        Raises:
            DataError: documents or examples cannot be read, or no task is left.
            ModelCallError: too many questions have no usable answer.
        """
        self._get_ready()
        return self._files.training()

    def get_validation_tasks(self) -> list[Task]:
        """The questions about documents, and the examples. Errors as for training."""
        self._get_ready()
        return self._files.validation()

    def not_ready(self) -> str | None:
        """What has to be done before there are tasks."""
        if self._files.is_complete:
            return None
        return "the tasks are not made yet: `ajet generate` makes them, or the start of the run"

    def _get_ready(self) -> None:
        if self._is_ready:
            return
        if not self._files.is_complete:
            report = self._files.make()
            for line in report.lines():
                logger.info("%s", line)
            require_tasks(report)
        elif not self._files.is_made_by_these_settings():
            logger.warning(
                "%s: settings, documents or examples have changed since the tasks were made; the "
                "tasks are used as they are. `ajet generate` makes new ones",
                self._files.folder / ABOUT,
            )
        self._is_ready = True
