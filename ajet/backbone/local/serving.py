"""Serves the policy from this process, with the weights that are trained."""

from __future__ import annotations

import asyncio

from ajet.backbone.local.policy import LocalPolicy
from ajet.config.sections.rollout import RolloutConfig
from ajet.engine.embedded.engine import EmbeddedEngine
from ajet.engine.embedded.load import longest_sequence


class EmbeddedServing:
    """An engine in this process that reads the same weights that the trainer changes.

    While the lockstep schedule waits for an episode that hangs, all episodes wait. So its patience
    is at most a quarter of their deadlines.
    """

    def __init__(
        self, policy: LocalPolicy, settings: RolloutConfig, *, seed: int, policy_version: int
    ) -> None:
        deadline_s = min(settings.call_timeout_s, settings.episode_timeout_s)
        self.engine = EmbeddedEngine(
            policy.model,
            policy.chat_format.tokenizer,
            max_model_len=settings.max_model_len or longest_sequence(policy.model),
            max_num_seqs=settings.max_num_seqs,
            schedule=settings.schedule,
            lockstep_patience_s=min(settings.lockstep_patience_s, deadline_s / 4),
            seed=seed,
            policy_version=policy_version,
        )

    @property
    def lockstep_missed(self) -> int:
        """How often the lockstep schedule continued without an episode that was late."""
        return self.engine.lockstep_missed

    def begin_phase(self) -> None:
        """Drop the KV cache, so that results do not depend on earlier phases."""
        self.engine.forget()

    def publish(self, policy_version: int) -> dict[str, float]:
        """Tell the engine that its weights were changed in place."""
        self.engine.weights_changed()
        assert self.engine.policy_version == policy_version
        return {}

    def close(self) -> None:
        """Stop the engine's thread."""
        asyncio.run(self.engine.aclose())
