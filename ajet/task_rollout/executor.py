"""Where a rollout's episodes run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from ajet.task_rollout.workers import OnEnded, WorkerPool
from ajet.task_runner.attempt import Attempt
from ajet.task_runner.episode_runner import EpisodeRunner


@dataclass(slots=True, kw_only=True, frozen=True)
class EpisodeLimits:
    """Of the section `rollout`."""

    num_at_once: int
    timeout_s: float
    """Of one attempt."""
    max_retries: int
    """New attempts after an infrastructure fault."""


class EpisodeExecutor(Protocol):
    """Runs episodes, many at once."""

    def run(
        self,
        runner: EpisodeRunner,
        attempts: Sequence[Attempt],
        limits: EpisodeLimits,
        on_ended: OnEnded,
    ) -> None:
        """Run all attempts, in any order; hand each final episode to `on_ended`, in this thread.

        Raises:
            TrainingError: there is nothing left to run them.
        """
        ...


class ThreadExecutor:
    """Those of this process: each episode has one of its own."""

    def run(
        self,
        runner: EpisodeRunner,
        attempts: Sequence[Attempt],
        limits: EpisodeLimits,
        on_ended: OnEnded,
    ) -> None:
        """Run all attempts; see `Workers.run`."""
        workers = WorkerPool(
            runner, episode_timeout_s=limits.timeout_s, max_retries=limits.max_retries
        )
        workers.run(attempts, limits.num_at_once, on_ended)
