"""The loss of a micro-batch (torch): policy loss, entropy bonus and KL, as a weighted sum."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ajet.algorithm.registry import loss_variant
from ajet.algorithm.token_loss import MAX_LOG_RATIO, LossSettings, TrainedTokens


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
