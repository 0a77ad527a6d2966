"""A run's actors, as its main process sees them."""

from __future__ import annotations

from dataclasses import dataclass

from ray.actor import ActorHandle


@dataclass(slots=True, kw_only=True, frozen=True)
class Actors:
    """Those of one run."""

    desk: ActorHandle
    """See `desk.py`."""
    explorer: ActorHandle
    """See `explorer.py`."""
    trainer: ActorHandle
    """See `trainer.py`."""
    models: list[ActorHandle]
    """The engines, see `model.py`."""
