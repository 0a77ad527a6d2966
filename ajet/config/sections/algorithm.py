"""`ajet.trainer_common.algorithm`: credit and loss."""

from __future__ import annotations

from typing import Annotated, Literal

from ajet.config.loading.class_paths import Registered
from ajet.config.sections.section import BaseConfig
from ajet.config.sections.types import NotNegative, Share

CREDIT = {
    "grpo": "ajet.algorithm.grpo->grpo",
    "dr_grpo": "ajet.algorithm.dr_grpo->dr_grpo",
    "rloo": "ajet.algorithm.rloo->rloo",
    "reinforce_plus_plus": "ajet.algorithm.reinforce_plus_plus->reinforce_plus_plus",
    "gae": "ajet.algorithm.token_rewards->GAE",
}
"""`adv_estimator` -> an advantage estimator, or a `CreditRule` for credit without a group."""

POLICY_LOSSES = {
    "clip": "ajet.algorithm.clip->clip",
    "gspo": "ajet.algorithm.gspo->gspo",
    "cispo": "ajet.algorithm.cispo->cispo",
}
"""`policy_loss` -> a loss variant."""


class AlgorithmConfig(BaseConfig):
    """Credit and loss."""

    adv_estimator: Annotated[str, Registered(CREDIT)] = "grpo"
    """How rewards become advantages; `gae` is PPO with a critic, which only the backbone verl has.
    Or a function of your own."""
    policy_loss: Annotated[str, Registered(POLICY_LOSSES)] = "clip"
    """`clip`: PPO's clipped loss per token. `gspo`: one ratio per sequence; wants a clip range of
    about 3e-4. `cispo`: clipped weights, no clipped gradients. Or a function of your own."""
    loss_agg: Literal["tokens", "samples", "episodes"] = "tokens"
    """What weighs the same in the loss: each token, each sample or each episode."""
    clip_ratio_low: Share = 0.2
    """The probability ratio is clipped below 1 minus this."""
    clip_ratio_high: NotNegative = 0.28
    """The probability ratio is clipped above 1 plus this."""
    entropy_coeff: NotNegative = 0.0
    """Weight of the entropy bonus."""
