"""The clipped loss of PPO, per token."""

from __future__ import annotations

from ajet.algorithm.token_loss import LossSettings, TokenLoss, TrainedTokens, clipped_surrogate


def clip(tokens: TrainedTokens, settings: LossSettings) -> TokenLoss:
    """Clipped surrogate with each token's own ratio (PPO, arXiv:1707.06347).

    The upper clip may be wider than the lower one (DAPO, arXiv:2503.14476).
    """
    return clipped_surrogate(tokens.log_ratio().exp(), tokens.advantages, settings)
