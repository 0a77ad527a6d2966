"""Chooses the groups that a step is trained on."""

from __future__ import annotations

from typing import Any

from trinity.algorithm.sample_strategy import SampleStrategy
from trinity.buffer import get_buffer_reader
from trinity.common.config import BufferConfig
from trinity.common.experience import Experience

from ajet.backbone.trinity.group_payload import GroupPayload


class FreshGroups(SampleStrategy):
    """Takes one group per task of a step and drops groups that are too old.

    Args:
        buffer_config: Trinity's configuration of the buffer.
        max_staleness: how many versions a group may be behind; None: any number.
        importance_cap: for `StepTrainer`, which reads it from the same settings; ignored here.
    """

    def __init__(
        self,
        buffer_config: BufferConfig,
        *,
        max_staleness: int | None,
        importance_cap: float,
    ) -> None:
        super().__init__(buffer_config)
        self._buffer = get_buffer_reader(buffer_config.trainer_input.experience_buffer)
        self._size = buffer_config.train_batch_size
        self._max_staleness = max_staleness
        self.stale: list[GroupPayload] = []
        """Groups that were dropped for the newest step."""

    async def sample(
        self, step: int, **_: Any
    ) -> tuple[list[Experience], dict[str, float], list[Any]]:
        """Take the entries of the groups for a step."""
        self.stale = []
        taken: list[Experience] = []
        while len(taken) < self._size:
            for entry in await self._buffer.read(batch_size=self._size - len(taken)):
                payload = GroupPayload.decode(entry)
                if self._is_fresh(payload, step - 1):
                    taken.append(entry)
                else:
                    self.stale.append(payload)
        return taken, {}, []

    def _is_fresh(self, payload: GroupPayload, policy_version: int) -> bool:
        version = payload.policy_version
        if version is None or self._max_staleness is None:
            return True
        return policy_version - version <= self._max_staleness

    @classmethod
    def default_args(cls) -> dict[str, Any]:
        """The values of an on-policy run."""
        return {"max_staleness": None, "importance_cap": 2.0}

    def state_dict(self) -> dict[str, Any]:
        """Nothing to save: a resumed run samples what was in the buffer again."""
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Do nothing: there is no state."""
