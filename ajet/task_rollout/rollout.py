"""Runs the groups of a step or the tasks of an evaluation."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache

from ajet.class_path import working_directory
from ajet.schema.episode import Episode, Group
from ajet.schema.task import Task
from ajet.task_judge.base_judge import BaseGroupJudge
from ajet.task_rollout.group_judging import GroupJudging, waiting_groups
from ajet.task_rollout.rollout_report import check_failures
from ajet.task_rollout.workers import EpisodeExecutor, EpisodeLimits, ThreadExecutor
from ajet.task_runner.episode_run import Attempt, EpisodeRunner
from ajet.task_runner.waiting import Waiting

logger = logging.getLogger(__name__)


@dataclass(slots=True, kw_only=True, frozen=True)
class Rollout:
    """Runs groups of episodes, many at once. The section `rollout` explains the limits."""

    runner: EpisodeRunner
    seed: int
    max_env_worker: int = 64
    episode_timeout_s: float = 1800.0
    max_retries: int = 2
    max_failure_share: float = 0.5
    executor: EpisodeExecutor = field(default_factory=ThreadExecutor)
    """Runs the episodes; by default in threads of this process."""

    def waiting(self) -> list[Waiting]:
        """What running episodes, and groups that are being judged, wait for now. Any thread."""
        return [*self.executor.waiting(), *waiting_groups()]

    def run(
        self,
        tasks: Sequence[Task],
        *,
        num_repeat: int,
        tag: str,
        on_episode_done: Callable[[Episode], None] | None = None,
    ) -> list[Group]:
        """Run every task `num_repeat` times and wait until all episodes have ended.

        Args:
            tasks: each makes one group, in this order.
            num_repeat: episodes per group.
            tag: name of the phase, such as `train/000012`; episode ids and seeds derive from it.
            on_episode_done: called in this thread with each episode when it ends.

        Raises:
            TrainingError: more than `max_failure_share` of the episodes failed.
        """
        attempts = [
            Attempt(seed=self.seed, tag=tag, task=task, group_index=group, repeat_index=repeat)
            for group, task in enumerate(tasks)
            for repeat in range(num_repeat)
        ]
        groups = [Group(task=task) for task in tasks]
        done = on_episode_done or (lambda _: None)
        judging = None
        if isinstance(self.runner.judge, BaseGroupJudge):
            judging = GroupJudging(self.runner, tag, self.episode_timeout_s)

        def keep(attempt: Attempt, episode: Episode) -> None:
            group = groups[attempt.group_index]
            group.episodes.append(episode)
            if not episode.awaits_group:
                done(episode)
            if judging:
                if len(group.episodes) == num_repeat:
                    judging.start(group)
                for judged in judging.ended():
                    done(judged)

        limits = EpisodeLimits(
            num_at_once=self.max_env_worker,
            timeout_s=self.episode_timeout_s,
            max_retries=self.max_retries,
        )
        with _kept_directory():
            self.executor.run(self.runner, attempts, limits, keep)
            for judged in judging.finish() if judging else ():
                done(judged)
        for group in groups:
            group.episodes.sort(key=lambda episode: episode.repeat_index)
        check_failures(groups, self.max_failure_share)
        return groups


@contextmanager
def _kept_directory() -> Iterator[None]:
    """Go back to the working directory, which all threads share, if user code has left it.

    The directory of an episode is often gone when the episode has ended, and what the run does next
    would fail in it.
    """
    here = working_directory()
    try:
        yield
    finally:
        if here and working_directory() != here:
            os.chdir(here)
            _warn_of_directory(here)


@cache
def _warn_of_directory(here: str) -> None:
    logger.warning(
        "user code changed the working directory, which all episodes of a process share; the run "
        "went back to %s. Use whole paths, or the cwd of a child process, instead of os.chdir(), "
        "or set ajet.task_runner.isolation: process",
        here,
    )
