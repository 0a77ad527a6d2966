"""Sections below `ajet.trainer_common`: algorithm, critic and optimizer."""

from __future__ import annotations

from typing import Annotated, Literal

from annotated_types import Ge, Lt
from pydantic import Field

from ajet.config.loading.class_paths import Registered
from ajet.config.sections.section import BaseConfig
from ajet.config.sections.types import Count, NotNegative, Positive, Share

CREDIT = {
    "grpo": "ajet.algorithm.grpo->grpo",
    "dr_grpo": "ajet.algorithm.dr_grpo->dr_grpo",
    "rloo": "ajet.algorithm.rloo->rloo",
    "reinforce_plus_plus": "ajet.algorithm.reinforce_plus_plus->reinforce_plus_plus",
    "gae": "ajet.algorithm.token_rewards->GAE",
}
"""`adv_estimator` -> an advantage estimator, or a `CreditRule` for credit without a group."""

POLICY_LOSSES = {
    "clip": "ajet.algorithm.policy_loss->clip",
    "gspo": "ajet.algorithm.gspo->gspo",
    "cispo": "ajet.algorithm.cispo->cispo",
}
"""`policy_loss` -> a loss variant."""


class AlgorithmConfig(BaseConfig):
    """Advantages and loss."""

    adv_estimator: Annotated[str, Registered(CREDIT)] = "grpo"
    """The advantage estimator, or the class path of your own function. `gae` is PPO with a critic
    and needs the backbone verl."""
    policy_loss: Annotated[str, Registered(POLICY_LOSSES)] = "clip"
    """The loss, or the class path of your own function. `clip`: PPO's clipped loss per token.
    `gspo`: one probability ratio per sequence; needs a clip range of about 3e-4. `cispo`: clips
    the weights and keeps every token's gradient."""
    loss_agg: Literal["tokens", "samples", "episodes"] = "tokens"
    """The unit that has equal weight in the loss: each token, each sample or each episode."""
    clip_ratio_low: Share = 0.2
    """Lower clip bound of the probability ratio: 1 minus this value."""
    clip_ratio_high: NotNegative = 0.28
    """Upper clip bound of the probability ratio: 1 plus this value."""
    entropy_coeff: NotNegative = 0.0
    """Weight of the entropy bonus."""


class CriticConfig(BaseConfig):
    """The critic of `adv_estimator: gae`: a value model of the same size as the policy."""

    lr: Positive = 1e-5
    """Learning rate of the critic."""
    gamma: Share = 1.0
    """Discount factor of the reward per trained token."""
    lam: Share = 1.0
    """GAE's lambda: 1 relies on the rewards only, 0 on the critic."""
    value_clip: Positive = 0.5
    """Largest change of a token's value in one update."""


Beta = Annotated[float, Ge(0), Lt(1)]


class OptimConfig(BaseConfig):
    """The optimizer, AdamW."""

    lr: Positive = 1e-6
    """Learning rate after the warm-up."""
    lr_schedule: Literal["constant", "linear", "cosine"] = "constant"
    """Shape of the learning rate from the end of the warm-up to the last step."""
    lr_min_ratio: Share = 0.1
    """Learning rate of the last step as a fraction of `lr`; not used by `constant`."""
    warmup_steps: Annotated[int, Ge(0)] = 0
    """Number of steps in which the learning rate rises from 0."""
    weight_decay: NotNegative = 0.01
    """Weight decay of matrices; norms and biases have none."""
    betas: Annotated[tuple[Beta, Beta], Field(strict=False)] = (0.9, 0.95)
    """Decay of AdamW's two averages."""
    grad_clip: Positive = 1.0
    """Largest norm of the gradient."""
    num_updates_per_step: Count = 1
    """Optimizer updates on one step's samples, each on its own part of them."""
