"""An AgentScope agent whose run is killed."""

from __future__ import annotations

from tests.end_to_end.moments import AmongEpisodes, Kill
from tutorial.example_math_agent.math_agent import MathAgent


class InRollout(Kill, AmongEpisodes, MathAgent):
    phase: str = "train/000004"
