"""Dr. GRPO: GRPO without its two biases."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ajet.algorithm.credit import Baseline, GroupRewards


def dr_grpo(groups: Sequence[GroupRewards]) -> list[Baseline]:
    """Group mean, undivided (arXiv:2503.20783).

    Not dividing by the deviation removes the bias towards tasks of extreme difficulty. The other
    bias, towards long wrong answers, comes from dividing each output's loss by its own length;
    `loss_agg: tokens` does not. Deviation from the paper: that aggregation divides by the number of
    trained tokens of the mini-batch, the paper by a constant.
    """
    return [
        Baseline(
            center=np.full_like(group.rewards, group.mean()),
            scale=np.ones_like(group.rewards),
        )
        for group in groups
    ]
