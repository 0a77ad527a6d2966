"""What a run takes from its user: code and tasks, loaded once by the launcher and handed on."""

from __future__ import annotations

from dataclasses import dataclass

from ajet.config.sections.root import AjetConfig, RootConfig
from ajet.schema.task import Task
from ajet.task_judge import make_judge
from ajet.task_judge.base_judge import Judge
from ajet.task_reader.read_tasks import (
    make_task_reader,
    training_tasks,
    validation_tasks,
)
from ajet.task_reader.task_batches import TaskBatches
from ajet.task_reader.task_reader_base import BaseTaskReader
from ajet.workflow import Workflow, load_workflow


@dataclass(slots=True, kw_only=True, frozen=True)
class UserCode:
    """The user's classes. A process that runs episodes elsewhere loads its own."""

    workflow_class: type[Workflow]
    judge: Judge | None
    """Gives the reward when the workflow returns none."""

    @classmethod
    def load(cls, config: RootConfig) -> UserCode:
        """Import the classes that the configuration names.

        Raises:
            ConfigError: a class cannot be loaded.
            MissingExtraError: one imports a library that one of our extras installs.
        """
        ajet = config.ajet
        return cls(
            workflow_class=load_workflow(ajet.rollout.user_workflow),
            judge=make_judge(ajet.task_judge.judge_class, config),
        )


@dataclass(slots=True, kw_only=True)
class TrainingData:
    """The tasks that a run trains on and is validated on."""

    batches: TaskBatches
    validation: list[Task]
    """At most `rollout.validation.num_tasks`; may be empty."""
    total_steps: int

    @classmethod
    def read(cls, ajet: AjetConfig, reader: BaseTaskReader | None = None) -> TrainingData:
        """Read all tasks.

        Args:
            ajet: the configuration.
            reader: the reader; None: the configured one.

        Raises:
            ConfigError: the reader cannot be loaded.
            DataError: the tasks cannot be read, or are malformed.
        """
        reader = reader or make_task_reader(ajet.task_reader)
        common = ajet.trainer_common
        batches = TaskBatches(
            training_tasks(reader),
            seed=common.seed,
            shuffle=ajet.data.shuffle,
            curriculum=ajet.task_reader.curriculum,
        )
        return cls(
            batches=batches,
            validation=list(validation_tasks(reader)[: ajet.rollout.validation.num_tasks]),
            total_steps=common.total_training_steps
            or batches.num_batches(ajet.data.train_batch_size, common.total_epochs),
        )


@dataclass(slots=True, kw_only=True, frozen=True)
class RunInputs:
    """What a backbone gets besides the configuration."""

    code: UserCode
    data: TrainingData
