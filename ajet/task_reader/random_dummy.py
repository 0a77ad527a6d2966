"""Generated tasks, to test a workflow without data."""

from __future__ import annotations

import random

from ajet.schema.task import Task
from ajet.task_reader.task_reader_base import BaseTaskReader


class RandomDummyTaskReader(BaseTaskReader):
    """Sums of random numbers, the same in every run.

    Args:
        reader_config: `random_dummy.num_tasks` is the number of tasks in each split.
    """

    def get_training_tasks(self) -> list[Task]:
        """The training sums; the answer is in `metadata["answer"]`."""
        return self._tasks("training")

    def get_validation_tasks(self) -> list[Task]:
        """As many other sums."""
        return self._tasks("validation")

    def _tasks(self, split: str) -> list[Task]:
        rng = random.Random(f"random_dummy {split}")
        return [
            _sum(f"{split}-{index}", rng.randint(1, 999), rng.randint(1, 999))
            for index in range(self.reader_config.random_dummy.num_tasks)
        ]


def _sum(task_id: str, left: int, right: int) -> Task:
    return Task(
        task_id=task_id,
        main_query=f"What is {left} + {right}?",
        metadata={"answer": str(left + right)},
    )
