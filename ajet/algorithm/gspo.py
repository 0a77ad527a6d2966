"""Group Sequence Policy Optimization: the clipped loss with one ratio per sequence."""

from __future__ import annotations

import torch

from ajet.algorithm.policy_loss import LossSettings, TokenLoss, TrainedTokens, clipped_surrogate


def gspo(tokens: TrainedTokens, settings: LossSettings) -> TokenLoss:
    """Clipped surrogate with the geometric mean of a sample's token ratios (arXiv:2507.18071).

    This is the paper's token-level form, GSPO-token: every token of a sequence has the value of the
    sequence's ratio, and its own gradient. With one advantage per sequence, value and gradient are
    those of GSPO; advantages per call work as well. The paper's average over sequences is
    `loss_agg: samples`, and its clip range is far narrower than PPO's: clip_ratio_low 3e-4 and
    clip_ratio_high 4e-4.

    Deviations from the paper: a sequence is one sample, that is the trained tokens of one timeline
    with all of its turns; an episode with forks or several agents has several sequences. A token's
    log ratio is bounded by 20 before the mean is taken.
    """
    log_ratio = tokens.log_ratio()
    mean = _mean_per_sample(log_ratio.detach(), tokens.sample_index)[tokens.sample_index]
    # The value is the sequence's ratio, the gradient that of the token's own logprob.
    ratio = (mean + (log_ratio - log_ratio.detach())).exp()
    return clipped_surrogate(ratio, tokens.advantages, settings)


def _mean_per_sample(values: torch.Tensor, sample_index: torch.Tensor) -> torch.Tensor:
    """[number of samples] mean of values [N]; NaN for a sample without tokens, which none has."""
    size = int(sample_index.max()) + 1 if len(sample_index) else 0
    sums = values.new_zeros(size).index_add_(0, sample_index, values)
    return sums / torch.bincount(sample_index, minlength=size)
