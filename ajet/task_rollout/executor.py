"""The protocol of what runs many episodes at once: threads of this process, or Ray actors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from ajet.schema.episode import Episode
from ajet.task_runner.episode_run import Attempt, EpisodeRunner

OnEnded = Callable[[Attempt, Episode], None]


@dataclass(slots=True, kw_only=True, frozen=True)
class EpisodeLimits:
    """Limits on running episodes, from the section `rollout`."""

    num_at_once: int
    """Episodes that run at the same time."""
    timeout_s: float
    """Seconds that one attempt may take."""
    max_retries: int
    """New attempts at an episode after an infrastructure fault."""


class EpisodeExecutor(Protocol):
    """Runs many episodes. One executor serves all rollouts of a run, one after the other."""

    def run(
        self,
        runner: EpisodeRunner,
        attempts: Sequence[Attempt],
        limits: EpisodeLimits,
        on_ended: OnEnded,
    ) -> None:
        """Run all attempts, in any order, and wait for them.

        Args:
            runner: what the episodes share.
            attempts: one for each episode.
            limits: number, time and retries.
            on_ended: called in this thread with each episode that is not tried again.

        Raises:
            TrainingError: nothing is left that could run episodes.
        """
        ...
