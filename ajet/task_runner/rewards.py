"""From the reward of a workflow or judge to one reward per episode and one per call."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ajet.errors import EpisodeError
from ajet.schema.call import Call

LARGEST = 1e30
"""Of a reward or a metric: float32 holds it, and float64 the squares of many."""


@dataclass(slots=True, kw_only=True, frozen=True)
class Rewards:
    """The rewards of one episode."""

    episode: float
    """The reward as given, or the mean over agents or calls."""
    calls: np.ndarray
    """[number of calls] float64."""
    per: Literal["episode", "agent", "call"]
    """What the workflow or judge gave rewards for."""


def spread_reward(
    reward: float | list[float] | dict[str, float],
    calls: Sequence[Call],
    debug_agents: Collection[str] = (),
) -> Rewards:
    """Give each call a reward: its own, that of its agent, or that of the episode.

    Agents that are not trained may be left out; their calls get the reward of the episode.

    Args:
        reward: of the episode, of each call, or of each agent by its name.
        calls: of the episode.
        debug_agents: names of the agents that a debug model answered; a reward may name them.

    Raises:
        EpisodeError: NaN or infinite, a list of the wrong length, an agent that made no call, or
            a trained agent without a reward.
    """
    if isinstance(reward, dict):
        _check_agents(reward, calls, debug_agents)
        mean = _mean(
            [finite(value, f'the reward of agent "{name}"') for name, value in reward.items()]
        )
        credited = [reward.get(call.agent_name, mean) for call in calls]
        return Rewards(episode=mean, calls=np.array(credited, np.float64), per="agent")
    if isinstance(reward, list):
        if len(reward) != len(calls):
            raise EpisodeError(
                f"reward is a list of {len(reward)}, but the episode has {len(calls)} tracked "
                "calls: give one float per call, in call order"
            )
        mean = _mean([finite(value, f"the reward of call {i}") for i, value in enumerate(reward)])
        return Rewards(episode=mean, calls=np.array(reward, np.float64), per="call")
    value = finite(reward, "the reward")
    return Rewards(episode=value, calls=np.full(len(calls), value, np.float64), per="episode")


def _check_agents(
    reward: dict[str, float], calls: Sequence[Call], debug_agents: Collection[str]
) -> None:
    known = dict.fromkeys([*(call.agent_name for call in calls), *debug_agents])
    names = ", ".join(f'"{name}"' for name in known) or "none"
    if unknown := [name for name in reward if name not in known]:
        raise EpisodeError(
            f'reward names agent "{unknown[0]}", which made no call; agents with calls: {names}'
        )
    if missing := [c.agent_name for c in calls if c.trained and c.agent_name not in reward]:
        raise EpisodeError(
            f'reward leaves out agent "{missing[0]}", whose calls are trained; it names '
            f"{', '.join(reward) or 'none'}"
        )


def finite(value: float, what: str) -> float:
    """The value as a float, within what means and squares of many of them can be computed from.

    Raises:
        EpisodeError: NaN, infinite, or beyond `LARGEST`.
    """
    value = float(value)
    if not math.isfinite(value):
        raise EpisodeError(f"{what} is {value}; it must be a finite number")
    if abs(value) > LARGEST:
        raise EpisodeError(f"{what} is {value:g}; it must be between -{LARGEST:g} and {LARGEST:g}")
    return value


def _mean(values: list[float]) -> float:
    if not values:
        raise EpisodeError("an empty reward: give a number, or one reward per call or agent")
    return math.fsum(values) / len(values)
