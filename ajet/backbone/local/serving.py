"""What samples from the policy while it is trained."""

from __future__ import annotations

import asyncio
from typing import Protocol

from ajet.backbone.local.policy import Policy
from ajet.config.rollout import Rollout
from ajet.engine.base import Engine
from ajet.engine.embedded.engine import EmbeddedEngine


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

    def publish(self) -> None:
        """Serve the policy's weights as they are now, as the next policy version.

        Raises:
            EngineError: the engine cannot take them, or does not compute what the trainer does.
        """
        ...

    def close(self) -> None:
        """Stop it and release everything."""
        ...


class EmbeddedServing:
    """The engine of this process: it reads the very weights that the trainer changes.

    While the lockstep waits for an episode that hangs, the others wait too: it gives up early
    enough for them to meet their own deadlines.
    """

    def __init__(
        self, policy: Policy, settings: Rollout, *, seed: int, policy_version: int
    ) -> None:
        deadline_s = min(settings.call_timeout_s, settings.episode_timeout_s)
        self.engine = EmbeddedEngine(
            policy.model,
            policy.chat_format.tokenizer,
            max_model_len=settings.max_model_len or policy.model.config.max_position_embeddings,
            max_num_seqs=settings.max_num_seqs,
            schedule=settings.schedule,
            lockstep_patience_s=min(settings.lockstep_patience_s, deadline_s / 4),
            seed=seed,
            policy_version=policy_version,
        )

    @property
    def lockstep_missed(self) -> int:
        """Times that the engine went on without an episode."""
        return self.engine.lockstep_missed

    def begin_phase(self) -> None:
        """Forget all key-values."""
        self.engine.forget()

    def publish(self) -> None:
        """The weights were changed in place."""
        self.engine.weights_changed()

    def close(self) -> None:
        """End the engine's thread."""
        asyncio.run(self.engine.aclose())
