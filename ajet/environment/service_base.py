"""What an environment service implements; the HTTP application is made from it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from ajet.environment.messages import Message, Observation


class BaseEnvironmentService:
    """The methods and limits of an environment service.

    The methods may block: they run in threads. They may also be `async def`. Calls for one
    instance never overlap; calls for different instances do. An exception becomes status 500 with
    its text, which fails the episode.
    """

    env_type = ""
    """Requests for another one are refused; empty takes all."""
    lease_s = 120.0
    """An instance that got no call for so long is released. A run that lives renews its leases."""
    max_instances = 1024
    """Open instances; a `/create` beyond them is answered with 503, and the run tries again."""
    max_concurrent_calls = 64
    """Calls of the methods below at the same time; others wait."""
    max_request_bytes = 8 * 2**20
    """A longer body is answered with 413."""

    def task_ids(self, split: str) -> Iterable[str | int]:
        """The tasks of a split, for example `train`."""
        raise NotImplementedError(f"{type(self).__name__} has no task_ids()")

    def create(self, task_id: str, params: dict[str, Any]) -> tuple[Any, Observation]:
        """Make an instance.

        Returns:
            An object of any kind, which the other methods get, and the first observation: a text,
            a message, or several messages, of which the last one is the query.
        """
        raise NotImplementedError(f"{type(self).__name__} has no create()")

    def step(self, instance: Any, action: Message) -> Sequence[Any]:
        """Act on the agent's message `{role, content}`.

        Returns:
            Observation, reward, whether the episode is over, and, if you like, a dict of further
            information.
        """
        raise NotImplementedError(f"{type(self).__name__} has no step()")

    def evaluate(self, instance: Any, params: dict[str, Any]) -> float:
        """The score of the episode so far, for a judge."""
        raise NotImplementedError(f"{type(self).__name__} has no evaluate()")

    def release(self, instance: Any) -> None:
        """Give back what an instance holds. Called once for each, on every path."""
