"""Clipped importance-sampling policy optimization: clipped weights, no clipped gradients."""

from __future__ import annotations

from ajet.algorithm.policy_loss import LossSettings, TokenLoss, TrainedTokens


def cispo(tokens: TrainedTokens, settings: LossSettings) -> TokenLoss:
    """-clip(r, 1 - low, 1 + high) A logprob, with no gradient through the ratio r.

    MiniMax-M1 (arXiv:2506.13585). The clip bounds a token's weight, and every token keeps a
    gradient, unlike with PPO's clip. The paper's average over all tokens of a group is
    `loss_agg: tokens`; it leaves the lower clip so wide that it never acts (clip_ratio_low: 1).

    Deviations from the paper: the average is over the tokens of the whole update rather than of
    each group; a token's log ratio is bounded by 20.
    """
    ratio = tokens.log_ratio().detach().exp()
    weight = ratio.clamp(1 - settings.clip_ratio_low, 1 + settings.clip_ratio_high)
    return TokenLoss(
        loss=-weight * tokens.advantages * tokens.logprobs,
        is_clipped=(weight != ratio) & (tokens.advantages != 0),
    )
