"""AgentJet's policy loss as a loss function of verl's workers."""

from __future__ import annotations

from typing import Any

import torch
from tensordict import TensorDict
from verl.utils.metric import AggregationType, Metric
from verl.workers.utils.padding import response_from_nested

from ajet.algorithm.policy_loss import LossSettings, policy_loss


def sample_loss(
    model_output: dict[str, torch.Tensor],
    data: TensorDict,
    dp_group: Any = None,
    *,
    settings: LossSettings,
) -> tuple[torch.Tensor, dict[str, Metric]]:
    """This rank's part of the weighted loss over the trained tokens of a micro-batch.

    Args:
        model_output: logprobs and, if asked for, entropies; nested [B, length].
        data: the fields of `make_batch`, nested [B, response length].
        dp_group: part of verl's signature; not used.
        settings: clip range and coefficients.
    """
    # verl takes the mean over ranks where a sum is meant, so everything is multiplied by their
    # number.
    response_mask = data["response_mask"]
    is_trained = response_mask.values().bool()

    def trained(name: str) -> torch.Tensor:
        values: torch.Tensor = data[name].values()[is_trained]
        return values

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


def _row_numbers(nested: Any) -> torch.Tensor:
    """[number of values] int64: the row of a nested tensor that each of its values is in."""
    lengths: torch.Tensor = nested.offsets().diff()
    return torch.repeat_interleave(torch.arange(len(lengths), device=lengths.device), lengths)
