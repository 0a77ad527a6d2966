"""`ajet.trainer_common.algorithm`: credit and loss."""

from __future__ import annotations

from typing import Literal

from ajet.config.sections.section import BaseConfig
from ajet.config.sections.types import NotNegative, Share


class AlgorithmConfig(BaseConfig):
    """Credit and loss."""

    adv_estimator: Literal["grpo", "dr_grpo", "rloo", "reinforce_plus_plus", "gae"] = "grpo"
    """How rewards become advantages; `gae` is PPO with a critic, which the backbone verl has."""
    loss_agg: Literal["tokens", "samples", "episodes"] = "tokens"
    """What weighs the same in the loss: each token, each sample or each episode."""
    clip_ratio_low: Share = 0.2
    """The probability ratio is clipped below 1 minus this."""
    clip_ratio_high: NotNegative = 0.28
    """The probability ratio is clipped above 1 plus this."""
    entropy_coeff: NotNegative = 0.0
    """Weight of the entropy bonus."""
