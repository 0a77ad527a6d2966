"""Environments of this process: one object per episode, in the episode's thread."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from ajet.boundary import caught_error
from ajet.environment.environment import Environment, InvalidActionError
from ajet.environment.episode_environment import EpisodeEnvironment, StepResult, checked_action
from ajet.environment.messages import Message, as_messages, finite, text_of
from ajet.errors import AjetError, EnvironmentFault
from ajet.schema.task import Task

T = TypeVar("T")

logger = logging.getLogger(__name__)


class InProcessEnvironment(EpisodeEnvironment):
    """An `Environment` behind the interface of the workflow and of the runner.

    Args:
        make: makes the user's object.
    """

    def __init__(self, make: Callable[[], Environment]) -> None:
        super().__init__()
        self._make = make
        self._environment: Environment | None = None
        self._lock = threading.Lock()
        """Held while the user's object works: it is never closed in the middle of a call."""
        self._is_stopped = False
        self._is_over = False

    def __getattr__(self, name: str) -> Any:
        """What else the user's object has, for the workflow."""
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._environment, name)

    async def create(self) -> list[Message]:
        """Make the user's object and reset it."""

        def make() -> list[Message]:
            self._environment = self._make()
            return as_messages(self._environment.reset())

        self.messages = self._guarded("create", make)
        return self.messages

    def step(self, action: Message) -> StepResult:
        """See the base class. After the last step, nothing is done and no reward is given."""
        message = checked_action(action)

        def act() -> StepResult:
            assert self._environment is not None
            if self._is_over:
                return text_of(self.messages), 0.0, True, {"was_over": True}
            try:
                observation, reward, is_terminated, info = self._environment.step(message)
            except InvalidActionError as error:
                self.messages = as_messages(str(error))
                return str(error), 0.0, False, {"invalid_action": True}
            reward = finite(reward, "reward")
            self._environment.total_reward += reward
            self.messages = as_messages(observation)
            self._is_over = bool(is_terminated)
            return text_of(self.messages), reward, self._is_over, info

        return self._guarded("step", act)

    def evaluate(
        self, episode_uuid: str | None = None, params: dict[str, Any] | None = None
    ) -> float:
        """See the base class."""

        def score() -> float:
            assert self._environment is not None
            return finite(self._environment.evaluate(params or {}), "score")

        return self._guarded("evaluate", score)

    def stop(self) -> None:
        """Refuse later calls. One that is running cannot be ended."""
        self._is_stopped = True

    def release(self) -> None:
        """Close the user's object, now or when the call that it works on ends."""
        self._is_stopped = True
        if self._lock.acquire(blocking=False):
            try:
                self._close()
            finally:
                self._lock.release()

    def _guarded(self, name: str, call: Callable[[], T]) -> T:
        """Run user code; what it raises is a fault of the environment."""
        try:
            with self._lock:
                return self._called(name, call)
        finally:
            # `release` was called while this call held the lock, and left closing to it. Asked
            # only now: before the lock is free, it might still be called.
            if self._is_stopped:
                self.release()

    def _called(self, name: str, call: Callable[[], T]) -> T:
        if self._is_stopped:
            raise self._fail(EnvironmentFault(f"{name}: the episode is over"))
        with caught_error() as caught:
            return call()
        error = caught.error
        if isinstance(error, AjetError):
            raise error
        text = f"{name}: {type(error).__name__}: {error}"
        raise self._fail(EnvironmentFault(text)) from error

    def _close(self) -> None:
        environment, self._environment = self._environment, None
        if environment is None:
            return
        with caught_error() as caught:
            environment.close()
        if caught.error:
            logger.warning("closing %s failed", type(environment).__name__, exc_info=caught.error)


class InProcessSource:
    """Makes one object per episode.

    Args:
        cls: the user's class, or ours.
        options: its keyword arguments.
    """

    def __init__(self, cls: Callable[..., Environment], options: dict[str, Any]) -> None:
        self._cls = cls
        self._options = options

    def open(self, task: Task, episode_uuid: str) -> InProcessEnvironment:
        """The environment of one episode."""
        return InProcessEnvironment(lambda: self._cls(task, **self._options))

    def settle(self) -> None:
        """Nothing is left to wait for."""
