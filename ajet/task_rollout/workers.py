"""Runs episodes in threads: each thread runs one episode after the other, on a new event loop.

Blocking user code therefore stalls no other episode.

While an episode is judged, another one has its place: a judge that takes a second would otherwise
keep the engine waiting for it. Which episode starts next then depends on which agents are done, and
not on how fast the judge is.

Attempts start in a fixed order, and the engine's session for the next attempt is opened before the
session of the finished one is closed. A lockstep engine waits for as many episodes as there are
open sessions, so this number must depend only on which episodes have ended, never on timing.

Deadlines: when its time is over, an episode is asked to end. Its model requests are refused and
what it awaits is cancelled. Python cannot end a thread whose code blocks or ignores the
cancellation: after `GRACE_S` more seconds the thread is abandoned and a new one takes its place.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol, TypeVar

from ajet.schema.episode import INFRASTRUCTURE_FAULTS, Episode, Failure, Waiting
from ajet.task_runner.episode_run import Attempt, EpisodeRunner, StartedEpisode
from ajet.task_runner.failures import failure_of, stack_of

logger = logging.getLogger(__name__)

T = TypeVar("T")

MAX_JUDGED = 192
"""Episodes that are judged while others have their places. Each has a thread with three open files,
of which a process often may have 1,024."""
GRACE_S = 5.0
"""Seconds between asking an episode to end and abandoning its thread."""
LEAVES_THE_LOOP = (SystemExit, asyncio.CancelledError)
"""Exceptions of user code that get past the boundary around it: asyncio lets SystemExit of any
task out of the loop, and a workflow that cancels all tasks also cancels the one that we wait for.
They end the episode, not the run."""
MOST_TOLD = 20
"""A run logs at most so many different errors of asyncio tasks that no code awaits."""
CLEANUP_S = 1.0
"""Seconds that tasks which an episode left behind may take to end after they are cancelled."""
LOOK_EVERY_S = 1.0
"""Seconds after which an idle event loop looks at its queue."""


def run_in_new_loop(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end on a new event loop in this thread.

    Unlike `asyncio.run`, it waits at most `CLEANUP_S` for tasks that the coroutine left behind, and
    not at all for threads of the loop's executor: user code must not be able to block a worker.
    """
    loop = asyncio.new_event_loop()
    loop.set_exception_handler(_tell_once)
    _look_again(loop)
    try:
        return _run_to_end(loop, main)
    finally:
        _run_to_end(loop, _clean_up())
        loop.close()


def _look_again(loop: asyncio.AbstractEventLoop) -> None:
    """Keep the loop from sleeping for ever.

    A lock that user code shares between episodes is released in the thread of one and waited for in
    another, whose loop asyncio does not wake then.
    """
    loop.call_later(LOOK_EVERY_S, _look_again, loop)


def _run_to_end(loop: asyncio.AbstractEventLoop, main: Coroutine[Any, Any, T]) -> T:
    """What a coroutine returns, run on this loop to its end although its code stops the loop."""
    task = loop.create_task(main)
    while not task.done():
        # A stopped loop is a RuntimeError of a task that is not done; it is then run again.
        with suppress(RuntimeError):
            loop.run_until_complete(task)
    return task.result()


