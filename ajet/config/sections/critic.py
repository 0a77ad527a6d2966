"""`ajet.trainer_common.critic`: the critic of PPO."""

from __future__ import annotations

from ajet.config.sections.section import BaseConfig
from ajet.config.sections.types import Positive, Share


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
