"""The loss of a micro-batch (torch): policy loss, entropy bonus and KL, as a weighted sum."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import cast

import torch

from ajet.class_path import load_function
from ajet.config.sections.algorithm import POLICY_LOSSES


@dataclass(slots=True, kw_only=True)
class PolicyLoss:
    """The loss of N tokens, and sums over them for the metrics."""

    loss: torch.Tensor
    """[] weighted sum, differentiable."""
    num_clipped: torch.Tensor
    """[] tokens whose gradient the clip changed."""
    entropy_sum: torch.Tensor
    """[] nats."""
    kl_sum: torch.Tensor
    """[] nats, to the reference; 0 where there is none."""


def token_logprobs(
    logits: torch.Tensor,
    targets: torch.Tensor,
    temperature: torch.Tensor,
    *,
    with_entropy_gradient: bool = False,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Logprobs [N] of the targets and entropies [N], float32, natural log.

    Args:
        logits: [N, V].
        targets: [N] int64.
        temperature: [N] float32, positive; the logits are divided by it.
        with_entropy_gradient: keep the entropy in the graph, which costs memory.
    """
    logprobs = torch.log_softmax(logits.float() / temperature[:, None], dim=-1)
    with torch.set_grad_enabled(with_entropy_gradient and torch.is_grad_enabled()):
        entropy = -(logprobs.exp() * logprobs).sum(-1)
    return logprobs.gather(1, targets[:, None])[:, 0], entropy


def policy_loss(
    *,
    logprobs: torch.Tensor,
    entropy: torch.Tensor,
    old_logprobs: torch.Tensor,
    advantages: torch.Tensor,
    weights: torch.Tensor,
    sample_index: torch.Tensor,
    settings: LossSettings,
    reference_logprobs: torch.Tensor | None = None,
) -> PolicyLoss:
    """The configured policy loss, minus entropy bonus, plus KL to the reference.

    The KL is the k3 estimate exp(d) - d - 1 with d = reference logprob - logprob (Schulman,
    "Approximating KL Divergence"). All tensors but `sample_index` are [N] float32.

    Args:
        logprobs: of the trained tokens, under the weights that are trained.
        entropy: of the distributions that predict the tokens.
        old_logprobs: under the sampling policy, as the engine gave them.
        advantages: credit of each token.
        weights: share of each token in the loss.
        sample_index: [N] int64, the sample of the micro-batch that a token belongs to.
        settings: loss variant, clip and coefficients.
        reference_logprobs: under the reference model; None: no KL.
    """
    tokens = TrainedTokens(
        logprobs=logprobs,
        old_logprobs=old_logprobs,
        advantages=advantages,
        sample_index=sample_index,
    )
    policy = loss_variant(settings.variant)(tokens, settings)
    token_loss = policy.loss
    kl = torch.zeros_like(logprobs)
    if reference_logprobs is not None:
        difference = (reference_logprobs - logprobs).clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO)
        kl = difference.exp() - difference - 1
        token_loss = token_loss + settings.kl_coef * kl
    if settings.entropy_coef:
        token_loss = token_loss - settings.entropy_coef * entropy
    return PolicyLoss(
        loss=(token_loss * weights).sum(),
        num_clipped=policy.is_clipped.sum(),
        entropy_sum=entropy.detach().sum(),
        kl_sum=kl.detach().sum(),
    )


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


@lru_cache
def loss_variant(name: str) -> LossVariant:
    """The configured `policy_loss`.

    Args:
        name: a registered name or a class path.

    Raises:
        ConfigError: a class path names no function, or its import fails.
    """
    path = POLICY_LOSSES.get(name, name)
    return cast("LossVariant", load_function(path, "ajet.trainer_common.algorithm.policy_loss"))
