"""Agents whose run is killed."""

from __future__ import annotations

from tests.end_to_end.moments import AmongEpisodes, BetweenUpdates, Kill, WithinCheckpoint
from tutorial.example_math_agent.math_agent_openai import MathAgent


class InFirstRollout(Kill, AmongEpisodes, MathAgent):
    """Before there is a checkpoint."""

    phase: str = "train/000001"


class InRollout(Kill, AmongEpisodes, MathAgent):
    phase: str = "train/000004"


class InUpdate(Kill, BetweenUpdates, MathAgent):
    pass


class InCheckpoint(Kill, WithinCheckpoint, MathAgent):
    pass
