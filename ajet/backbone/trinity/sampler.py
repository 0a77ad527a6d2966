"""What a step is trained on: whole groups, none of them too old."""

from __future__ import annotations

from typing import Any

from trinity.algorithm.sample_strategy import SampleStrategy
from trinity.buffer import get_buffer_reader
from trinity.common.config import BufferConfig
from trinity.common.experience import Experience

from ajet.backbone.trinity.group_payload import GroupPayload, unpack


class FreshGroups(SampleStrategy):
    """Takes as many groups as a step has tasks, and puts aside those that are too old.

    Args:
        buffer_config: Trinity's.
        max_staleness: versions that a group may be behind; None: any number.
        importance_cap: not this one's, see `StepEngine`.
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
        """Put aside since the last step."""

    async def sample(self, step: int, **_: Any) -> tuple[list[Experience], dict[str, float], list]:
        """The entries for a step."""
        self.stale = []
        taken: list[Experience] = []
        while len(taken) < self._size:
            for entry in await self._buffer.read(batch_size=self._size - len(taken)):
                if self._is_fresh(parcel := unpack(entry), step - 1):
                    taken.append(entry)
                else:
                    self.stale.append(parcel)
        return taken, {}, []

    def _is_fresh(self, parcel: GroupPayload, policy_version: int) -> bool:
        version = parcel.policy_version
        if version is None or self._max_staleness is None:
            return True
        return policy_version - version <= self._max_staleness

    @classmethod
    def default_args(cls) -> dict[str, Any]:
        """Those of a run on policy."""
        return {"max_staleness": None, "importance_cap": 2.0}

    def state_dict(self) -> dict[str, Any]:
        """Nothing: what the buffer holds is lost with it, and made again."""
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Nothing."""
