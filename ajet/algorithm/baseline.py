"""What an advantage estimator is given, and what it gives back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ajet.schema.call import Call


def exact_mean(values: np.ndarray) -> float:
    """Mean of [N >= 1] values; where all are equal, exactly their value.

    Rounding must not make an advantage, and so a gradient, out of a group of equal rewards.
    """
    return float(values[0] + (values - values[0]).mean())


@dataclass(slots=True, kw_only=True)
class GroupRewards:
    """The rewards of the G >= 1 episodes that are compared with each other."""

    rewards: np.ndarray
    """[G] float64: one an episode, however many calls or samples it has."""
    variance_within: np.ndarray
    """[G] float64: of the rewards of an episode's calls around its own; 0 where they do not
    differ."""
    calls: Sequence[Sequence[Call]]
    """The calls of each of the G episodes that the reward is for, in order of arrival; none where
    a reward is for an episode without trained calls."""

    @property
    def num_tokens(self) -> np.ndarray:
        """[G] int64: sampled tokens of each episode's calls."""
        return np.array([sum(len(c.completion_ids) for c in calls) for calls in self.calls], int)

    def mean(self) -> float:
        """Mean reward, every episode weighing the same."""
        return exact_mean(self.rewards)

    def std(self) -> float:
        """Standard deviation of a call's reward, every episode weighing the same.

        The variance between episodes (unbiased: over G - 1) plus the mean variance within them.
        Without the second part, call rewards that differ in episodes of equal reward would be
        divided by nothing.
        """
        deviations = self.rewards - self.mean()
        between = float((deviations**2).sum()) / max(1, len(self.rewards) - 1)
        return float(np.sqrt(between + self.variance_within.mean()))


@dataclass(slots=True, kw_only=True)
class Baseline:
    """What each of a group's G episodes is measured against.

    The advantage of a reward is (reward - center) / scale.
    """

    center: np.ndarray
    """[G] float64."""
    scale: np.ndarray
    """[G] float64, positive."""


AdvantageEstimator = Callable[[Sequence[GroupRewards]], list[Baseline]]
"""From all groups of a step to one baseline each, in the same order."""
