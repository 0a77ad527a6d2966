"""A group of episodes as one entry of Trinity's buffer: it is trained whole, or not at all.

Trinity counts entries: with one a group, a step takes as many groups as it should, however many
samples their episodes have, and nothing is cut off or filled up.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ray import cloudpickle
from trinity.common.experience import Experience

from ajet.schema.episode import Group
from ajet.schema.sample import Sample

_KEY = "parcel"


@dataclass(slots=True, kw_only=True)
class GroupPayload:
    """A group, and what is known of where it comes from."""

    group: Group
    reader_state: dict[str, Any]
    """Position in the data after this group's task."""
    rollout_s: float
    """Seconds that its runner took for it and for those beside it."""
    gives_gradient: bool = True
    """Set with the advantages."""

    @property
    def position(self) -> int:
        """Tasks up to this one, in the order of the data."""
        taken: int = self.reader_state["num_taken"]
        return taken

    @property
    def samples(self) -> list[Sample]:
        """With trained tokens; none where the group gives no gradient."""
        if not self.gives_gradient:
            return []
        episodes = self.group.valid
        return [sample for e in episodes for sample in e.samples if sample.num_trained]

    @property
    def policy_version(self) -> int | None:
        """The oldest that sampled a trained token; None where there is none."""
        oldest = [sample.policy_versions[sample.loss_mask].min() for sample in self.samples]
        return int(min(oldest)) if oldest else None


def pack(parcel: GroupPayload) -> Experience:
    """An entry for the buffer. Its two tokens mean nothing."""
    return Experience(tokens=[0, 0], info={_KEY: cloudpickle.dumps(parcel)})


def repack(experience: Experience, parcel: GroupPayload) -> None:
    """Replace the parcel of an entry."""
    experience.info[_KEY] = cloudpickle.dumps(parcel)


def unpack(experience: Experience) -> GroupPayload:
    """The parcel of an entry."""
    parcel: GroupPayload = cloudpickle.loads(experience.info[_KEY])
    return parcel
