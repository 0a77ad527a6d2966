"""What tells one episode from every other, before it runs."""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass

from ajet.schema.task import Task

_NAMESPACE = uuid.UUID("6f0c7a52-3d0b-5a53-9f0e-5d3c1c1f7a11")


@dataclass(slots=True, kw_only=True, frozen=True)
class Attempt:
    """One try at one repeat of a task. Its id, and all that is drawn from it, is reproducible."""

    seed: int
    """Of the run."""
    tag: str
    """Of the phase, for example `train/000012`; no two phases of a run have the same."""
    task: Task
    group_index: int
    """Position of the task in the phase: a task that comes twice makes two groups."""
    repeat_index: int
    """Which episode of its group, from 0."""
    retries: int = 0
    """Tries that an infrastructure fault ended before this one."""

    @property
    def episode_id(self) -> str:
        """A UUID that depends on the fields above and on nothing else."""
        names = [self.seed, self.tag, self.group_index, self.task.task_id, self.repeat_index]
        return str(uuid.uuid5(_NAMESPACE, json.dumps([*names, self.retries])))
