"""REINFORCE++: advantages normalised over the whole batch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ajet.algorithm.credit import Baseline, GroupRewards

_EPSILON = 1e-4


def reinforce_plus_plus(groups: Sequence[GroupRewards]) -> list[Baseline]:
    """Mean and standard deviation of all episodes of the step (arXiv:2501.03262).

    The variant without a group baseline: a task whose episodes all succeed still pushes the policy.
    Deviations from the paper: statistics are over episodes, not tokens, so that a long episode does
    not weigh more; a KL to a reference is a loss term, not part of the reward.
    """
    batch = GroupRewards(
        rewards=np.concatenate([group.rewards for group in groups]),
        variance_within=np.concatenate([group.variance_within for group in groups]),
        calls=[calls for group in groups for calls in group.calls],
    )
    mean, scale = batch.mean(), batch.std() + _EPSILON
    return [
        Baseline(center=np.full_like(group.rewards, mean), scale=np.full_like(group.rewards, scale))
        for group in groups
    ]
