"""What a workflow gets as `gym_env`, and what the runner does with it.

The runner calls `create` before the workflow, `stop` where it ends the episode from outside, and
`release` on every path. The workflow calls `step` and `evaluate`.
"""

from __future__ import annotations

from typing import Any, Protocol

from ajet.environment.messages import Message
from ajet.errors import EnvironmentFault
from ajet.schema.task import Task

StepResult = tuple[str, float, bool, dict[str, Any]]
"""Observation as text, reward, whether the episode is over, further information."""


class EpisodeEnvironment:
    """One instance of an environment, for one episode."""

    def __init__(self) -> None:
        self.fault: EnvironmentFault | None = None
        """The first failure of the environment. It ends the episode, whatever the workflow does."""
        self.messages: list[Message] = []
        """The newest observation, as chat messages."""

    def step(self, action: Message) -> StepResult:
        """Act with a message `{role, content}`; blocks this episode only.

        Raises:
            EnvironmentFault: the environment failed, or the episode was ended from outside.
        """
        raise NotImplementedError

    def evaluate(
        self, episode_uuid: str | None = None, params: dict[str, Any] | None = None
    ) -> float:
        """The environment's score of the episode so far. Errors as for `step`."""
        raise NotImplementedError

    async def step_async(self, action: Message) -> StepResult:
        """`step` for a workflow that runs several things at once."""
        return self.step(action)

    async def evaluate_async(
        self, episode_uuid: str | None = None, params: dict[str, Any] | None = None
    ) -> float:
        """`evaluate` for a workflow that runs several things at once."""
        return self.evaluate(episode_uuid, params)

    def reset(self) -> None:
        """Not supported: an instance serves one episode, from its beginning."""
        raise RuntimeError("an environment cannot be reset: every episode gets an instance")

    async def create(self) -> list[Message]:
        """Make the instance; the first observation, at least one message.

        Raises:
            EnvironmentFault: the environment failed.
        """
        raise NotImplementedError

    def stop(self) -> None:
        """Refuse later calls and end those that are running, where that is possible. Any thread."""
        raise NotImplementedError

    def release(self) -> None:
        """Give the instance back; never raises, and more than one call does nothing. Any thread."""
        raise NotImplementedError

    def _fail(self, fault: EnvironmentFault) -> EnvironmentFault:
        self.fault = self.fault or fault
        return fault


class EnvironmentSource(Protocol):
    """Where the episodes of a run get their environments. Any thread."""

    def open(self, task: Task, episode_uuid: str) -> EpisodeEnvironment | None:
        """The environment of one episode; nothing is made before `create`. None: it has none."""
        ...

    def settle(self) -> None:
        """Wait for what is still being released; called when the episodes of a phase have ended."""
        ...


def checked_action(action: Any) -> Message:
    """The action as a message; a text is one of the assistant.

    Raises:
        TypeError: it is something else: the workflow's error, not the environment's.
    """
    if isinstance(action, str):
        return {"role": "assistant", "content": action}
    if isinstance(action, dict) and "content" in action:
        return {"role": "assistant", **action}
    raise TypeError(f'gym_env.step() got {action!r}, expected {{"role": ..., "content": ...}}')
