"""What the processes of a run tell its main process, which alone writes the run's folder."""

from __future__ import annotations

from dataclasses import dataclass

from ajet.schema.episode import Group


@dataclass(slots=True, kw_only=True, frozen=True)
class Explored:
    """The explorer: a batch of episodes is done and in the buffer."""

    step: int
    """The batch's number, from 1."""
    metrics: dict[str, float]
    """Under Trinity's names."""


@dataclass(slots=True, kw_only=True, frozen=True)
class Trained:
    """The trainer: a step is done."""

    step: int
    groups: list[Group]
    """The step's."""
    stale: list[Group]
    """Those that were too old to be trained on."""
    metrics: dict[str, float]
    """Under their public names, Trinity's own under `trinity/`."""
    num_samples: int
    """That were trained."""
    num_stale_samples: int
    """That would have been, had they not been too old."""


@dataclass(slots=True, kw_only=True, frozen=True)
class Published:
    """The trainer: these weights are about to be sent."""

    version: int
    probe: list[float]
    """[L - 1] logprobs of the probe's ids but the first."""


@dataclass(slots=True, kw_only=True, frozen=True)
class Arrived:
    """The explorer: the engines have these weights. It goes on when it is told to."""

    version: int
    probes: list[list[float]]
    """[engines, L - 1] logprobs of the probe's ids but the first."""


@dataclass(slots=True, kw_only=True, frozen=True)
class Failed:
    """Anyone: the run cannot go on."""

    message: str


Letter = Explored | Trained | Published | Arrived | Failed
