"""Agents whose run is interrupted by Ctrl-C or SIGTERM."""

from __future__ import annotations

from tests.end_to_end.moments import (
    AmongEpisodes,
    AtTheEnd,
    BetweenUpdates,
    CtrlC,
    Terminate,
    WithinCheckpoint,
)
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


class InCheckpoint(Terminate, WithinCheckpoint, MathAgent):
    """While the optimizer's state is written."""

    cuts: bool = False
    number: int = 1


class TwiceInCheckpoint(CtrlC, WithinCheckpoint, MathAgent):
    cuts: bool = False
    number: int = 1
    times: int = 2


class WhenFinished(CtrlC, AtTheEnd, MathAgent):
    """All is saved; the curve is not drawn yet."""

    times: int = 3
