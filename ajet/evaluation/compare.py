"""Compares two evaluations task by task."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ajet.evaluation.statistics import MeanWithInterval, TaskScores, difference


@dataclass(slots=True, kw_only=True, frozen=True)
class PairedComparison:
    """What this evaluation has more than another one, over the tasks that both have."""

    num_tasks: int
    """Tasks that both evaluations have."""
    num_missing: int
    """Tasks that only one of them has; they are left out."""
    success: MeanWithInterval
    """Mean difference of the tasks' success rates."""
    reward: MeanWithInterval | None
    """Mean difference of the tasks' mean rewards; None: no task has rewards in both."""
    better: list[str]
    """Ids of the tasks with a higher success rate, largest difference first."""
    worse: list[str]
    """Ids of the tasks with a lower success rate, largest difference first."""


def compare(ours: Sequence[TaskScores], theirs: Sequence[TaskScores]) -> PairedComparison | None:
    """The paired differences, ours minus theirs; None if no task is in both."""
    other = {task.task_id: task for task in theirs}
    pairs = [(task, other[task.task_id]) for task in ours if task.task_id in other]
    if not pairs:
        return None
    changes = {mine.task_id: _success(mine) - _success(their) for mine, their in pairs}
    rewards = [
        float(np.mean(mine.rewards)) - float(np.mean(their.rewards))
        for mine, their in pairs
        if mine.rewards and their.rewards
    ]
    ranked = sorted(changes, key=lambda task_id: changes[task_id])
    return PairedComparison(
        num_tasks=len(pairs),
        num_missing=len(ours) + len(theirs) - 2 * len(pairs),
        success=difference(list(changes.values())),
        reward=difference(rewards) if rewards else None,
        better=[task_id for task_id in reversed(ranked) if changes[task_id] > 0],
        worse=[task_id for task_id in ranked if changes[task_id] < 0],
    )


def _success(task: TaskScores) -> float:
    return task.num_solved / task.num_attempts
