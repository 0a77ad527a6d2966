"""Episodes on several nodes: handed out to Ray actors one by one, as places become free."""

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
from ajet.schema.episode import Episode, Failure
from ajet.task_rollout.deadlines import GRACE_S
from ajet.task_rollout.executor import EpisodeLimits
from ajet.task_rollout.workers import OnEnded
from ajet.task_runner.attempt import Attempt
from ajet.task_runner.episode_runner import EpisodeRunner

logger = logging.getLogger(__name__)

SLACK_S = 60.0
"""For an actor to start and to answer, beyond what its episode may take."""
_POLL_S = 1.0


@dataclass(slots=True, eq=False)
class _RunningActor:
    """An actor, and after its end the one that takes its place."""

    actor: ActorHandle
    under_way: int = 0
    was_replaced: bool = False


@dataclass(slots=True, frozen=True)
class _Call:
    attempt: Attempt
    seat: _RunningActor
    actor: ActorHandle
    deadline_s: float


class ActorExecutor:
    """Runs episodes in actors that have `run(attempt, defaults, limits)`.

    The episodes of an actor that ends are tried again elsewhere, as after any infrastructure fault.
    It is replaced once. One that does not answer in the time that an episode may take is ended.

    Args:
        make_actor: starts one.
        num_actors: of them.
    """

    def __init__(self, make_actor: Callable[[], ActorHandle], num_actors: int) -> None:
        self._make_actor = make_actor
        self._seats = [_RunningActor(make_actor()) for _ in range(num_actors)]

    def run(
        self,
        runner: EpisodeRunner,
        attempts: Sequence[Attempt],
        limits: EpisodeLimits,
        on_ended: OnEnded,
    ) -> None:
        """Run all attempts; hand each final episode to `on_ended`, in this thread.

        Of the runner, only what requests name that say nothing else is sent along.

        Raises:
            TrainingError: no actor is left, or one failed by a fault of ours.
        """
        waiting, calls = deque(attempts), dict[ObjectRef, _Call]()
        defaults = runner.gateway.defaults
        patience_s = (limits.max_retries + 1) * (limits.timeout_s + GRACE_S) + SLACK_S
        while waiting or calls:
            while waiting and len(calls) < limits.num_at_once:
                seat, attempt = self._freest_seat(), waiting.popleft()
                reference = seat.actor.run.remote(attempt, defaults, limits)
                seat.under_way += 1
                deadline_s = time.monotonic() + patience_s
                calls[reference] = _Call(attempt, seat, seat.actor, deadline_s)
            done, _ = ray.wait(list(calls), num_returns=1, timeout=_POLL_S)
            for reference in done:
                call = calls.pop(reference)
                call.seat.under_way -= 1
                episode = self._result(reference, call)
                if episode is None and call.attempt.retries < limits.max_retries:
                    again = replace(call.attempt, retries=call.attempt.retries + 1)
                    waiting.appendleft(again)
                else:
                    on_ended(call.attempt, episode or _lost(call.attempt))
            for call in calls.values():
                if time.monotonic() > call.deadline_s:
                    ray.kill(call.actor)

    def _freest_seat(self) -> _RunningActor:
        if not self._seats:
            raise TrainingError("every process that ran episodes has ended, twice: see logs/ray")
        return min(self._seats, key=lambda seat: seat.under_way)

    def _result(self, reference: ObjectRef, call: _Call) -> Episode | None:
        """None: the actor is gone."""
        try:
            episode: Episode = cloudpickle.loads(ray.get(reference))
            return episode
        except RayActorError as error:
            self._replace(call, error)
            return None
        except RayTaskError as error:
            raise TrainingError(f"an episode could not be run: {error.cause!r}") from error

    def _replace(self, call: _Call, error: RayActorError) -> None:
        seat = call.seat
        if seat.actor is not call.actor or seat not in self._seats:
            return  # another of its episodes told it
        if seat.was_replaced:
            logger.error("a process that runs episodes ended again, and is given up: %s", error)
            self._seats.remove(seat)
            return
        logger.warning("a process that runs episodes ended; another takes its place: %s", error)
        seat.actor, seat.was_replaced = self._make_actor(), True


def _lost(attempt: Attempt) -> Episode:
    return Episode(
        episode_id=attempt.episode_id,
        task=attempt.task,
        repeat_index=attempt.repeat_index,
        retries=attempt.retries,
        failure=Failure(kind="engine_error", message="the process that ran it ended"),
        started_s=time.time(),
        ended_s=time.time(),
    )
