"""Worker threads, each running one episode after the other on an event loop of its own.

Blocking user code therefore stalls nobody else. Attempts start in a fixed order, and the engine's
session of the next one is opened before that of the finished one is closed: so the number of open
sessions, by which a lockstep engine knows whom to wait for, depends on which episodes have ended
and not on timing.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from ajet.schema.episode import INFRASTRUCTURE_FAULTS, Episode, Failure
from ajet.task_rollout.deadlines import GRACE_S, Deadline
from ajet.task_rollout.new_loop import run_in_new_loop
from ajet.task_runner.attempt import Attempt
from ajet.task_runner.episode_run import EpisodeRun
from ajet.task_runner.episode_runner import EpisodeRunner
from ajet.task_runner.failures import failure_of, stack_of

logger = logging.getLogger(__name__)

OnEnded = Callable[[Attempt, Episode], None]


@dataclass(slots=True, kw_only=True, eq=False)
class _Running:
    """An episode under way."""

    run: EpisodeRun
    deadline: Deadline
    thread: threading.Thread | None = None
    """None: it has not begun, or it broke down."""
    episode: Episode | None = None
    """Set when it has ended, while its loop may still be closing."""


class WorkerPool:
    """Runs attempts on threads, for the one thread that waits for them. Used once.

    Args:
        runner: makes the episodes.
        episode_timeout_s: of one attempt.
        max_retries: new attempts after an infrastructure fault.
    """

    def __init__(
        self, runner: EpisodeRunner, *, episode_timeout_s: float, max_retries: int
    ) -> None:
        self._runner = runner
        self._engine = runner.gateway.engine
        self._episode_timeout_s = episode_timeout_s
        self._max_retries = max_retries
        self._changed = threading.Condition()
        """Guards what follows; notified for the waiting thread."""
        self._waiting: deque[Attempt] = deque()
        self._seats: set[_Running] = set()
        self._ended: deque[tuple[Attempt, Episode]] = deque()
        self._crash: BaseException | None = None
        self._threads: list[threading.Thread] = []
        self._left_behind = 0

    def run(self, attempts: Sequence[Attempt], num_threads: int, on_ended: OnEnded) -> None:
        """Run all attempts; hand each final episode to `on_ended`, in this thread.

        Any exception in this thread, from Ctrl-C or from `on_ended`, stops every episode, waits
        up to `GRACE_S` for their threads, and goes on.
        """
        self._waiting.extend(attempts)
        try:
            with self._changed:
                first = [self._sit_next() for _ in range(min(num_threads, len(attempts)))]
                for seat in first:  # only now that all of their sessions are open
                    self._start_thread(seat)
            for _ in attempts:
                on_ended(*self._next_ended())
        finally:
            self._stop()
            self._runner.settle()

    def _next_ended(self) -> tuple[Attempt, Episode]:
        with self._changed:
            while not self._ended:
                if self._crash:
                    raise self._crash
                next_deadline_s = min(seat.deadline.remaining_s for seat in self._seats)
                self._changed.wait(max(0.0, next_deadline_s))
                self._enforce_deadlines()
            return self._ended.popleft()

    # In worker threads.

    def _work(self, seat: _Running | None) -> None:
        while seat:
            try:
                run_in_new_loop(self._episode(seat))
            except SystemExit as error:  # from a task that the workflow made: asyncio lets it out
                seat.run.stop(failure_of(error, "workflow_error"))
                seat.episode = seat.run.episode()
            except BaseException as error:
                self._report(seat, error)
                return
            seat = self._hand_in(seat)

    async def _episode(self, seat: _Running) -> None:
        seat.episode = await seat.run.run()

    def _hand_in(self, seat: _Running) -> _Running | None:
        """The episode is over; the next one for this thread. None also if it was given up."""
        with self._changed:
            if seat not in self._seats:
                return None
            assert seat.episode, "the loop ran to its end"
            next_seat = self._rise(seat, seat.episode)
            if next_seat:
                next_seat.thread = seat.thread
            return next_seat

    def _report(self, seat: _Running, error: BaseException) -> None:
        """Our own fault, or a KeyboardInterrupt of user code: for the waiting thread."""
        with self._changed:
            if seat in self._seats:
                self._crash, seat.thread = error, None
                self._changed.notify()

    # With the lock held.

    def _sit_next(self) -> _Running | None:
        return self._sit(self._waiting.popleft()) if self._waiting else None

    def _sit(self, attempt: Attempt) -> _Running:
        self._engine.open_session(attempt.episode_id)
        seat = _Running(run=self._runner.start(attempt), deadline=Deadline(self._episode_timeout_s))
        self._seats.add(seat)
        return seat

    def _rise(self, seat: _Running, episode: Episode) -> _Running | None:
        """The episode is over: keep it or try again; seat the next one, then close its session."""
        attempt = seat.run.attempt
        self._seats.remove(seat)
        is_fault = episode.failure is not None and episode.failure.kind in INFRASTRUCTURE_FAULTS
        if is_fault and attempt.retries < self._max_retries:
            next_seat: _Running | None = self._sit(replace(attempt, retries=attempt.retries + 1))
        else:
            self._ended.append((attempt, episode))
            self._changed.notify()
            next_seat = self._sit_next()
        self._engine.close_session(attempt.episode_id)
        return next_seat

    def _start_thread(self, seat: _Running | None) -> None:
        if seat:
            seat.thread = threading.Thread(target=self._work, args=(seat,), daemon=True)
            self._threads.append(seat.thread)
            seat.thread.start()

    def _enforce_deadlines(self) -> None:
        for seat in [seat for seat in self._seats if seat.deadline.remaining_s <= 0]:
            if seat.deadline.asked:
                self._give_up(seat)
            else:
                seat.deadline.ask()
                limit = f"{self._episode_timeout_s:g} s (rollout.episode_timeout_s)"
                seat.run.stop(Failure(kind="timeout", message=f"not done after {limit}"))

    def _give_up(self, seat: _Running) -> None:
        """Its thread cannot be ended: go on with a fresh one."""
        assert seat.thread
        self._threads.remove(seat.thread)
        self._left_behind += 1
        seat.run.release_environment()
        episode = seat.episode or seat.run.episode()
        if episode.failure:
            episode.failure.traceback = stack_of(seat.thread)
        logger.warning(
            "an episode of task %s blocks its thread beyond its deadline: left behind, number %d "
            "of this rollout. It is here:\n%s",
            episode.task.task_id,
            self._left_behind,
            stack_of(seat.thread),
        )
        self._start_thread(self._rise(seat, episode))

    # At the end.

    def _stop(self) -> None:
        """Nothing is left to do, or everything is to end."""
        with self._changed:
            self._waiting.clear()
            self._max_retries = 0
            for seat in self._seats:
                seat.run.stop(Failure(kind="cancelled", message="the run was stopped"))
            deadline = time.monotonic() + GRACE_S
            self._changed.wait_for(lambda: not any(s.thread for s in self._seats), GRACE_S)
            for seat in self._seats:
                if seat.thread:
                    logger.warning(
                        "an episode of task %s does not end", seat.run.attempt.task.task_id
                    )
                    seat.run.release_environment()
                self._engine.close_session(seat.run.attempt.episode_id)
            self._seats.clear()
        for thread in self._threads:
            if thread.is_alive():
                thread.join(max(0.0, deadline - time.monotonic()))
