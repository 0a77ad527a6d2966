"""Tasks of an environment service: their ids are all that a run knows before an episode begins."""

from __future__ import annotations

from contextlib import closing

from ajet.environment import protocol
from ajet.environment.client import EnvironmentClient
from ajet.environment.protocol import ServiceRequest, read_task_ids
from ajet.errors import DataError, EnvironmentFault
from ajet.schema.task import Task
from ajet.task_reader.task_reader_base import BaseTaskReader

SECTION = "ajet.task_reader.env_service"
TIMEOUT_S = 60.0


class EnvServiceTaskReader(BaseTaskReader):
    """One task per id that the service lists for a split.

    Args:
        reader_config: has `env_service`.
    """

    needs_services = True

    def get_training_tasks(self) -> list[Task]:
        """The tasks of `training_split`.

        Raises:
            DataError: the service does not list them.
        """
        return self._tasks(self.reader_config.env_service.training_split)

    def get_validation_tasks(self) -> list[Task]:
        """The tasks of `validation_split`. Errors as for training."""
        split = self.reader_config.env_service.validation_split
        return self._tasks(split) if split else []

    def _tasks(self, split: str) -> list[Task]:
        settings = self.reader_config.env_service
        request = ServiceRequest(env_type=settings.env_type, params={"split": split})
        with closing(EnvironmentClient(settings.env_url, timeout_s=TIMEOUT_S)) as client:
            try:
                ids = read_task_ids(client.call(protocol.GET_ENV_PROFILE, request))
            except (EnvironmentFault, ValueError) as error:
                raise DataError(
                    f'{SECTION}: cannot list the tasks of split "{split}": {error}. Start the '
                    "service, or name it in ajet.task_runner.services"
                ) from error
        return [Task(task_id=task_id, env_type=settings.env_type) for task_id in ids]
