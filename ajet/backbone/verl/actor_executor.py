"""Runs episodes in Ray actors on several nodes."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import ray
from ray import ObjectRef, cloudpickle
from ray.actor import ActorHandle
from ray.exceptions import RayActorError, RayTaskError

from ajet.errors import TrainingError
from ajet.schema.episode import Episode, Failure, Waiting
from ajet.task_rollout.workers import GRACE_S, EpisodeLimits, OnEnded
from ajet.task_runner.episode_run import Attempt, EpisodeRunner

logger = logging.getLogger(__name__)

SLACK_S = 60.0
"""Seconds for an actor to start and to answer, beyond the time that its episode may take."""
_POLL_S = 1.0


@dataclass(slots=True, eq=False)
class _RunningActor:
    """A place for an actor: after the actor's death, its replacement takes the place."""

    actor: ActorHandle
    num_running: int = 0
    was_replaced: bool = False


@dataclass(slots=True, frozen=True)
class _Call:
    attempt: Attempt
    running: _RunningActor
    actor: ActorHandle
    """The actor that got the call; `running.actor` may be its replacement by now."""
    deadline_s: float
    started_s: float
    """Unix time, seconds."""


class ActorExecutor:
    """Runs episodes in actors that have `run(attempt, defaults, limits)`.

    If an actor dies, its episodes are retried in other actors, and it is replaced once. An actor
    that does not answer within the time that an episode may take is killed.

    Args:
        make_actor: starts an actor.
        num_actors: how many actors to start.
    """

    def __init__(self, make_actor: Callable[[], ActorHandle], num_actors: int) -> None:
        self._make_actor = make_actor
        self._calls: dict[ObjectRef, _Call] = {}
        self._actors = [_RunningActor(make_actor()) for _ in range(num_actors)]

    def run(
        self,
        runner: EpisodeRunner,
        attempts: Sequence[Attempt],
        limits: EpisodeLimits,
        on_ended: OnEnded,
    ) -> None:
        """Run all attempts and call `on_ended` with each final episode, in the caller's thread.

        The actors have runners of their own; only the sampling defaults of `runner` are sent.

        Raises:
            TrainingError: no actor is left, or an actor raised an error that is not the user's.
        """
        waiting, calls = deque(attempts), dict[ObjectRef, _Call]()
        defaults = runner.gateway.defaults
        patience_s = (limits.max_retries + 1) * (limits.timeout_s + GRACE_S) + SLACK_S
        self._calls = calls
        while waiting or calls:
            while waiting and len(calls) < limits.num_at_once:
                running, attempt = self._least_busy(), waiting.popleft()
                reference = running.actor.run.remote(attempt, defaults, limits)
                running.num_running += 1
                deadline_s = time.monotonic() + patience_s
                calls[reference] = _Call(
                    attempt, running, running.actor, deadline_s, started_s=time.time()
                )
            done, _ = ray.wait(list(calls), num_returns=1, timeout=_POLL_S)
            for reference in done:
                call = calls.pop(reference)
                call.running.num_running -= 1
                episode = self._result(reference, call)
                if episode is None and call.attempt.retries < limits.max_retries:
                    again = replace(call.attempt, retries=call.attempt.retries + 1)
                    waiting.appendleft(again)
                else:
                    on_ended(call.attempt, episode or _lost(call.attempt))
            for call in calls.values():
                if time.monotonic() > call.deadline_s:
                    ray.kill(call.actor)

    def waiting(self) -> list[Waiting]:
        """The episodes that run in actors. In which call they are, only the actor knows."""
        return [
            Waiting(
                what="Ray actor",
                who=f"task {call.attempt.task.task_id}, episode {call.attempt.episode_id[:8]}",
                since_s=call.started_s,
            )
            for call in list(self._calls.values())
        ]

    def _least_busy(self) -> _RunningActor:
        if not self._actors:
            raise TrainingError(
                "every process that ran episodes has ended, and so did its replacement; "
                "see logs/ray in the run's folder"
            )
        return min(self._actors, key=lambda running: running.num_running)

    def _result(self, reference: ObjectRef, call: _Call) -> Episode | None:
        """The episode of a finished call; None if its actor died."""
        try:
            episode: Episode = cloudpickle.loads(ray.get(reference))
            return episode
        except RayActorError as error:
            self._replace(call, error)
            return None
        except RayTaskError as error:
            raise TrainingError(f"an episode could not be run: {error.cause!r}") from error

    def _replace(self, call: _Call, error: RayActorError) -> None:
        running = call.running
        # All calls of a dead actor fail. The first one replaces it, the others find it replaced.
        if running.actor is not call.actor or running not in self._actors:
            return
        if running.was_replaced:
            logger.error("a process that runs episodes ended again; not replacing it: %s", error)
            self._actors.remove(running)
            return
        logger.warning("a process that runs episodes ended; starting another one: %s", error)
        running.actor, running.was_replaced = self._make_actor(), True


def _lost(attempt: Attempt) -> Episode:
    return Episode(
        episode_id=attempt.episode_id,
        task=attempt.task,
        repeat_index=attempt.repeat_index,
        retries=attempt.retries,
        failure=Failure(kind="engine_error", message="the process that ran the episode ended"),
        started_s=time.time(),
        ended_s=time.time(),
    )
