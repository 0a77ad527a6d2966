"""The base class of environments that live in the run's own process."""

from __future__ import annotations

from typing import Any

from ajet.environment.messages import Message, Observation
from ajet.schema.task import Task


class InvalidActionError(ValueError):
    """The agent's message holds no action. Its text is the observation; the state is unchanged."""


class Environment:
    """One instance, made for one episode and closed after it.

    All methods are called from the episode's own thread: they may block.

    Args:
        task: the episode's task.
        options: `ajet.environment.options` of the configuration.
    """

    def __init__(self, task: Task, **options: Any) -> None:
        self.task = task
        self.options = options
        self.total_reward = 0.0
        """Sum of the rewards of all steps."""

    def reset(self) -> Observation:
        """The first observation. It becomes the task's `init_messages` and `main_query`."""
        raise NotImplementedError(f"{type(self).__name__} has no reset()")

    def step(self, action: Message) -> tuple[Observation, float, bool, dict[str, Any]]:
        """Act on the agent's message `{role, content}`.

        Returns:
            Observation, reward, whether the episode is over, and further information.

        Raises:
            InvalidActionError: the message holds no action.
        """
        raise NotImplementedError(f"{type(self).__name__} has no step()")

    def evaluate(self, params: dict[str, Any]) -> float:
        """The score of the episode so far, for a judge."""
        return self.total_reward

    def close(self) -> None:
        """Give back what the instance holds. Called once, on every path."""
