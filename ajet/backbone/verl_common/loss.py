"""The loss that verl's workers compute: the same as in every backbone."""

from __future__ import annotations

from typing import Any

import torch
from tensordict import TensorDict
from verl.utils.metric import AggregationType, Metric
from verl.workers.utils.padding import response_from_nested

from ajet.algorithm.policy_loss import policy_loss
from ajet.algorithm.token_loss import LossSettings


def sample_loss(
    model_output: dict[str, torch.Tensor],
    data: TensorDict,
    dp_group: Any = None,
    *,
    settings: LossSettings,
) -> tuple[torch.Tensor, dict[str, Metric]]:
    """This rank's part of the weighted sum over the trained tokens of a micro-batch.

    Both the loss and the sums are times the number of ranks, since verl takes the mean over them.

    Args:
        model_output: logprobs and, where asked for, entropies; nested [B, length].
        data: the rows, nested [B, length of the response]; see `rows.py`.
        dp_group: not needed.
        settings: clip and coefficients.
    """
    response_mask = data["response_mask"]
    is_trained = response_mask.values().bool()

    def trained(name: str) -> torch.Tensor:
        return data[name].values()[is_trained]

    logprobs = response_from_nested(model_output["log_probs"], response_mask).values()[is_trained]
    entropy = torch.zeros_like(logprobs)
    if settings.entropy_coef:
        entropy = response_from_nested(model_output["entropy"], response_mask).values()[is_trained]
    result = policy_loss(
        logprobs=logprobs,
        entropy=entropy,
        old_logprobs=trained("rollout_log_probs"),
        advantages=trained("advantages"),
        weights=trained("loss_weights"),
        sample_index=_row_numbers(response_mask)[is_trained],
        settings=settings,
        reference_logprobs=trained("ref_log_prob") if settings.kl_coef else None,
    )
    ranks = data["dp_size"]
    sums = {
        "tokens": float(is_trained.sum()),
        "clipped": float(result.num_clipped),
        "kl": float(result.kl_sum),
    }
    metrics = {name: Metric(AggregationType.SUM, value * ranks) for name, value in sums.items()}
    return result.loss * ranks, metrics


def _row_numbers(nested: torch.Tensor) -> torch.Tensor:
    """[number of values] int64: which row of a nested tensor each of its values is in."""
    lengths = nested.offsets().diff()
    return torch.repeat_interleave(torch.arange(len(lengths), device=lengths.device), lengths)