def _tell_once(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Log what went wrong in a task that nobody awaits, once for all episodes."""
    error = context.get("exception")
    frames = traceback.extract_tb(error.__traceback__) if error else []
    place = f"{frames[-1].filename}:{frames[-1].lineno}" if frames else ""
    what = f"{context['message']} {type(error).__name__} {place}"
    # Atomic, since other threads call this, too. Not a lock: a garbage collection may call this
    # in a thread that holds it.
    mine = object()
    if len(_told) < MOST_TOLD and _told.setdefault(what, mine) is mine:
        loop.default_exception_handler(context)


_told: dict[str, object] = {}


async def _clean_up() -> None:
    left = asyncio.all_tasks() - {asyncio.current_task()}
    for task in left:
        task.cancel()
    if left:
        await asyncio.wait(left, timeout=CLEANUP_S)
    await asyncio.get_running_loop().shutdown_asyncgens()


class Deadline:
    """The time limit of one episode: first to be asked to end, then to be abandoned."""

    def __init__(self, timeout_s: float) -> None:
        self._next = time.monotonic() + timeout_s
        self.asked = False
        """Whether the episode was asked to end."""

    @property
    def remaining_s(self) -> float:
        """Seconds until the episode is asked to end or, once it was asked, is abandoned."""
        return self._next - time.monotonic()

    def ask(self) -> None:
        """Note that the episode is asked to end now."""
        self.asked = True
        self._next = time.monotonic() + GRACE_S


@dataclass(slots=True, kw_only=True, eq=False)
class _Running:
    """An episode that has a session in the engine."""

    run: StartedEpisode
    deadline: Deadline
    thread: threading.Thread | None = None
    """None: it has not begun, or its thread ended with an error."""
    is_judged: bool = False
    """Only the judge is left: another episode has the place and this one has no session."""
    episode: Episode | None = None
    """Set when the episode has ended; its event loop may still be closing."""


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

    def waiting(self) -> list[Waiting]:
        """What the running episodes wait for now. Any thread."""
        ...


class ThreadExecutor:
    """Runs episodes in threads of this process; see `EpisodeExecutor`."""

    def __init__(self) -> None:
        self._pools: list[_WorkerPool] = []

    def run(
        self,
        runner: EpisodeRunner,
        attempts: Sequence[Attempt],
        limits: EpisodeLimits,
        on_ended: OnEnded,
    ) -> None:
        """Run all attempts and wait for them; see `EpisodeExecutor.run`.

        An exception in this thread, such as Ctrl-C or one from `on_ended`, stops every episode. It
        is raised again when their threads have ended, or after `GRACE_S`.
        """
        pool = _WorkerPool(runner, limits)
        self._pools.append(pool)
        try:
            pool.run(attempts, on_ended)
        finally:
            self._pools.remove(pool)

    def waiting(self) -> list[Waiting]:
        """What the running episodes wait for now; see `EpisodeExecutor.waiting`."""
        return [one for pool in list(self._pools) for one in pool.waiting()]


class _WorkerPool:
    """The threads of one rollout. Used once."""

    def __init__(self, runner: EpisodeRunner, limits: EpisodeLimits) -> None:
        self._runner = runner
        self._engine = runner.gateway.engine
        self._limits = limits
        # One lock for all state below: an episode that ends and the deadline that is enforced on
        # it at the same moment must agree on which of the two came first.
        self._changed = threading.Condition()
        self._waiting: deque[Attempt] = deque()
        self._running: set[_Running] = set()
        self._ended: deque[tuple[Attempt, Episode]] = deque()
        self._crash: BaseException | None = None
        self._threads: list[threading.Thread] = []
        self._num_abandoned = 0
        self._is_stopping = False

    def run(self, attempts: Sequence[Attempt], on_ended: OnEnded) -> None:
        self._waiting.extend(attempts)
        try:
            with self._changed:
                num_threads = min(self._limits.num_at_once, len(attempts))
                first = [self._start_next() for _ in range(num_threads)]
                # Threads start only when all sessions are open: a lockstep engine would otherwise
                # decode for those that happen to be there.
                for running in first:
                    self._start_thread(running)
            for _ in attempts:
                on_ended(*self._next_ended())
        finally:
            self._stop()
            self._runner.settle()

    def waiting(self) -> list[Waiting]:
        with self._changed:
            running = list(self._running)
        return [one for each in running for one in each.run.waiting(each.thread)]

    def _next_ended(self) -> tuple[Attempt, Episode]:
        with self._changed:
            while not self._ended:
                if self._crash:
                    raise self._crash
                next_deadline_s = min(running.deadline.remaining_s for running in self._running)
                self._changed.wait(max(0.0, next_deadline_s))
                self._enforce_deadlines()
            return self._ended.popleft()

    # The next five methods run in worker threads.

    def _work(self, running: _Running | None) -> None:
        while running:
            try:
                run_in_new_loop(self._run_episode(running))
            except LEAVES_THE_LOOP as error:
                running.run.stop(failure_of(error, "workflow_error"))
                running.episode = running.run.episode()
            except BaseException as error:
                self._report(running, error)
                return
            running = self._next_after(running)

    def _give_place(self, running: _Running) -> None:
        """Start the next episode, because this one only waits for its judge."""
        with self._changed:
            num_judged = sum(each.is_judged for each in self._running)
            if running not in self._running or num_judged >= MAX_JUDGED:
                return
            running.is_judged = True
            following = self._start_next()
            # Closed only after the next session is open; see the head of this file.
            self._engine.close_session(running.run.attempt.episode_id)
            self._start_thread(following)

    async def _run_episode(self, running: _Running) -> None:
        running.episode = await running.run.run()

    def _next_after(self, running: _Running) -> _Running | None:
        """Finish an episode; return the next one for this thread, if there is one."""
        with self._changed:
            if running not in self._running:
                return None  # it was abandoned, and another thread took over
            assert running.episode, "the loop ran to its end"
            following = self._finish(running, running.episode)
            if following:
                following.thread = running.thread
            return following

    def _report(self, running: _Running, error: BaseException) -> None:
        """Hand an error of ours, or KeyboardInterrupt of user code, to the waiting thread."""
        if isinstance(error, KeyboardInterrupt):  # Ctrl-C reaches the main thread only
            logger.error(
                "the run ends because code of task %s raised KeyboardInterrupt:\n%s",
                running.run.attempt.task.task_id,
                failure_of(error, "workflow_error").traceback.rstrip(),
            )
        with self._changed:
            if running in self._running:
                self._crash, running.thread = error, None
                self._changed.notify()

    # The next six methods are called with the lock held.

    def _start_next(self) -> _Running | None:
        return self._start(self._waiting.popleft()) if self._waiting else None

    def _start(self, attempt: Attempt) -> _Running:
        self._engine.open_session(attempt.episode_id)
        running = _Running(
            run=self._runner.start(attempt), deadline=Deadline(self._limits.timeout_s)
        )
        running.run.before_judge = partial(self._give_place, running)
        self._running.add(running)
        return running

    def _finish(self, running: _Running, episode: Episode) -> _Running | None:
        """Keep the episode or try it again; return what this thread runs next."""
        attempt = running.run.attempt
        self._running.remove(running)
        is_fault = episode.failure is not None and episode.failure.kind in INFRASTRUCTURE_FAULTS
        if is_fault and attempt.retries < self._limits.max_retries and not self._is_stopping:
            again = replace(attempt, retries=attempt.retries + 1)
            following: _Running | None = self._start(again)
        else:
            self._ended.append((attempt, episode))
            self._changed.notify()
            following = None if running.is_judged else self._start_next()
        if not running.is_judged:
            # Closed only after the next session is open; see the head of this file.
            self._engine.close_session(attempt.episode_id)
        return following

    def _start_thread(self, running: _Running | None) -> None:
        if running:
            # A daemon: a thread that was abandoned must not keep the process alive.
            running.thread = threading.Thread(target=self._work, args=(running,), daemon=True)
            self._threads.append(running.thread)
            running.thread.start()

    def _enforce_deadlines(self) -> None:
        for running in [each for each in self._running if each.deadline.remaining_s <= 0]:
            if running.deadline.asked:
                self._abandon(running)
            else:
                running.deadline.ask()
                limit = f"{self._limits.timeout_s:g} s (rollout.episode_timeout_s)"
                running.run.stop(Failure(kind="timeout", message=f"not done after {limit}"))

    def _abandon(self, running: _Running) -> None:
        """Leave a thread that cannot be ended, and continue with a new one."""
        assert running.thread
        self._threads.remove(running.thread)
        self._num_abandoned += 1
        running.run.release_environment()
        episode = running.episode or running.run.episode()
        if episode.failure:
            episode.failure.traceback = stack_of(running.thread)
        logger.warning(
            "an episode of task %s still blocks its thread after the deadline; thread abandoned "
            "(%d so far). It blocks here:\n%s",
            episode.task.task_id,
            self._num_abandoned,
            stack_of(running.thread),
        )
        self._start_thread(self._finish(running, episode))

    def _stop(self) -> None:
        """Stop what still runs. After a complete rollout that is nothing."""
        with self._changed:
            self._waiting.clear()
            self._is_stopping = True
            for running in self._running:
                running.run.stop(Failure(kind="cancelled", message="the run was stopped"))
            deadline = time.monotonic() + GRACE_S
            self._changed.wait_for(lambda: not any(each.thread for each in self._running), GRACE_S)
            for running in self._running:
                attempt = running.run.attempt
                if running.thread:
                    logger.warning("an episode of task %s does not end", attempt.task.task_id)
                    running.run.release_environment()
                self._engine.close_session(attempt.episode_id)
            self._running.clear()
        # Joined without the lock, which the threads need to end.
        for thread in self._threads:
            if thread.is_alive():
                thread.join(max(0.0, deadline - time.monotonic()))
