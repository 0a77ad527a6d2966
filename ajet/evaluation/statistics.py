"""Numbers of an evaluation, with intervals: means, pass@k, pass^k, and differences of two models.

Tasks are drawn anew (bootstrap over tasks), because attempts at one task depend on each other.
Where all tasks have the same value, a bootstrap would give an interval of width 0: Wilson's
interval is given instead. The seed is fixed, so equal results give equal intervals.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import comb, sqrt
from typing import Any

import numpy as np

NUM_RESAMPLES = 10_000
LEVEL = 0.95
Z = 1.959963984540054
"""Quantile of the normal distribution for `LEVEL`."""


@dataclass(slots=True, kw_only=True, frozen=True)
class MeanWithInterval:
    """A mean over tasks with its interval."""

    value: float
    low: float
    high: float


@dataclass(slots=True, kw_only=True, frozen=True)
class TaskScores:
    """The attempts at one task."""

    task_id: str
    rewards: tuple[float, ...]
    """Of the attempts that have one."""
    num_attempts: int
    num_solved: int
    """A failed attempt solves nothing."""
    num_failed: int


def scores_of(episodes: Sequence[Mapping[str, Any]]) -> list[TaskScores]:
    """The scores of each task, in order of first appearance, from lines of `episodes.jsonl`."""
    by_task: dict[str, list[Mapping[str, Any]]] = {}
    for episode in episodes:
        by_task.setdefault(episode["task_id"], []).append(episode)
    return [
        TaskScores(
            task_id=task_id,
            rewards=tuple(e["reward"] for e in some if e["reward"] is not None),
            num_attempts=len(some),
            num_solved=sum(bool(e["is_success"]) for e in some),
            num_failed=sum(e["outcome"] != "ok" for e in some),
        )
        for task_id, some in by_task.items()
    ]


def estimates_of(tasks: Sequence[TaskScores]) -> dict[str, MeanWithInterval]:
    """Every number of an evaluation by its name: `reward`, `success`, `pass@2`, `pass^2`, ...

    `pass@k`: the chance that at least one of k attempts solves the task, 1 - C(n-c, k) / C(n, k)
    for c of n attempts (arXiv 2107.03374). `pass^k`: the chance that all k attempts solve it,
    C(c, k) / C(n, k) (arXiv 2406.12045). Both are unbiased for any k up to n.

    Args:
        tasks: at least one, all with the same number of attempts.
    """
    attempts = min(task.num_attempts for task in tasks)
    found = {}
    rewarded = [float(np.mean(task.rewards)) for task in tasks if task.rewards]
    if rewarded:
        found["reward"] = estimate(rewarded)
    found["success"] = estimate([task.num_solved / task.num_attempts for task in tasks])
    for k in sizes(attempts):
        found[f"pass@{k}"] = estimate(
            [pass_at(k, task.num_attempts, task.num_solved) for task in tasks]
        )
        found[f"pass^{k}"] = estimate(
            [pass_all(k, task.num_attempts, task.num_solved) for task in tasks]
        )
    return found


def sizes(attempts: int) -> list[int]:
    """The k of pass@k: 2, 4, 8, ... and the number of attempts; none for a single attempt."""
    if attempts < 2:
        return []
    return sorted({2**i for i in range(1, attempts.bit_length()) if 2**i < attempts} | {attempts})


def pass_at(k: int, attempts: int, solved: int) -> float:
    """Chance that `k` of the attempts, drawn without replacement, contain a solved one."""
    return 1.0 - comb(attempts - solved, k) / comb(attempts, k)


def pass_all(k: int, attempts: int, solved: int) -> float:
    """Chance that `k` of the attempts, drawn without replacement, are all solved."""
    return comb(solved, k) / comb(attempts, k)


def estimate(values: Sequence[float]) -> MeanWithInterval:
    """The mean of one value per task, with its interval."""
    array = np.asarray(values, np.float64)
    mean = float(array.mean())
    if (array == array[0]).all():
        is_share = 0.0 <= mean <= 1.0
        low, high = wilson(mean, len(array)) if is_share else (mean, mean)
        return MeanWithInterval(value=mean, low=low, high=high)
    low, high = _bootstrap(array)
    return MeanWithInterval(value=mean, low=low, high=high)


def difference(values: Sequence[float]) -> MeanWithInterval:
    """The mean of the differences between two models, one per task, with its interval."""
    array = np.asarray(values, np.float64)
    low, high = _bootstrap(array)
    return MeanWithInterval(value=float(array.mean()), low=low, high=high)


def wilson(share: float, count: int) -> tuple[float, float]:
    """Wilson's interval of a share of `count` tasks."""
    spread = Z * sqrt(share * (1 - share) / count + Z**2 / (4 * count**2))
    middle, width = share + Z**2 / (2 * count), 1 + Z**2 / count
    return max(0.0, (middle - spread) / width), min(1.0, (middle + spread) / width)


def _bootstrap(values: np.ndarray) -> tuple[float, float]:
    rng = np.random.default_rng(0)
    means = np.empty(NUM_RESAMPLES)
    for start in range(0, NUM_RESAMPLES, 100):  # in parts: the memory does not grow with the tasks
        rows = rng.integers(0, len(values), (100, len(values)))
        means[start : start + 100] = values[rows].mean(axis=1)
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)
