"""The clipped policy loss (torch): imported by trainers only."""

from __future__ import annotations

from dataclasses import dataclass

import torch

_MAX_LOG_RATIO = 20.0
"""Where a token's log ratios are cut, so that one outlier cannot make the loss infinite."""


@dataclass(slots=True, kw_only=True, frozen=True)
class LossSettings:
    """What the loss of a token is made of."""

    clip_ratio_low: float
    """The ratio of new to old probability is clipped below 1 - this."""
    clip_ratio_high: float
    """And above 1 + this; larger than the lower one in DAPO (arXiv:2503.14476)."""
    kl_coef: float = 0.0
    """Weight of the KL to the reference."""
    entropy_coef: float = 0.0
    """Weight of the entropy bonus."""


@dataclass(slots=True, kw_only=True)
class PolicyLoss:
    """The loss of N tokens, and sums over them for the metrics."""

    loss: torch.Tensor
    """[] weighted sum, differentiable."""
    num_clipped: torch.Tensor
    """[] tokens to which the clip leaves no policy gradient."""
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
    settings: LossSettings,
    reference_logprobs: torch.Tensor | None = None,
) -> PolicyLoss:
    """Clipped surrogate (PPO, arXiv:1707.06347), minus entropy bonus, plus KL to the reference.

    A token's loss is -min(r A, clip(r, 1 - low, 1 + high) A) with r = exp(logprob - old logprob).
    The KL is the k3 estimate exp(d) - d - 1 with d = reference logprob - logprob (Schulman,
    "Approximating KL Divergence"). All tensors are [N] float32.

    Args:
        logprobs: of the trained tokens, now.
        entropy: of the distributions that predict them.
        old_logprobs: under the sampling policy, as the engine gave them.
        advantages: credit of each token.
        weights: share of each token in the loss.
        settings: clip and coefficients.
        reference_logprobs: under the reference model; None: no KL.
    """
    log_ratio = (logprobs - old_logprobs).clamp(-_MAX_LOG_RATIO, _MAX_LOG_RATIO)
    ratio = log_ratio.exp()
    low, high = 1 - settings.clip_ratio_low, 1 + settings.clip_ratio_high
    token_loss = -torch.minimum(ratio * advantages, ratio.clamp(low, high) * advantages)
    is_clipped = torch.where(advantages > 0, ratio > high, (advantages < 0) & (ratio < low))
    kl = torch.zeros_like(logprobs)
    if reference_logprobs is not None:
        difference = (reference_logprobs - logprobs).clamp(-_MAX_LOG_RATIO, _MAX_LOG_RATIO)
        kl = difference.exp() - difference - 1
        token_loss = token_loss + settings.kl_coef * kl
    if settings.entropy_coef:
        token_loss = token_loss - settings.entropy_coef * entropy
    return PolicyLoss(
        loss=(token_loss * weights).sum(),
        num_clipped=is_clipped.sum(),
        entropy_sum=entropy.detach().sum(),
        kl_sum=kl.detach().sum(),
    )
