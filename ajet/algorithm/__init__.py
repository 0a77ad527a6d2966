"""Credit and losses. One file per algorithm; numpy only, but for `policy_loss`."""

from __future__ import annotations

from ajet.algorithm.baseline import AdvantageEstimator, Baseline, GroupRewards
from ajet.algorithm.dr_grpo import dr_grpo
from ajet.algorithm.grpo import grpo
from ajet.algorithm.reinforce_plus_plus import reinforce_plus_plus
from ajet.algorithm.rloo import rloo

ADVANTAGE_ESTIMATORS: dict[str, AdvantageEstimator] = {
    "grpo": grpo,
    "dr_grpo": dr_grpo,
    "rloo": rloo,
    "reinforce_plus_plus": reinforce_plus_plus,
}
"""What `trainer_common.algorithm.adv_estimator` may name."""

__all__ = ["ADVANTAGE_ESTIMATORS", "AdvantageEstimator", "Baseline", "GroupRewards"]
