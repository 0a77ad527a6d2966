"""What an advantage estimator gets and returns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ajet.schema.call import Call


def exact_mean(values: np.ndarray) -> float:
    """Mean of N >= 1 values; exactly the common value if all are equal.

    With a rounded mean, a group of equal rewards would have tiny advantages, and so a gradient.
    """
    return float(values[0] + (values - values[0]).mean())


@dataclass(slots=True, kw_only=True)
class GroupRewards:
    """The rewards and calls of G >= 1 episodes that are compared with each other."""

    rewards: np.ndarray
    """[G] float64: one reward per episode, however many calls or samples it has."""
    variance_within: np.ndarray
    """[G] float64: variance of the call rewards within each episode; 0 where they are equal."""
    calls: Sequence[Sequence[Call]]
    """The calls of each of the G episodes that the reward is for, in order of arrival; none where
    a reward is for an episode without trained calls."""

    @property
    def num_tokens(self) -> np.ndarray:
        """[G] int64: sampled tokens of each episode's calls."""
        return np.array([sum(len(c.completion_ids) for c in calls) for calls in self.calls], int)

    def mean(self) -> float:
        """Mean reward; every episode has the same weight."""
        return exact_mean(self.rewards)

    def std(self) -> float:
        """Standard deviation of a call's reward; every episode has the same weight.

        The variance between episodes (unbiased: over G - 1) plus the mean variance within them.
        Without the second part, the scale would be 0 where episodes have equal means but their
        calls have different rewards.
        """
        deviations = self.rewards - self.mean()
        between = float((deviations**2).sum()) / max(1, len(self.rewards) - 1)
        return float(np.sqrt(between + self.variance_within.mean()))


@dataclass(slots=True, kw_only=True)
class Baseline:
    """Center and scale of the rewards of a group's G episodes.

    The advantage of a reward is (reward - center) / scale.
    """

    center: np.ndarray
    """[G] float64."""
    scale: np.ndarray
    """[G] float64, above 0."""


AdvantageEstimator = Callable[[Sequence[GroupRewards]], list[Baseline]]
"""Maps all groups of a step to one baseline each, in the same order."""
