"""Tasks from several sources, each with a reader of its own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from ajet.config.sections.task_reader import MixtureSourceConfig
from ajet.errors import DataError
from ajet.schema.task import Task
from ajet.task_reader.mixed_tasks import MixedPart, MixedTasks
from ajet.task_reader.read_tasks import make_task_reader, training_tasks, validation_tasks
from ajet.task_reader.task_reader_base import BaseTaskReader

SECTION = "ajet.task_reader.mixture.sources"


class MixtureTaskReader(BaseTaskReader):
    """The tasks of several readers. `TaskBatches` mixes them by their weights.

    Args:
        reader_config: has `mixture.sources`.
    """

    def __init__(self, reader_config: Any) -> None:
        super().__init__(reader_config)
        self._configs: list[MixtureSourceConfig] = reader_config.mixture.sources
        self._readers = [make_task_reader(config) for config in self._configs]
        self.needs_services = any(reader.needs_services for reader in self._readers)

    def get_training_tasks(self) -> Sequence[Task]:
        """The training tasks of all sources.

        Raises:
            DataError: a source has none, or cannot be read; the message names it.
        """
        return MixedTasks(self._parts(training_tasks))

    def get_validation_tasks(self) -> Sequence[Task]:
        """The validation tasks of all sources; a source may have none."""
        return MixedTasks(self._parts(validation_tasks))

    def not_ready(self) -> str | None:
        """The reason of the first source that has one."""
        return next((why for reader in self._readers if (why := reader.not_ready())), None)

    def _parts(self, read: Callable[[BaseTaskReader], Sequence[Task]]) -> list[MixedPart]:
        parts = []
        for config, name, reader in zip(
            self._configs, source_names(self._configs), self._readers, strict=True
        ):
            try:
                tasks = read(reader)
            except DataError as error:
                raise DataError(f"{SECTION}, {name}: {error}") from error
            parts.append(MixedPart(name=name, tasks=tasks, schedule=config.schedule()))
        return parts


def source_names(configs: Sequence[MixtureSourceConfig]) -> list[str]:
    """A name for each source: its own, or its type, numbered where several have it."""
    plain = [config.name or config.type.rpartition(">")[2] for config in configs]
    times, seen = Counter(plain), Counter[str]()
    names = []
    for name in plain:
        seen[name] += 1
        names.append(name if times[name] == 1 else f"{name}_{seen[name]}")
    return names
