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


class CriticConfig(BaseConfig):
    """The critic of `adv_estimator: gae`: a model of the policy's size that guesses rewards."""

    lr: Positive = 1e-5
    """Its learning rate."""
    gamma: Share = 1.0
    """Discount of a reward, for each trained token that it is away."""
    lam: Share = 1.0
    """GAE's lambda: 1 trusts the rewards that came, 0 the critic."""
    value_clip: Positive = 0.5
    """An update moves a token's value by at most this."""


Beta = Annotated[float, Ge(0), Lt(1)]


class OptimConfig(BaseConfig):
    """The optimizer, AdamW."""

    lr: Positive = 1e-6
    """Learning rate after the warm-up."""
    lr_schedule: Literal["constant", "linear", "cosine"] = "constant"
    """Its course from the warm-up to the last step."""
    lr_min_ratio: Share = 0.1
    """The last step's learning rate, as a share of `lr`; `constant` does not use it."""
    warmup_steps: Annotated[int, Ge(0)] = 0
    """Steps in which the learning rate rises from 0."""
    weight_decay: NotNegative = 0.01
    """On matrices; norms and biases have none."""
    betas: Annotated[tuple[Beta, Beta], Field(strict=False)] = (0.9, 0.95)
    """Decay of AdamW's two averages."""
    grad_clip: Positive = 1.0
    """Largest norm of the gradient."""
    num_updates_per_step: Count = 1
    """Optimizer updates on one step's samples, each on its own part of them."""
