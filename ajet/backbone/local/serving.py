"""The engine of this process, on the weights that are trained."""

from __future__ import annotations

import asyncio

from ajet.backbone.local.policy import LocalPolicy
from ajet.config.sections.rollout import RolloutConfig
from ajet.engine.embedded.engine import EmbeddedEngine


class EmbeddedServing:
    """The engine of this process: it reads the very weights that the trainer changes.

    While the lockstep waits for an episode that hangs, the others wait too: it gives up early
    enough for them to meet their own deadlines.
    """

    def __init__(
        self, policy: LocalPolicy, settings: RolloutConfig, *, seed: int, policy_version: int
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

    def publish(self, policy_version: int) -> dict[str, float]:
        """The weights were changed in place."""
        self.engine.weights_changed()
        assert self.engine.policy_version == policy_version
        return {}

    def close(self) -> None:
        """End the engine's thread."""
        asyncio.run(self.engine.aclose())
