"""Group Relative Policy Optimization."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ajet.algorithm.credit import Baseline, GroupRewards

_EPSILON = 1e-4


def grpo(groups: Sequence[GroupRewards]) -> list[Baseline]:
    """Group mean, over the group's standard deviation (arXiv:2402.03300).

    Deviations from the paper: 1e-4 is added to the deviation, as TRL does; the KL term is off
    unless asked for; the loss is a mean over tokens by default, where the paper takes the mean over
    each output first (`loss_agg: samples`).
    """
    return [
        Baseline(
            center=np.full_like(group.rewards, group.mean()),
            scale=np.full_like(group.rewards, group.std() + _EPSILON),
        )
        for group in groups
    ]
