"""A group of episodes as one entry of Trinity's buffer.

Trinity counts entries. With one entry per group, a step takes the configured number of groups,
however many samples their episodes have, and Trinity neither cuts nor pads the samples.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ray import cloudpickle
from trinity.common.experience import Experience

from ajet.schema.episode import Group, Sample, TaskResult

_KEY = "group_payload"


@dataclass(slots=True, kw_only=True)
class GroupPayload:
    """A group with its position in the data and its cost."""

    group: Group
    reader_state: dict[str, Any]
    """Position in the data after this group's task."""
    rollout_s: float
    """Seconds that the runner took for the group's batch."""
    result: TaskResult | None = None
    """How often the task was solved, where the choice of tasks uses that."""
    gives_gradient: bool = True
    """False if all advantages are 0; set together with the advantages."""

    @property
    def position(self) -> int:
        """Number of tasks read up to this group's task, in the order of the data."""
        taken: int = self.reader_state["num_taken"]
        return taken

    @property
    def samples(self) -> list[Sample]:
        """Samples that have trained tokens; empty if the group gives no gradient."""
        if not self.gives_gradient:
            return []
        episodes = self.group.valid
        return [sample for e in episodes for sample in e.samples if sample.num_trained]

    @property
    def policy_version(self) -> int | None:
        """The oldest version that sampled a trained token; None without trained tokens."""
        oldest = [sample.policy_versions[sample.loss_mask].min() for sample in self.samples]
        return int(min(oldest)) if oldest else None

    def encode(self) -> Experience:
        """Make a new buffer entry."""
        # The two tokens are placeholders: Trinity requires some, but only the payload is read.
        return Experience(tokens=[0, 0], info={_KEY: cloudpickle.dumps(self)})

    def encode_into(self, entry: Experience) -> None:
        """Replace the payload of an existing entry, which keeps Trinity's own fields."""
        entry.info[_KEY] = cloudpickle.dumps(self)

    @classmethod
    def decode(cls, entry: Experience) -> GroupPayload:
        """Read the payload of a buffer entry."""
        payload: GroupPayload = cloudpickle.loads(entry.info[_KEY])
        return payload
