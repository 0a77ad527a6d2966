"""What samples from the policy while it is trained."""

from __future__ import annotations

from typing import Protocol

from ajet.engine.base import Engine


class Serving(Protocol):
    """An engine, and how it gets the trainer's weights."""

    @property
    def engine(self) -> Engine:
        """Answers the episodes' calls."""
        ...

    @property
    def lockstep_missed(self) -> int:
        """Times that the engine went on without an episode because it stayed away too long."""
        ...

    def begin_phase(self) -> None:
        """A rollout begins: what it computes must not depend on what was kept of another."""
        ...

    def publish(self, policy_version: int) -> dict[str, float]:
        """Serve the policy's weights as they are now, as this version; metrics of it.

        Raises:
            EngineError: the engine cannot take them, or does not compute what the trainer does.
        """
        ...

    def close(self) -> None:
        """Stop it and release everything."""
        ...
