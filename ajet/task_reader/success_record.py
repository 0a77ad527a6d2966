"""How often each training task was solved so far, and what follows for its difficulty."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean

from ajet.config.sections.task_reader import CurriculumConfig
from ajet.schema.episode import TaskResult

NEW, HARD, MEDIUM, EASY, SET_ASIDE = "new", "hard", "medium", "easy", "set_aside"
POOLS = (NEW, HARD, MEDIUM, EASY, SET_ASIDE)


@dataclass(slots=True, kw_only=True)
class TriedTask:
    """What is known about a task that was tried."""

    success: float | None = None
    """Estimate of its success rate; None: each of its episodes failed."""
    solved_in_a_row: int = 0
    """Successful episodes since the last one without success."""
    step: int = 0
    """The step in which it was tried last."""


class SuccessRecord:
    """The tasks that were tried, by their index. It depends only on the results, step by step.

    Args:
        settings: the limits of the pools.
    """

    def __init__(self, settings: CurriculumConfig) -> None:
        self._settings = settings
        self.tried: dict[int, TriedTask] = {}

    def observe(self, step: int, results: Iterable[TaskResult]) -> None:
        """Take in the results of a step.

        Half of an estimate comes from the newest result: the policy has changed since the others.
        """
        for result in results:
            known = self.tried.setdefault(result.index, TriedTask())
            known.step = step
            if result.episodes == 0:
                continue
            now = result.solved / result.episodes
            known.success = now if known.success is None else (known.success + now) / 2
            is_solved = result.solved == result.episodes
            known.solved_in_a_row = known.solved_in_a_row + result.episodes if is_solved else 0

    def pool_of(self, index: int) -> str:
        """The pool that a task belongs to, one of `POOLS`."""
        known = self.tried.get(index)
        if known is None:
            return NEW
        if known.solved_in_a_row >= self._settings.set_aside_after:
            return SET_ASIDE
        if known.success is None or known.success <= self._settings.hard_up_to:
            return HARD
        return EASY if known.success >= self._settings.easy_from else MEDIUM

    def metrics(self, results: Sequence[TaskResult], num_tasks: int) -> dict[str, float]:
        """The step's tasks and all tasks by pool, before `results` are taken in.

        Args:
            results: of the step.
            num_tasks: number of training tasks.
        """
        sizes = Counter(self.pool_of(index) for index in self.tried)
        sizes[NEW] = num_tasks - len(self.tried)
        drawn = Counter(self.pool_of(result.index) for result in results)
        metrics: dict[str, float] = {f"curriculum/{pool}": sizes[pool] for pool in POOLS}
        for pool in POOLS:
            metrics[f"curriculum/drawn_{pool}"] = drawn[pool] / max(1, len(results))
        rates = [known.success for known in self.tried.values() if known.success is not None]
        if rates:
            metrics["curriculum/success_mean"] = fmean(rates)
        return metrics
