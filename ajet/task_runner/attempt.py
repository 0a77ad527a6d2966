"""Identifies one attempt at an episode, before it runs."""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass

from ajet.schema.task import Task

_NAMESPACE = uuid.UUID("6f0c7a52-3d0b-5a53-9f0e-5d3c1c1f7a11")


@dataclass(slots=True, kw_only=True, frozen=True)
class Attempt:
    """One attempt at one episode of a task. Its id and what derives from it are reproducible."""

    seed: int
    """Seed of the run."""
    tag: str
    """Name of the phase, such as `train/000012`; unique within a run."""
    task: Task
    group_index: int
    """Position of the task in the phase; a task that occurs twice makes two groups."""
    repeat_index: int
    """Index of the episode in its group, from 0."""
    retries: int = 0
    """Earlier attempts, each ended by an infrastructure fault."""

    @property
    def episode_id(self) -> str:
        """A UUID that depends only on the fields of this attempt."""
        names = [self.seed, self.tag, self.group_index, self.task.task_id, self.repeat_index]
        return str(uuid.uuid5(_NAMESPACE, json.dumps([*names, self.retries])))
