"""Generated tasks, to test a workflow without data."""

from __future__ import annotations

import random

from ajet.schema.task import Task
from ajet.task_reader.task_reader_base import BaseTaskReader


class RandomDummyTaskReader(BaseTaskReader):
    """Sums of random numbers, the same in every run.

    A workflow that needs a seed of its own for each task, such as a game, takes
    `metadata["random_number"]`, an integer: even for training, odd for validation.

    Args:
        reader_config: has `random_dummy.num_tasks` and `.num_validation_tasks`.
    """

    def get_training_tasks(self) -> list[Task]:
        """`num_tasks` tasks whose answer is in `metadata["answer"]`."""
        return _tasks("training", self.reader_config.random_dummy.num_tasks)

    def get_validation_tasks(self) -> list[Task]:
        """`num_validation_tasks` others."""
        return _tasks("validation", self.reader_config.random_dummy.num_validation_tasks)


def _tasks(split: str, count: int) -> list[Task]:
    rng = random.Random(f"random_dummy {split}")
    tasks = []
    for index in range(count):
        left, right = rng.randint(1, 999), rng.randint(1, 999)
        number = 2 * rng.randint(0, 499_999) + (split == "validation")
        metadata = {"answer": str(left + right), "random_number": number}
        query = f"What is {left} + {right}?"
        tasks.append(Task(task_id=f"{split}-{index}", main_query=query, metadata=metadata))
    return tasks
