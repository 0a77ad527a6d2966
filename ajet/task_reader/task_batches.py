"""The order of training tasks: by seed, weights and curriculum, and resumable."""

from __future__ import annotations

import hashlib
import json
import random
from array import array
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from ajet.config.sections.task_reader import CurriculumConfig, weight_at
from ajet.errors import CheckpointError, DataError
from ajet.schema.episode import Group, TaskResult
from ajet.schema.task import Task
from ajet.task_reader.curriculum import ByCurriculum, number_order, pick
from ajet.task_reader.mixed_tasks import MixedPart, MixedTasks
from ajet.task_reader.success_record import SuccessRecord
from ajet.task_reader.task_index import TaskIndex

CURRICULUM_KEY = "ajet.task_reader.curriculum"
LARGE = 10_000
"""Sources with more tasks are shuffled by numpy. Not a setting: it decides their order."""


class TaskBatches:
    """An endless stream of the training tasks.

    Without a curriculum, the tasks of a source come in epochs, each a permutation that depends only
    on (seed, epoch), and no task is left out: a batch that an epoch cannot fill continues with the
    next epoch. Several sources are mixed by their weights.

    Args:
        tasks: at least one, with unique ids.
        seed: the seed of the run.
        shuffle: False keeps the order of `tasks` in every epoch.
        curriculum: chooses tasks by their results; None, or without a policy: there is none.
    """

    def __init__(
        self,
        tasks: Sequence[Task],
        *,
        seed: int,
        shuffle: bool = True,
        curriculum: CurriculumConfig | None = None,
    ) -> None:
        assert tasks, "readers refuse an empty data set"
        self.tasks = tasks
        """All tasks, in the reader's order."""
        self._seed = seed
        self._shuffle = shuffle
        self._curriculum = curriculum if curriculum and curriculum.policy else None
        self._parts = parts_of(tasks)
        self._record = SuccessRecord(curriculum or CurriculumConfig())
        self._choices = [self._choice(number) for number in range(len(self._parts))]
        self._taken = [0] * len(self._parts)
        self._running: dict[str, int] = {}
        self._num_results = 0
        self._fingerprint = _fingerprint(tasks, seed, shuffle)

    @property
    def uses_results(self) -> bool:
        """Whether results are kept: for a curriculum, or to count the sources of a mixture."""
        return self._curriculum is not None or len(self._parts) > 1

    @property
    def num_taken(self) -> int:
        """Number of tasks that were taken so far."""
        return sum(self._taken)

    @property
    def epoch(self) -> int:
        """Number of completed epochs."""
        return self.num_taken // len(self.tasks)

    def num_batches(self, size: int, epochs: int) -> int:
        """Number of batches of `size` in this many epochs; at least 1."""
        return max(1, len(self.tasks) * epochs // size)

    def next_batch(self, size: int, step: int = 1) -> list[Task]:
        """The next `size` tasks of the stream.

        Args:
            size: number of tasks.
            step: the training step, for weights that change during the run.
        """
        return [self._next(step) for _ in range(size)]

    def indices_of(self, tasks: Iterable[Task]) -> list[int]:
        """The places of tasks whose results have not come yet; empty if results are not used."""
        return [self._running[task.task_id] for task in tasks] if self.uses_results else []

    def results_of(self, groups: Sequence[Group]) -> list[TaskResult]:
        """The results of a step, for `observe`; empty if results are not used."""
        indices = self.indices_of(group.task for group in groups)
        return [TaskResult.of(*pair) for pair in zip(groups, indices, strict=False)]

    def observe(self, step: int, results: Sequence[TaskResult]) -> dict[str, float]:
        """Take in the results of a step and return metrics of its tasks."""
        if not results:
            return {}
        metrics = self._source_metrics(results)
        if self._curriculum:
            metrics |= self._record.metrics(results, len(self.tasks))
        self._take_in(step, results)
        return metrics

    def state(self) -> dict[str, Any]:
        """The position in the stream, as JSON values."""
        state = {"num_taken": self.num_taken, "stream": self._fingerprint}
        if len(self._parts) > 1:
            state["taken"] = list(self._taken)
        if self._curriculum:
            state["num_results"] = self._num_results
        return state

    def restore(
        self, state: dict[str, Any], results: Iterable[tuple[int, TaskResult]] = ()
    ) -> None:
        """Continue after the position of `state`.

        Args:
            state: what `state` returned.
            results: all results up to there, each with its step, in the order of the steps.

        Raises:
            CheckpointError: the state belongs to other tasks, another order or another seed, or
                results are missing.
        """
        self.require_same(state)
        self._taken = list(state.get("taken", [state["num_taken"]]))
        for step, result in results:
            self._take_in(step, [result])
        expected = state.get("num_results", 0)
        if self._curriculum and self._num_results < expected:
            raise CheckpointError(
                f"cannot resume: the run's folder has {self._num_results} results of tasks, but "
                f"the curriculum had {expected} when the checkpoint was written: put the file "
                f"task_success.jsonl back, or set {CURRICULUM_KEY}.policy to null"
            )

    def require_same(self, state: dict[str, Any]) -> None:
        """Check that `state` is a position in the stream of these tasks.

        Raises:
            CheckpointError: it belongs to other tasks, another order or another seed.
        """
        if state.get("stream") != self._fingerprint or type(state.get("num_taken")) is not int:
            raise CheckpointError(
                "cannot resume: the training tasks, their order, trainer_common.seed or "
                "data.shuffle changed since the checkpoint was written"
            )

    def _next(self, step: int) -> Task:
        number = self._source_of_next(step)
        index = self._parts[number].start + self._choices[number].take(self._taken[number])
        self._taken[number] += 1
        task = self.tasks[index]
        if self.uses_results:
            self._running[task.task_id] = index
        return task

    def _source_of_next(self, step: int) -> int:
        if len(self._parts) == 1:
            return 0
        weights = {str(i): weight_at(part.schedule, step) for i, part in enumerate(self._parts)}
        return int(pick(weights, self.num_taken))

    def _choice(self, number: int) -> EveryTask | ByCurriculum:
        part = self._parts[number]
        seed = str(self._seed) if len(self._parts) == 1 else f"{self._seed} source {number}"
        every = EveryTask(len(part.tasks), seed, shuffle=self._shuffle)
        if self._curriculum is None:
            return every
        order = every.order_of(0)
        if key := self._curriculum.difficulty_key:
            order = number_order(len(order), lambda i: _difficulty(part.tasks[i], key), order)
        return ByCurriculum(
            self._curriculum, self._record, start=part.start, new_order=order, seed=seed
        )

    def _take_in(self, step: int, results: Sequence[TaskResult]) -> None:
        self._num_results += len(results)
        self._record.observe(step, results)
        for result in results:
            self._running.pop(result.task_id, None)
        for choice in self._choices:
            if isinstance(choice, ByCurriculum):
                choice.record_changed([result.index for result in results])

    def _source_metrics(self, results: Sequence[TaskResult]) -> dict[str, float]:
        """Shares of the sources in the step's tasks."""
        if len(self._parts) == 1:
            return {}
        drawn = Counter(
            part.name
            for result in results
            for part in self._parts
            if part.start <= result.index < part.end
        )
        return {
            f"curriculum/from/{part.name}": drawn[part.name] / len(results) for part in self._parts
        }


class EveryTask:
    """An endless stream of epochs, each a permutation that depends only on seed and epoch.

    Args:
        count: number of tasks.
        seed: of the permutations.
        shuffle: False keeps the order of the tasks in every epoch.
    """

    def __init__(self, count: int, seed: str, *, shuffle: bool) -> None:
        self._count = count
        self._seed = seed
        self._shuffle = shuffle
        self._epoch = 0
        self._order = self.order_of(0)

    def take(self, number: int) -> int:
        """The index at this position of the stream."""
        epoch, place = divmod(number, self._count)
        if epoch != self._epoch:
            self._epoch, self._order = epoch, self.order_of(epoch)
        return self._order[place]

    def order_of(self, epoch: int) -> array[int]:
        """The indices of an epoch."""
        order = array("q", range(self._count))  # 8 bytes per task
        seed = f"task order {self._seed} {epoch}"
        if self._shuffle and self._count <= LARGE:
            random.Random(seed).shuffle(order)
        elif self._shuffle:  # the same in numpy: a hundredth of the time
            digest = hashlib.sha256(seed.encode()).digest()
            # The raw numbers of this generator are the same in every version of numpy.
            keys = np.random.PCG64(int.from_bytes(digest)).random_raw(self._count)
            order = array("q", np.argsort(keys, kind="stable").tobytes())
        return order


def parts_of(tasks: Sequence[Task]) -> list[MixedPart]:
    """The sources of the tasks; one, if they are no mixture."""
    if isinstance(tasks, MixedTasks):
        return tasks.parts
    return [MixedPart(name="", tasks=tasks, schedule={1: 1.0}, start=0)]


def _difficulty(task: Task, key: str) -> float:
    value = task.metadata.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise DataError(
            f"{CURRICULUM_KEY}.difficulty_key: task {task.task_id} has {value!r} as "
            f'metadata["{key}"], expected a number'
        )
    return float(value)


def _fingerprint(tasks: Sequence[Task], seed: int, shuffle: bool) -> str:
    rows: Any
    if isinstance(tasks, MixedTasks):
        rows = [[part.name, _rows(part.tasks)] for part in tasks.parts]
    else:
        rows = _rows(tasks)
    return hashlib.sha256(json.dumps([seed, shuffle, rows]).encode()).hexdigest()[:16]


def _rows(tasks: Sequence[Task]) -> str | list[str]:
    return tasks.fingerprint if isinstance(tasks, TaskIndex) else [task.task_id for task in tasks]
