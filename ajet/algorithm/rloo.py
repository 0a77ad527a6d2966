"""REINFORCE with a leave-one-out baseline."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ajet.algorithm.credit import Baseline, GroupRewards


def rloo(groups: Sequence[GroupRewards]) -> list[Baseline]:
    """The mean of the group's other episodes, undivided (arXiv:2402.14740).

    An episode without others is its own baseline: advantage 0. Deviations from the paper: the
    clipped surrogate is used in place of plain REINFORCE (the same where a step is one update), and
    a KL to a reference is a loss term, not part of the reward.
    """
    return [
        Baseline(center=_mean_of_others(group), scale=np.ones_like(group.rewards))
        for group in groups
    ]


def _mean_of_others(group: GroupRewards) -> np.ndarray:
    """[G]: exactly the reward where all are equal."""
    mean = group.mean()
    return mean + (mean - group.rewards) / max(1, len(group.rewards) - 1)
