"""The order of training tasks: shuffled by seed, and resumable."""

from __future__ import annotations

import hashlib
import json
import random
from array import array
from collections.abc import Sequence
from typing import Any

from ajet.errors import CheckpointError
from ajet.schema.task import Task
from ajet.task_reader.task_index import TaskIndex


class TaskBatches:
    """An endless stream of epochs, each a permutation that depends only on (seed, epoch).

    No task is left out: a batch that an epoch cannot fill continues with the next epoch.

    Args:
        tasks: at least one, with unique ids.
        seed: the seed of the run.
        shuffle: False keeps the order of `tasks` in every epoch.
    """

    def __init__(self, tasks: Sequence[Task], *, seed: int, shuffle: bool = True) -> None:
        assert tasks, "readers refuse an empty data set"
        self.tasks = tasks
        """All tasks, in the reader's order."""
        self._seed = seed
        self._shuffle = shuffle
        self._num_taken = 0
        self._order = self._order_of(0)
        self._fingerprint = _fingerprint(tasks, seed, shuffle)

    @property
    def epoch(self) -> int:
        """Number of completed epochs."""
        return self._num_taken // len(self.tasks)

    def num_batches(self, size: int, epochs: int) -> int:
        """Number of batches of `size` in this many epochs; at least 1."""
        return max(1, len(self.tasks) * epochs // size)

    def next_batch(self, size: int) -> list[Task]:
        """The next `size` tasks of the stream."""
        return [self._next() for _ in range(size)]

    def state(self) -> dict[str, Any]:
        """The position in the stream, as JSON values."""
        return {"num_taken": self._num_taken, "stream": self._fingerprint}

    def restore(self, state: dict[str, Any]) -> None:
        """Continue after the position of `state`.

        Raises:
            CheckpointError: the state belongs to other tasks, another order or another seed.
        """
        if state["stream"] != self._fingerprint:
            raise CheckpointError(
                "cannot resume: the training tasks, their order, trainer_common.seed or "
                "data.shuffle changed since the checkpoint was written"
            )
        self._num_taken = state["num_taken"]
        self._order = self._order_of(self.epoch)

    def _next(self) -> Task:
        task = self.tasks[self._order[self._num_taken % len(self.tasks)]]
        self._num_taken += 1
        if self._num_taken % len(self.tasks) == 0:
            self._order = self._order_of(self.epoch)
        return task

    def _order_of(self, epoch: int) -> array[int]:
        order = array("q", range(len(self.tasks)))  # 8 bytes per task
        if self._shuffle:
            random.Random(f"task order {self._seed} {epoch}").shuffle(order)
        return order


def _fingerprint(tasks: Sequence[Task], seed: int, shuffle: bool) -> str:
    rows = tasks.fingerprint if isinstance(tasks, TaskIndex) else [task.task_id for task in tasks]
    return hashlib.sha256(json.dumps([seed, shuffle, rows]).encode()).hexdigest()[:16]
