"""What a loss variant gets and returns: the contract of `trainer_common.algorithm.policy_loss`.

A loss variant is a function `(TrainedTokens, LossSettings) -> TokenLoss`. It decides only how a
token's probability ratio and advantage become its loss. Weights, entropy bonus and KL are the same
for all variants and are added in `policy_loss`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

MAX_LOG_RATIO = 20.0
"""Bound on a token's log ratio, so that one outlier cannot make the loss infinite."""


@dataclass(slots=True, kw_only=True, frozen=True)
class LossSettings:
    """What the loss of a token is made of. Plain values, because training ranks unpickle them."""

    clip_ratio_low: float
    """The probability ratio is clipped below 1 minus this."""
    clip_ratio_high: float
    """The probability ratio is clipped above 1 plus this."""
    variant: str = "clip"
    """A registered loss variant, or the class path of a user's own."""
    kl_coef: float = 0.0
    """Weight of the KL divergence from the reference model."""
    entropy_coef: float = 0.0
    """Weight of the entropy bonus."""


@dataclass(slots=True, kw_only=True)
class TrainedTokens:
    """The N trained tokens of a micro-batch. A sample is never split between micro-batches."""

    logprobs: torch.Tensor
    """[N] float32, nats, under the weights that are trained; differentiable."""
    old_logprobs: torch.Tensor
    """[N] float32, nats, under the sampling policy."""
    advantages: torch.Tensor
    """[N] float32."""
    sample_index: torch.Tensor
    """[N] int64, from 0: which sample of the micro-batch a token belongs to."""

    def log_ratio(self) -> torch.Tensor:
        """[N] log of new over old probability, bounded; differentiable."""
        return (self.logprobs - self.old_logprobs).clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO)


@dataclass(slots=True, kw_only=True)
class TokenLoss:
    """The policy loss of N tokens, before weights, entropy bonus and KL."""

    loss: torch.Tensor
    """[N] differentiable."""
    is_clipped: torch.Tensor
    """[N] bool: the clip changed this token's gradient. Its share is `policy/clip_fraction`."""


LossVariant = Callable[[TrainedTokens, LossSettings], TokenLoss]


def clipped_surrogate(
    ratio: torch.Tensor, advantages: torch.Tensor, settings: LossSettings
) -> TokenLoss:
    """PPO's -min(r A, clip(r, 1 - low, 1 + high) A) for each token (arXiv:1707.06347)."""
    low, high = 1 - settings.clip_ratio_low, 1 + settings.clip_ratio_high
    loss = -torch.minimum(ratio * advantages, ratio.clamp(low, high) * advantages)
    # Only the side towards which the advantage pushes loses its gradient.
    is_clipped = torch.where(advantages > 0, ratio > high, (advantages < 0) & (ratio < low))
    return TokenLoss(loss=loss, is_clipped=is_clipped)


def clip(tokens: TrainedTokens, settings: LossSettings) -> TokenLoss:
    """Clipped surrogate with each token's own ratio (PPO, arXiv:1707.06347).

    The upper clip may be wider than the lower one (DAPO, arXiv:2503.14476).
    """
    return clipped_surrogate(tokens.log_ratio().exp(), tokens.advantages, settings)
