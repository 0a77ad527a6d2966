"""Agents whose run is interrupted by Ctrl-C or SIGTERM."""

from __future__ import annotations

from tests.end_to_end.moments import AmongEpisodes, BetweenUpdates, CtrlC, Terminate
from tutorial.example_math_agent.math_agent_openai import MathAgent


class InRollout(CtrlC, AmongEpisodes, MathAgent):
    phase: str = "train/000004"


class TerminatedInRollout(Terminate, AmongEpisodes, MathAgent):
    phase: str = "train/000004"


class InEvaluation(CtrlC, AmongEpisodes, MathAgent):
    phase: str = "eval/000002"


class InUpdate(CtrlC, BetweenUpdates, MathAgent):
    pass


class TwiceInUpdate(CtrlC, BetweenUpdates, MathAgent):
    """Impatient: the second one does not wait for the end of the step."""

    times: int = 2
